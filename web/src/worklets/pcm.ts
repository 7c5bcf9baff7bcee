// PCM16 to and from float, and 20 ms frames. Pure.

export const FRAME_SAMPLES = 320; // 20 ms at 16 kHz

export function floatFromPcm16(pcm: Int16Array): Float32Array {
  return Float32Array.from(pcm, (sample) => sample / 32768);
}

export function pcm16FromFloat(sample: number): number {
  return Math.round(Math.max(-1, Math.min(32767 / 32768, sample)) * 32768);
}

export function peakOf(pcm: Float32Array): number {
  return pcm.reduce((peak, sample) => Math.max(peak, Math.abs(sample)), 0);
}

/** Cuts a stream of samples into frames of `FRAME_SAMPLES`. */
export class Framer {
  private frame = new Int16Array(FRAME_SAMPLES);
  private filled = 0;

  push(samples: Float32Array): Int16Array<ArrayBuffer>[] {
    const frames: Int16Array<ArrayBuffer>[] = [];
    for (const sample of samples) {
      this.frame[this.filled++] = pcm16FromFloat(sample);
      if (this.filled < FRAME_SAMPLES) continue;
      frames.push(this.frame);
      this.frame = new Int16Array(FRAME_SAMPLES);
      this.filled = 0;
    }
    return frames;
  }
}
