// What the server keeps of past conversations: the list, what was said, deleting. Words and looks are the panel's.

import type { Turn } from "./conversation";
import { ask } from "./models";

/** A conversation in the list; `excerpt`: where the words that were looked for stand. */
export interface Listed {
  id: string;
  title: string;
  at: string;
  excerpt: string;
}

/** A part of the list; `cursor` asks for the next. */
export interface Page {
  items: Listed[];
  cursor: string | null;
}

export interface SavedTurn {
  id: string;
  status: "completed" | "interrupted" | "failed";
  superseded: boolean;
  user_text: string;
  generated_text: string;
  heard_text: string;
  error_code: string | null;
  has_reply_audio: boolean;
  calls: { id: string; name: string; arguments: string; result: string }[];
}

interface Hit {
  conversation_id: string;
  at: string;
  title: string;
  excerpt: string;
}

const PATH = "/api/conversations";
const THREAD = "avatar.conversation";

export const pathOf = (id: string): string => `${PATH}/${encodeURIComponent(id)}`;

/** The last used first; with `words`, those in which they occur. */
export async function list(words: string, cursor: string | null): Promise<Page> {
  if (words.trim()) {
    const { items } = await ask<{ items: Hit[] }>("GET", `${PATH}/search?q=${encodeURIComponent(words.trim())}`);
    return { items: once(items), cursor: null };
  }
  const after = cursor === null ? "" : `&cursor=${encodeURIComponent(cursor)}`;
  const page = await ask<{ items: { id: string; title: string; updated_at: string }[]; next_cursor: string | null }>("GET", `${PATH}?limit=20${after}`);
  return { items: page.items.map(({ id, title, updated_at: at }) => ({ id, title, at, excerpt: "" })), cursor: page.next_cursor };
}

/** Each conversation by the newest of its finds. */
export function once(hits: Hit[]): Listed[] {
  const found = new Map<string, Listed>();
  for (const { conversation_id: id, title, at, excerpt } of hits) if (!found.has(id)) found.set(id, { id, title, at, excerpt });
  return [...found.values()];
}

/** What was said in it, as the page shows turns. Rejects with the server's own words. */
export async function turnsOf(id: string): Promise<Turn[]> {
  const { turns } = await ask<{ turns: SavedTurn[] }>("GET", pathOf(id));
  return turns.filter(({ superseded }) => !superseded).map((turn) => asTurn(id, turn));
}

export function asTurn(conversation: string, saved: SavedTurn): Turn {
  return {
    id: saved.id,
    said: saved.user_text,
    saidFinal: true,
    reply: saved.generated_text,
    calls: saved.calls.map((call) => ({ ...call, server: null, state: "done" })),
    state: saved.status,
    heard: saved.heard_text,
    metrics: null,
    problem: saved.error_code === null ? null : { code: saved.error_code },
    recording: saved.has_reply_audio ? `${pathOf(conversation)}/turns/${saved.id}/audio/reply` : null,
  };
}

/** The conversation this tab is about, over a reload; a browser that keeps nothing throws. */
export function rememberedThread(): string | null {
  try {
    return sessionStorage.getItem(THREAD);
  } catch {
    return null;
  }
}

export function rememberThread(id: string | null): void {
  try {
    if (id === null) sessionStorage.removeItem(THREAD);
    else sessionStorage.setItem(THREAD, id);
  } catch {
    return;
  }
}
