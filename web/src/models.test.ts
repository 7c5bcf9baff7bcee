import { expect, it } from "vitest";

import { duration, isTurningPoint, type Model, type Progress, size, underWay, type Validation, verdict, withProgress } from "./models";
import { LANGUAGES } from "./strings";

const model = (key: string, alias: string | null = null) => ({ key, alias, download: null }) as Model;
const news = (key: string, state: Progress["state"], scope = "models"): Progress => ({ scope, key, state });

it("puts news to the model of that key, or of that alias", () => {
  const models = [model("tiny"), model("qwen3-tts-0.6b-base", "base_0_6b")];
  expect(withProgress(models, news("base_0_6b", "running")).map((one) => one.download?.state)).toEqual([undefined, "running"]);
  expect(withProgress(models, news("tiny", "paused")).map((one) => one.download?.state)).toEqual(["paused", undefined]);
  expect(withProgress(models, news("qwen3-tts-0.6b-base", "running"))).toEqual(models);
});

it("asks anew when a download ends or an engine changes", () => {
  expect(isTurningPoint(news("tiny", "running"))).toBe(false);
  expect(isTurningPoint(news("tiny", "paused"))).toBe(false);
  expect(isTurningPoint(news("tiny", "failed"))).toBe(true);
  expect(isTurningPoint(news("tts", "running", "engines"))).toBe(true);
});

it("knows a download that can be paused", () => {
  expect([null, news("a", "queued"), news("a", "running"), news("a", "paused"), news("a", "done")].map(underWay)).toEqual([
    false, true, true, false, false,
  ]);
});

it("writes sizes and times for people", () => {
  expect([1, 250_000, 98_362_432, 2_520_000_000].map(size)).toEqual(["1 kB", "250 kB", "98 MB", "2.5 GB"]);
  expect([0.2, 59, 61, 3_720].map(duration)).toEqual(["1 s", "59 s", "1 min", "1 h 2 min"]);
});

it("says what a validation found", () => {
  const words = LANGUAGES.en.models;
  const found = (more: Partial<Validation>): Validation => ({ valid: true, missing: [], problems: [], files: [], ...more });
  expect(verdict(found({ files: [{ name: "a", state: "ok" }] }), words)).toEqual(["All files are right."]);
  expect(verdict(found({ files: [{ name: "a", state: "ok" }, { name: "b", state: "unknown" }] }), words)).toEqual([words.plausible]);
  expect(verdict(found({ valid: false, missing: ["a", "b"], problems: ["c: wrong hash"] }), words)).toEqual([
    "Missing: a, b",
    "c: wrong hash",
  ]);
});
