// What the loudspeaker gets: a queue of one reply's audio, a short wait before it starts, and an honest count of
// what was really played. Pure: knows no worklet, no port and no server.

import { floatFromPcm16, peakOf } from "./pcm";
import { Resampler } from "./resampler";

/** Audio gathered before a reply starts, and again after it ran dry: rides out one late frame. */
export const JITTER_MS = 60;

/** Loudness of a reply while somebody speaks over it. */
export const LOWERED = 0.25;
/** Loudness changes within this time: no click, and too short to hear as a fade. */
const RAMP_MS = 8;

export interface PlayerReport {
  /** The reply, or null when there is none. */
  id: string | null;
  playedMs: number;
  bufferedMs: number;
  /** Times the queue ran dry in the middle: gaps that were heard. */
  underruns: number;
  /** Loudest sample since the last report, 0…1. */
  peak: number;
  /** All of it was played, or it was cleared. */
  ended: boolean;
}

export class Player {
  private id: string | null = null;
  private resampler: Resampler | null = null;
  private queue: Float32Array[] = [];
  private offset = 0; // into queue[0]
  private buffered = 0;
  private played = 0;
  private underruns = 0;
  private peak = 0;
  private complete = false; // no more will be pushed
  private waiting = true; // gathering JITTER_MS
  private dry = false; // it had begun, and nothing is left
  private gain = 1;
  private wanted = 1; // where the gain is going; 0: hold

  constructor(private readonly rateHz: number) {}

  /** A new reply; whatever was left of another is dropped. */
  begin(id: string, rateHz: number): void {
    this.clear();
    this.id = id;
    this.resampler = new Resampler(rateHz, this.rateHz);
    this.played = this.underruns = 0;
    this.gain = this.wanted = 1;
    this.complete = false;
  }

  /** Somebody speaks over it. */
  lower(): void {
    this.wanted = LOWERED;
  }

  /** Silence, now, but nothing is lost: `resume` goes on where it was. */
  hold(): void {
    this.wanted = 0;
  }

  resume(): void {
    this.wanted = 1;
  }

  push(pcm: Int16Array): void {
    if (!this.resampler || this.complete) return;
    if (this.dry) this.underruns += 1; // only now: a reply that was played to its end before `end` came had no gap
    this.dry = false;
    this.enqueue(this.resampler.process(floatFromPcm16(pcm)));
  }

  /** Everything has been pushed; what is queued still plays. */
  end(): void {
    if (!this.resampler || this.complete) return;
    this.enqueue(this.resampler.flush());
    this.complete = true;
  }

  /** Silence, now. */
  clear(): void {
    this.queue = [];
    this.offset = this.buffered = 0;
    this.resampler = null;
    this.complete = this.waiting = true;
    this.dry = false;
  }

  /** Writes the next samples to play; what is missing stays as it is (a worklet's output begins as zeros). */
  fill(output: Float32Array): void {
    if (this.waiting && !this.complete && this.milliseconds(this.buffered) < JITTER_MS) return;
    if (this.wanted === 0 && this.gain === 0) return;
    this.waiting = false;
    let at = 0;
    while (at < output.length && this.queue[0]) {
      const piece = this.queue[0].subarray(this.offset, this.offset + output.length - at);
      output.set(piece, at);
      at += piece.length;
      this.offset += piece.length;
      if (this.offset < this.queue[0].length) continue;
      this.queue.shift();
      this.offset = 0;
    }
    this.level(output.subarray(0, at));
    this.played += at;
    this.buffered -= at;
    this.peak = Math.max(this.peak, peakOf(output.subarray(0, at)));
    if (at < output.length && !this.complete) this.dry = this.waiting = true;
  }

  report(): PlayerReport {
    const { id, underruns, peak } = this;
    this.peak = 0;
    const ended = this.complete && this.buffered === 0;
    return {
      id,
      playedMs: this.milliseconds(this.played),
      bufferedMs: this.milliseconds(this.buffered),
      underruns,
      peak,
      ended,
    };
  }

  private level(output: Float32Array): void {
    if (this.gain === 1 && this.wanted === 1) return;
    const step = 1000 / (RAMP_MS * this.rateHz);
    for (let i = 0; i < output.length; i++) {
      const change = Math.max(-step, Math.min(step, this.wanted - this.gain));
      this.gain += change;
      output[i] = output[i]! * this.gain;
    }
  }

  private enqueue(samples: Float32Array): void {
    if (samples.length === 0) return;
    this.queue.push(samples);
    this.buffered += samples.length;
  }

  private milliseconds(samples: number): number {
    return (samples * 1000) / this.rateHz;
  }
}
