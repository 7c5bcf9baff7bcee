import { expect, it } from "vitest";

import type { Progress } from "./models";
import { findings, isoDate, needsList, type Voice, type VoiceStatus, withNews } from "./voices";

const voice = (id: string, status: VoiceStatus = "queued") => ({ id, status }) as Voice;
const news = (key: string, state: Progress["state"], scope = "qwen3_tts_voice_clone"): Progress => ({ scope, key, state, step: "decode" });

it("puts news to the voice they are about", () => {
  const [mine, other] = withNews([voice("a"), voice("b", "ready")], news("a", "running"));
  expect([mine?.status, mine?.progress?.step]).toEqual(["enrolling", "decode"]);
  expect(other).toEqual(voice("b", "ready"));
});

it("leaves it to the list to say how an enrolment ended", () => {
  expect(withNews([voice("a", "enrolling")], news("a", "failed"))[0]?.status).toBe("enrolling");
});

it("asks anew when an enrolment ends, an engine changes, or a voice is new", () => {
  const voices = [voice("a")];
  expect(needsList(voices, news("a", "running"))).toBe(false);
  expect(needsList(voices, news("a", "done"))).toBe(true);
  expect(needsList(voices, news("b", "queued"))).toBe(true);
  expect(needsList(voices, news("tts", "running", "engines"))).toBe(true);
});

it("says how good a recording is", () => {
  const quality = { duration_s: 14, speech_s: 11.6, snr_db: 38.2, clipped: 0 };
  expect(findings(quality)).toEqual([["length", "12"], ["quiet", "38"]]);
  expect(findings({ ...quality, snr_db: 15.5, clipped: 0.002 })).toEqual([["length", "12"], ["noise", "16"], ["clipped", "0.2"]]);
});

it("writes the day where the user is", () => {
  expect(isoDate(new Date(2026, 0, 5, 23, 59))).toBe("2026-01-05");
});
