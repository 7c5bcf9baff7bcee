import { describe, expect, it } from "vitest";

import { Resampler } from "./resampler";

const tone = (hz: number, rate: number, samples: number) =>
  Float32Array.from({ length: samples }, (_, n) => Math.sin((2 * Math.PI * hz * n) / rate));

function convert(input: Float32Array, from: number, to: number, chunk = input.length): Float32Array {
  const resampler = new Resampler(from, to);
  const out: number[] = [];
  for (let at = 0; at < input.length; at += chunk) out.push(...resampler.process(input.subarray(at, at + chunk)));
  out.push(...resampler.flush());
  return Float32Array.from(out);
}

const rms = (pcm: Float32Array) => Math.sqrt(pcm.reduce((sum, x) => sum + x * x, 0) / pcm.length);

describe("Resampler", () => {
  it.each([
    [48000, 16000],
    [44100, 16000],
    [22050, 48000],
    [24000, 44100],
    [16000, 44100],
    [48000, 48000],
  ])("gives %i -> %i the same length of time, and the same sine", (from, to) => {
    const got = convert(tone(1000, from, from / 2), from, to);
    const want = tone(1000, to, to / 2);
    expect(Math.abs(got.length - want.length)).toBeLessThanOrEqual(2);
    const middle = got.subarray(500, want.length - 500).map((x, n) => x - want[n + 500]!);
    expect(rms(middle)).toBeLessThan(0.001);
  });

  it.each([1, 7, 128, 4000])("gives the same samples when the input comes %i at a time", (chunk) => {
    const input = tone(700, 44100, 6000).map((x, n) => x * Math.cos(n / 97));
    expect(convert(input, 44100, 16000, chunk)).toEqual(convert(input, 44100, 16000));
    expect(convert(input, 22050, 48000, chunk)).toEqual(convert(input, 22050, 48000));
  });

  it("lets nothing above the new Nyquist frequency fold back", () => {
    const got = convert(tone(11000, 48000, 24000), 48000, 16000);
    expect(rms(got.subarray(100, -100))).toBeLessThan(0.001);
  });

  it("makes no mirror image of speech when it raises the rate", () => {
    const got = convert(tone(4000, 22050, 22050), 22050, 48000);
    const want = tone(4000, 48000, 48000);
    expect(rms(got.subarray(500, 47000).map((x, n) => x - want[n + 500]!))).toBeLessThan(0.001);
  });
});
