// What the server knows of voices people brought, and asking it for changes. Words and looks are the panel's.

import { ask, isTurningPoint, type Progress } from "./models";

export type VoiceStatus = "queued" | "enrolling" | "ready" | "failed" | "cancelled";
export type Flaw = "too_short" | "too_little_speech" | "too_quiet" | "overdriven" | "noisy" | "many_voices";

/** What enrolment measured of a recording. */
export interface Quality {
  duration_s: number;
  speech_s: number;
  snr_db: number;
  clipped: number;
  flaws?: Flaw[];
}

export interface Voice {
  id: string;
  name: string;
  status: VoiceStatus;
  language: string | null;
  reference_text: string | null;
  owner: string;
  is_default: boolean;
  quality: Quality | null;
  problem_code: string | null;
  problem: string | null;
  consent_statement: string;
  consent_date: string;
  /** How far its enrolment is, once there was news of it. */
  progress?: Progress;
}

/** A voice by the name that a session takes. */
export interface Speaker {
  id: string;
  name: string;
  kind: "builtin" | "enrolled";
  available: boolean;
}

export interface Voices {
  voices: Voice[];
  speakers: Speaker[];
  /** Whether sessions may ask for a better speech engine. */
  hasHighQuality: boolean;
}

export interface NewVoice {
  recording: Blob;
  name: string;
  language: string;
  referenceText: string;
  consent: string;
  owner: string;
}

export const VOICE_EVENTS = "/ws/events?scope=qwen3_tts_voice_clone&scope=engines";
export const MIN_S = 3;
export const MAX_S = 60;
export const MAX_BYTES = 20_000_000;

const PATH = "/api/voice-profiles";
const VERY_QUIET_DB = 25;

export const pathOf = (voice: Voice): string => `${PATH}/${encodeURIComponent(voice.id)}`;

export const underWay = (voice: Voice): boolean => voice.status === "queued" || voice.status === "enrolling";

export async function allVoices(): Promise<Voices> {
  const [listed, speakers, engines] = await Promise.all([
    ask<{ voices: Voice[] }>("GET", `${PATH}?status=all`),
    ask<{ data: Speaker[] }>("GET", "/v1/voices").catch(() => ({ data: [] })), // while the speech engine is loading
    ask<{ high_engine: string | null }>("GET", "/api/engines"),
  ]);
  return { voices: listed.voices, speakers: speakers.data, hasHighQuality: engines.high_engine !== null };
}

/** Sends a recording; its enrolment goes on by itself. `today` is the date of consent. */
export async function bring(voice: NewVoice, today: Date): Promise<Voice> {
  const form = new FormData();
  form.append("audio", voice.recording, "recording");
  form.append("name", voice.name);
  form.append("consent_statement", voice.consent);
  form.append("consent_date", isoDate(today));
  for (const [name, value] of Object.entries({ language: voice.language, reference_text: voice.referenceText, owner: voice.owner }))
    if (value) form.append(name, value);
  return ask<Voice>("POST", "/api/voice-profile", form);
}

/** The list with one enrolment's news in it. */
export function withNews(voices: Voice[], news: Progress): Voice[] {
  return voices.map((voice) => (voice.id === news.key ? { ...voice, status: statusFrom(news, voice.status), progress: news } : voice));
}

/** Whether the list must be asked for anew: something ended, an engine changed, or the voice is not in the list. */
export function needsList(voices: Voice[], news: Progress): boolean {
  return isTurningPoint(news) || !voices.some(({ id }) => id === news.key);
}

function statusFrom(news: Progress, before: VoiceStatus): VoiceStatus {
  if (news.state === "queued") return "queued";
  return news.state === "running" ? "enrolling" : before; // how it ended is the list's to say
}

/** The sentences that say how good a recording is, as names for words with their numbers. */
export function findings(quality: Quality): [name: "length" | "quiet" | "noise" | "clipped", number: string][] {
  const found: ReturnType<typeof findings> = [["length", quality.speech_s.toFixed(0)]];
  found.push([quality.snr_db >= VERY_QUIET_DB ? "quiet" : "noise", quality.snr_db.toFixed(0)]);
  if (quality.clipped > 0) found.push(["clipped", (100 * quality.clipped).toFixed(1)]);
  return found;
}

/** YYYY-MM-DD where the user is. */
export function isoDate(date: Date): string {
  return [date.getFullYear(), date.getMonth() + 1, date.getDate()].map((part) => String(part).padStart(2, "0")).join("-");
}
