// Sample-rate conversion of a stream, in exact rational steps. Pure: knows no worklet and no message.

const HALF_TAPS = 16; // each side, at the lower of the two rates: 80 dB of stop band with the window below
const KAISER_BETA = 8; // Kaiser & Schafer 1980: about 80 dB

/** Converts mono float PCM from one rate to another. Any chunking of the same input gives the same output. */
export class Resampler {
  private readonly step: number; // input position advances by step/phases per output sample
  private readonly phases: number;
  private readonly half: number; // kernel reach, in input samples
  private readonly kernels: Float32Array[];
  private history: Float32Array;
  private position = 0; // of the next output sample, in units of 1/phases input samples, from history[half - 1]

  constructor(
    private readonly fromHz: number,
    private readonly toHz: number,
  ) {
    const divisor = gcd(fromHz, toHz);
    this.step = fromHz / divisor;
    this.phases = toHz / divisor;
    const cutoff = Math.min(1, toHz / fromHz) * 0.94; // of the input's Nyquist; the rest is the transition band
    this.half = Math.ceil(HALF_TAPS / Math.min(1, toHz / fromHz));
    this.kernels = Array.from({ length: this.phases }, (_, phase) => kernel(this.half, phase / this.phases, cutoff));
    this.history = new Float32Array(this.half - 1);
  }

  /** What can be said so far; the last `half` input samples wait for their successors. */
  process(input: Float32Array): Float32Array {
    if (this.fromHz === this.toHz) return input;
    const samples = new Float32Array(this.history.length + input.length);
    samples.set(this.history);
    samples.set(input, this.history.length);
    const usable = samples.length - 2 * this.half + 1; // starts whose whole window is here
    const count = Math.max(0, Math.ceil((usable * this.phases - this.position) / this.step));
    const output = new Float32Array(count);
    for (let i = 0; i < count; i++) {
      const start = Math.floor(this.position / this.phases);
      output[i] = dot(samples, start, this.kernels[this.position % this.phases]!);
      this.position += this.step;
    }
    const consumed = Math.min(Math.floor(this.position / this.phases), samples.length);
    this.history = samples.slice(consumed);
    this.position -= consumed * this.phases;
    return output;
  }

  /** The rest of the stream: what `process` still held back. */
  flush(): Float32Array {
    return this.fromHz === this.toHz ? new Float32Array(0) : this.process(new Float32Array(this.half));
  }
}

function dot(samples: Float32Array, start: number, taps: Float32Array): number {
  let sum = 0;
  for (let k = 0; k < taps.length; k++) sum += samples[start + k]! * taps[k]!;
  return sum;
}

/** Kaiser-windowed sinc for an output sample `fraction` of an input sample after tap `half - 1`, with unit gain at 0 Hz. */
function kernel(half: number, fraction: number, cutoff: number): Float32Array {
  const taps = Float64Array.from({ length: 2 * half }, (_, k) => {
    const x = k - (half - 1) - fraction;
    const edge = x / half;
    const window = Math.abs(edge) >= 1 ? 0 : bessel0(KAISER_BETA * Math.sqrt(1 - edge * edge));
    return window * sinc(cutoff * x);
  });
  const gain = taps.reduce((sum, tap) => sum + tap, 0);
  return Float32Array.from(taps, (tap) => tap / gain);
}

const sinc = (x: number) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));

function bessel0(x: number): number {
  let term = 1;
  let sum = 1;
  for (let k = 1; term > sum * 1e-9; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b);
}
