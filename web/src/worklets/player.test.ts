import { describe, expect, it } from "vitest";

import { JITTER_MS, LOWERED, Player } from "./player";

const RATE = 48000;
const QUANTUM = 128;
const pcm = (ms: number, rate = RATE) => new Int16Array((rate * ms) / 1000).fill(8192);

/** Plays `ms` of output and gives it back. */
function play(player: Player, ms: number): Float32Array {
  const out = new Float32Array(Math.ceil((RATE * ms) / 1000 / QUANTUM) * QUANTUM);
  for (let at = 0; at < out.length; at += QUANTUM) player.fill(out.subarray(at, at + QUANTUM));
  return out;
}

describe("Player", () => {
  it("waits for the jitter's worth of audio before the first sample", () => {
    const player = new Player(RATE);
    player.begin("t1", RATE);
    player.push(pcm(JITTER_MS / 2));
    play(player, 50);
    expect(player.report().playedMs).toBe(0);
    player.push(pcm(JITTER_MS / 2));
    play(player, 20);
    expect(player.report()).toMatchObject({ id: "t1", underruns: 0, peak: 0.25, ended: false });
  });

  it("plays a reply shorter than the jitter wait as soon as it is complete", () => {
    const player = new Player(RATE);
    player.begin("t1", RATE);
    player.push(pcm(10));
    player.end();
    const out = play(player, 30);
    expect(out.filter((x) => x !== 0)).toHaveLength(480);
    expect(player.report()).toMatchObject({ playedMs: 10, ended: true, underruns: 0 });
  });

  it.each([16000, 22050, 24000])("plays each millisecond of a %i Hz reply once", (rate) => {
    const player = new Player(RATE);
    player.begin("t1", rate);
    for (let i = 0; i < 10; i++) player.push(pcm(100, rate));
    player.end();
    play(player, 1200);
    const report = player.report();
    expect(report.playedMs).toBeGreaterThan(999.5);
    expect(report.playedMs).toBeLessThan(1000.5);
    expect(report.ended).toBe(true);
  });

  it("lowers a reply, holds it where it is, and goes on without losing a sample", () => {
    const player = new Player(RATE);
    player.begin("t1", RATE);
    player.push(pcm(1000));
    player.end();
    play(player, 100);
    player.lower();
    expect(play(player, 50).at(-1)).toBeCloseTo(0.25 * LOWERED, 5);
    player.hold();
    const held = play(player, 200);
    expect(held.subarray((RATE * 16) / 1000).every((x) => x === 0)).toBe(true);
    expect(player.report().playedMs).toBeLessThan(170);
    player.resume();
    expect(play(player, 20).at(-1)).toBeCloseTo(0.25, 5);
    play(player, 1200);
    const report = player.report();
    expect(report).toMatchObject({ ended: true, underruns: 0 });
    expect(report.playedMs).toBeCloseTo(1000, 0);
  });

  it("begins the next reply as loud as ever", () => {
    const player = new Player(RATE);
    player.begin("t1", RATE);
    player.hold();
    player.begin("t2", RATE);
    player.push(pcm(100));
    player.end();
    expect(Math.max(...play(player, 120))).toBeCloseTo(0.25, 5);
  });

  it("counts each time it runs dry, and counts no silence as played", () => {
    const player = new Player(RATE);
    player.begin("t1", RATE);
    player.push(pcm(100));
    play(player, 300);
    expect(player.report()).toMatchObject({ playedMs: 100, underruns: 0, ended: false });
    player.push(pcm(100));
    player.end();
    play(player, 300);
    expect(player.report()).toMatchObject({ playedMs: 200, underruns: 1, ended: true });
  });

  it("has no gap to count when the end is announced after the last sample", () => {
    const player = new Player(RATE);
    player.begin("t1", RATE);
    player.push(pcm(100));
    play(player, 300);
    player.end();
    play(player, 50);
    expect(player.report()).toMatchObject({ playedMs: 100, underruns: 0, ended: true });
  });

  it("is silent from the very next sample after clear, whatever still arrives", () => {
    const player = new Player(RATE);
    player.begin("t1", RATE);
    player.push(pcm(500));
    play(player, 100);
    const before = player.report().playedMs;
    player.clear();
    player.push(pcm(500));
    player.end();
    expect(play(player, 200).every((x) => x === 0)).toBe(true);
    expect(player.report()).toMatchObject({ playedMs: before, bufferedMs: 0, ended: true });
  });

  it("drops the old reply when a new one begins", () => {
    const player = new Player(RATE);
    player.begin("t1", RATE);
    player.push(pcm(500));
    play(player, 100);
    player.begin("t2", RATE);
    expect(player.report()).toMatchObject({ id: "t2", playedMs: 0, bufferedMs: 0, ended: false });
  });
});
