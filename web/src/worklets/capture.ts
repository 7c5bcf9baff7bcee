// The microphone's end of the audio thread: mono, 16 kHz, PCM16, 20 ms frames, each with its loudness.

import { Framer, floatFromPcm16 } from "./pcm";
import { Resampler } from "./resampler";

export interface CapturedFrame {
  pcm: ArrayBuffer;
  /** Root mean square of the frame, 0…1. */
  rms: number;
}

class Capture extends AudioWorkletProcessor {
  private readonly resampler = new Resampler(sampleRate, 16000);
  private readonly framer = new Framer();

  process(inputs: Float32Array[][]): boolean {
    const channels = inputs[0] ?? [];
    if (channels[0]) for (const frame of this.framer.push(this.resampler.process(mix(channels)))) this.post(frame);
    return true;
  }

  private post(frame: Int16Array<ArrayBuffer>): void {
    const power = floatFromPcm16(frame).reduce((sum, x) => sum + x * x, 0) / frame.length;
    this.port.postMessage({ pcm: frame.buffer, rms: Math.sqrt(power) } satisfies CapturedFrame, [frame.buffer]);
  }
}

function mix(channels: Float32Array[]): Float32Array {
  if (channels.length === 1) return channels[0]!;
  return channels[0]!.map((_, n) => channels.reduce((sum, channel) => sum + channel[n]!, 0) / channels.length);
}

registerProcessor("avatar-capture", Capture);
