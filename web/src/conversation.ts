// The conversation as the page shows it: a pure function of what the server said and what the user did.
// Knows no socket, no audio and no words of the interface.

import type { Link } from "./socket";
import type { ReplyMetrics, ServerMessage, SessionReady } from "./wire";

/** Something to tell the user. `code` is the wire's or one of the page's own, which have no `detail`: the server's message. */
export interface Problem {
  code: string;
  detail?: string;
}

/** A tool that was called for a reply. */
export interface Call {
  id: string;
  /** Of the MCP server that has it; null: the page's own. */
  server: string | null;
  name: string;
  arguments: string;
  state: "asking" | "running" | "done" | "failed";
  result: string;
}

export interface Turn {
  /** Empty until the server has named a typed turn. */
  id: string;
  said: string;
  saidFinal: boolean;
  reply: string;
  calls: Call[];
  state: "open" | "completed" | "interrupted" | "failed";
  /** What was really heard of the reply, once that is known. */
  heard: string | null;
  metrics: ReplyMetrics | null;
  problem: Problem | null;
  /** Where the server keeps how the reply sounded, for turns that were not played by this page. */
  recording: string | null;
}

export interface Conversation {
  link: Link;
  retryInMs: number;
  session: SessionReady | null;
  turns: Turn[];
  hearing: boolean;
  /** The user is done and the reply has not begun to sound. */
  awaiting: boolean;
  /** The turn whose reply sounds now. */
  speaking: string | null;
  notice: Problem | null;
}

export type ConversationEvent =
  | { type: "server"; message: ServerMessage }
  | { type: "link"; link: Link; retryInMs?: number | undefined }
  | { type: "typed"; text: string }
  | { type: "held" } // push-to-talk: the button went down
  | { type: "released"; sent: boolean } // …and up; `sent`: there is an utterance
  | { type: "approved"; callId: string } // …or refused: the user has answered
  | { type: "silent"; turnId: string } // the reply has been played to its end, or was cleared
  | { type: "problem"; problem: Problem }
  | { type: "dismissed" }
  | { type: "recalled"; turns: Turn[] } // what was said before this page was opened
  | { type: "forgotten" }; // a new conversation begins

export type Status = "off" | "connecting" | "waiting" | "ready" | "hearing" | "thinking" | "speaking";

export const EMPTY: Conversation = {
  link: "closed",
  retryInMs: 0,
  session: null,
  turns: [],
  hearing: false,
  awaiting: false,
  speaking: null,
  notice: null,
};

const QUIET = { hearing: false, awaiting: false, speaking: null };
const NEW_TURN: Turn = {
  id: "",
  said: "",
  saidFinal: false,
  reply: "",
  calls: [],
  state: "open",
  heard: null,
  metrics: null,
  problem: null,
  recording: null,
};

export function statusOf(state: Conversation): Status {
  if (state.link === "closed") return "off";
  if (state.link !== "open") return state.link;
  if (state.hearing) return "hearing";
  if (state.speaking !== null) return "speaking";
  return state.awaiting || isCalling(state) ? "thinking" : "ready";
}

/** Whether a tool is being called, or waits for the user's leave. */
export function isCalling(state: Conversation): boolean {
  const going = (call: Call) => call.state === "asking" || call.state === "running";
  return state.turns.some((turn) => turn.state === "open" && turn.calls.some(going));
}

export function reduce(state: Conversation, event: ConversationEvent): Conversation {
  switch (event.type) {
    case "server":
      return receive(state, event.message);
    case "link":
      return relink(state, event.link, event.retryInMs ?? 0);
    case "typed":
      return {
        ...state,
        turns: [...state.turns, { ...NEW_TURN, said: event.text, saidFinal: true }],
        awaiting: true,
        notice: null,
      };
    case "held":
      return { ...state, hearing: true, notice: null };
    case "released":
      return { ...state, hearing: false, awaiting: event.sent };
    case "approved":
      return changeCall(state, event.callId, { state: "running" });
    case "silent":
      return state.speaking === event.turnId ? { ...state, speaking: null } : state;
    case "problem":
      return { ...state, notice: event.problem };
    case "dismissed":
      return { ...state, notice: null };
    case "recalled": {
      const known = new Set(event.turns.map(({ id }) => id));
      return { ...state, turns: [...event.turns, ...state.turns.filter(({ id }) => !known.has(id))] };
    }
    case "forgotten":
      return { ...EMPTY, link: state.link, session: state.session };
  }
}

