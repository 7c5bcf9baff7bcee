// What the server knows of models and engines, and asking it for changes. Words and looks are the panel's.

import type { Strings } from "./strings";

export interface Download {
  state: "queued" | "running" | "paused" | "done" | "failed" | "cancelled";
  step?: string;
  fraction?: number | null;
  bytes_per_s?: number | null;
  eta_s?: number | null;
  message?: string;
}

/** A message of `/ws/events`. */
export interface Progress extends Download {
  scope: string;
  key: string;
}

export interface Model {
  key: string;
  alias: string | null;
  title: string;
  role: string;
  licence: string;
  /** What is to be accepted before a download. */
  terms: string | null;
  path: string;
  state: "absent" | "incomplete" | "unfit" | "present";
  problems: string[];
  size_bytes: number;
  vram_bytes: number;
  used_by: string[];
  download: Download | null;
}

/** What a thorough look at a model's files found. */
export interface Validation {
  valid: boolean;
  missing: string[];
  problems: string[];
  /** `unknown`: nothing says what the file should be, and it looks like what its name says. */
  files: { name: string; state: string }[];
}

export interface Option {
  engine: string;
  why_not: string | null;
  models: string[];
}

export interface Seat {
  stage: string;
  state: "unloaded" | "loading" | "ready" | "failed";
  engine: string | null;
  name: string | null;
  weights: string | null;
  vram_bytes: number | null;
  problem: string | null;
  options: Option[];
}

export interface Inventory {
  models: Model[];
  seats: Seat[];
  gpu: { used_bytes: number; total_bytes: number } | null;
}

const EVENTS = "/ws/events?scope=models&scope=qwen3_tts_models&scope=engines";

/** Rejects with the server's own words. */
export async function ask<T>(method: string, path: string, body?: unknown): Promise<T> {
  const response = await request(method, path, body);
  return (response.status === 204 ? undefined : await response.json()) as T;
}

/** The same for answers that are not JSON. A form goes as it is, any other body as JSON. */
export async function request(method: string, path: string, body?: unknown): Promise<Response> {
  const isJson = body !== undefined && !(body instanceof FormData);
  const response = await fetch(path, {
    method,
    headers: isJson ? { "Content-Type": "application/json" } : {},
    body: isJson ? JSON.stringify(body) : (body ?? null),
  });
  if (response.ok) return response;
  const problem = (await response.json().catch(() => ({}))) as { detail?: string };
  throw new Error(problem.detail ?? response.statusText);
}

async function inventory(): Promise<Inventory> {
  const [models, engines] = await Promise.all([
    ask<{ items: Model[] }>("GET", "/api/models"),
    ask<{ stages: Seat[]; gpu: Inventory["gpu"] }>("GET", "/api/engines"),
  ]);
  return { models: models.items, seats: engines.stages, gpu: engines.gpu };
}

/** Where the page's lists of models and engines come from. */
export const INVENTORY = {
  events: EVENTS,
  load: inventory,
  merge: (known: Inventory, news: Progress) => ({ ...known, models: withProgress(known.models, news) }),
  isTurningPoint: (_: unknown, news: Progress) => isTurningPoint(news),
};

/** The list with one download's news in it. */
export function withProgress(models: Model[], news: Progress): Model[] {
  return models.map((model) => ((model.alias ?? model.key) === news.key ? { ...model, download: news } : model));
}

/** Whether something else than a number has changed, so that the lists must be asked for anew. */
export function isTurningPoint(news: Progress): boolean {
  return news.scope === "engines" || ["done", "failed", "cancelled"].includes(news.state);
}

/** A validation in words, a line for each thing to say. */
export function verdict(found: Validation, words: Strings["models"]): string[] {
  if (found.valid) return [found.files.some(({ state }) => state === "unknown") ? words.plausible : words.right];
  return [...(found.missing.length > 0 ? [words.missing(found.missing.join(", "))] : []), ...found.problems];
}

export const underWay = (download: Download | null): boolean =>
  download !== null && ["queued", "running"].includes(download.state);

export function size(bytes: number): string {
  if (bytes >= 1e9) return `${(bytes / 1e9).toFixed(1)} GB`;
  return bytes >= 1e6 ? `${Math.round(bytes / 1e6)} MB` : `${Math.ceil(bytes / 1e3)} kB`;
}

export function duration(seconds: number): string {
  const minutes = Math.floor(seconds / 60);
  return minutes >= 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : minutes > 0 ? `${minutes} min` : `${Math.ceil(seconds)} s`;
}