/** A reply that the connection took with it is as good as interrupted; a typed turn without a name is sent again. */
function relink(state: Conversation, link: Link, retryInMs: number): Conversation {
  if (link === "open") return { ...state, link, retryInMs, awaiting: state.turns.some((turn) => !turn.id) };
  const turns = state.turns
    .filter((turn) => turn.saidFinal || turn.reply)
    .map((turn) => (turn.state === "open" && turn.id ? broken(turn) : turn));
  return { ...state, ...QUIET, link, retryInMs, turns };
}

function broken(turn: Turn): Turn {
  const over = (call: Call) => call.state === "done" || call.state === "failed";
  return {
    ...turn,
    state: "interrupted",
    calls: turn.calls.map((call) => (over(call) ? call : { ...call, state: "failed" })),
  };
}

function receive(state: Conversation, message: ServerMessage): Conversation {
  switch (message.type) {
    case "session.ready":
      return { ...state, session: message, notice: state.notice?.detail === undefined ? state.notice : null };
    case "speech.started":
      return { ...state, hearing: true };
    case "speech.stopped":
      return { ...state, hearing: false };
    case "transcript":
      return {
        ...change(state, message.turn_id, { said: message.text, saidFinal: message.is_final }),
        awaiting: state.awaiting || message.is_final,
        notice: null,
      };
    case "reply.text": {
      const before = state.turns.find((turn) => turn.id === message.turn_id)?.reply ?? "";
      return change(state, message.turn_id, { reply: message.text ?? before + message.delta });
    }
    case "tool.call": {
      const { turn_id: turnId, call_id: id, server = null, name, arguments: given, needs_approval: asks } = message;
      const call: Call = { id, server, name, arguments: given, state: asks ? "asking" : "running", result: "" };
      const before = state.turns.find((turn) => turn.id === turnId)?.calls ?? [];
      return change(state, turnId, { calls: [...before, call] });
    }
    case "tool.result":
      return {
        ...changeCall(state, message.call_id, { state: message.is_error ? "failed" : "done", result: message.text }),
        awaiting: state.speaking === null,
      };
    case "reply.audio":
      return { ...change(state, message.turn_id, {}), speaking: message.turn_id, awaiting: false };
    case "reply.done": {
      const { status, heard_text: heard, metrics, turn_id: id } = message;
      const cut = status !== "completed" && state.speaking === id;
      return {
        ...change(state, id, { state: status, heard, metrics }),
        awaiting: false,
        speaking: cut ? null : state.speaking,
      };
    }
    case "error": {
      const problem = { code: message.code, detail: message.message };
      const quiet = { ...state, awaiting: false };
      return message.turn_id ? change(quiet, message.turn_id, { problem }) : { ...quiet, notice: problem };
    }
    case "reply.lower":
    case "reply.hold":
    case "reply.resume":
    case "pong":
      return state;
  }
}

/** Changes a turn; one that is not there yet is the typed turn the server has just named, or a new one. */
function change(state: Conversation, id: string, fields: Partial<Turn>): Conversation {
  const named = state.turns.findIndex((turn) => turn.id === id);
  const typed = (turn: Turn) => !turn.id && turn.said === (fields.said ?? turn.said);
  const at = named >= 0 ? named : state.turns.findIndex(typed);
  if (at >= 0) return { ...state, turns: state.turns.map((turn, n) => (n === at ? { ...turn, id, ...fields } : turn)) };
  const turns = state.turns.filter((turn) => turn.saidFinal || turn.reply || turn.problem); // the rest came to nothing
  return { ...state, turns: [...turns, { ...NEW_TURN, id, ...fields }] };
}

function changeCall(state: Conversation, id: string, fields: Partial<Call>): Conversation {
  const turns = state.turns.map((turn) =>
    turn.calls.some((call) => call.id === id)
      ? { ...turn, calls: turn.calls.map((call) => (call.id === id ? { ...call, ...fields } : call)) }
      : turn,
  );
  return { ...state, turns };
}

/** Where the heard part of a reply ends, as an index into `reply`; differences of white space and a closing "…" aside. */
export function heardLength(reply: string, heard: string): number {
  let at = 0;
  for (const character of heard) {
    if (/\s/.test(character)) continue;
    let next = at;
    while (next < reply.length && /\s/.test(reply[next]!)) next += 1;
    if (!reply.startsWith(character, next)) break;
    at = next + character.length;
  }
  return at;
}
