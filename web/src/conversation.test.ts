import { describe, expect, it } from "vitest";

import { type Conversation, type ConversationEvent, EMPTY, heardLength, reduce, statusOf } from "./conversation";
import type { ReplyDone, ServerMessage, SessionReady } from "./wire";

const READY: SessionReady = {
  type: "session.ready",
  session_id: "s1",
  conversation_id: "c1",
  resume_token: "r",
  mode: "live",
  engines: { stt: "moonshine" },
  output: { format: "pcm16", sample_rate: 22050 },
  limits: {
    max_buffer_bytes: 1,
    max_buffer_chunks: 1,
    max_utterance_s: 60,
    max_message_bytes: 1,
    max_text_chars: 8000,
  },
};
const OPEN: Conversation = { ...EMPTY, link: "open", session: READY };

const said = (turn_id: string, text: string, is_final = true): ServerMessage => ({
  type: "transcript",
  turn_id,
  text,
  is_final,
});
const delta = (turn_id: string, text: string): ServerMessage => ({
  type: "reply.text",
  turn_id,
  delta: text,
  is_final: false,
});
const audio = (turn_id: string): ServerMessage => ({ type: "reply.audio", turn_id, sample_rate: 22050 });
const done = (turn_id: string, status: ReplyDone["status"], heard_text = ""): ServerMessage => ({
  type: "reply.done",
  turn_id,
  status,
  heard_text,
  metrics: { voice_to_voice_ms: 800, eager_tries: 0, wasted_tokens: 0, wasted_ms: 0, underruns: 0, trace: [] },
});

function after(...steps: (ServerMessage | ConversationEvent)[]): Conversation {
  const local = ["link", "typed", "recalled", "held", "approved", "released", "silent", "problem", "dismissed", "forgotten"];
  return steps.reduce<Conversation>(
    (state, step) =>
      reduce(
        state,
        local.includes(step.type)
          ? (step as ConversationEvent)
          : { type: "server", message: step as ServerMessage },
      ),
    OPEN,
  );
}

describe("a spoken turn", () => {
  it("goes through hearing, thinking, speaking and back", () => {
    const steps: (ServerMessage | ConversationEvent)[] = [
      { type: "speech.started", at_ms: 0 },
      { type: "speech.stopped", at_ms: 900 },
      said("t1", "hello"),
      delta("t1", "Hi."),
      audio("t1"),
      done("t1", "completed", "Hi."),
      { type: "silent", turnId: "t1" },
    ];
    const statuses = steps.map((_, n) => statusOf(after(...steps.slice(0, n + 1))));
    expect(statuses).toEqual(["hearing", "ready", "thinking", "thinking", "speaking", "speaking", "ready"]);
  });

  it("shows partial transcripts, and drops those that came to nothing", () => {
    expect(after(said("t1", "he", false)).turns).toMatchObject([{ id: "t1", said: "he", saidFinal: false }]);
    expect(after(said("t1", "mm", false), said("t2", "hello")).turns).toMatchObject([{ id: "t2", said: "hello" }]);
  });

  it("streams the answer, and the final text wins", () => {
    expect(after(said("t1", "x"), delta("t1", "One "), delta("t1", "two")).turns[0]?.reply).toBe("One two");
    const final: ServerMessage = { type: "reply.text", turn_id: "t1", delta: "", is_final: true, text: "One, two." };
    expect(after(said("t1", "x"), delta("t1", "One two"), final).turns[0]?.reply).toBe("One, two.");
  });

  it("falls silent at once when it is interrupted", () => {
    const state = after(said("t1", "x"), delta("t1", "One two"), audio("t1"), done("t1", "interrupted", "One"));
    expect(statusOf(state)).toBe("ready");
    expect(state.turns[0]).toMatchObject({ state: "interrupted", heard: "One", metrics: { voice_to_voice_ms: 800 } });
  });

  it("is not silenced by the end of an older reply", () => {
    const state = after(audio("t1"), audio("t2"), done("t1", "interrupted"), { type: "silent", turnId: "t1" });
    expect(state.speaking).toBe("t2");
  });
});

describe("a tool", () => {
  const call = (call_id: string, needs_approval = false): ServerMessage => ({
    type: "tool.call",
    turn_id: "t1",
    call_id,
    server: "mail",
    name: "send",
    arguments: "{}",
    needs_approval,
  });
  const result = (call_id: string, is_error = false): ServerMessage => ({
    type: "tool.result",
    turn_id: "t1",
    call_id,
    text: "Sent.",
    is_error,
  });
  const states = (state: Conversation) => state.turns[0]?.calls.map((made) => made.state);

  it("waits for leave, runs, and has a result", () => {
    const steps = [said("t1", "x"), call("a", true), { type: "approved", callId: "a" } as const, result("a")];
    expect(steps.map((_, n) => states(after(...steps.slice(0, n + 1)))?.[0])).toEqual([undefined, "asking", "running", "done"]);
    expect(after(...steps).turns[0]?.calls[0]).toMatchObject({ server: "mail", name: "send", result: "Sent." });
  });

  it("is told apart from others of its turn", () => {
    expect(states(after(said("t1", "x"), call("a"), call("b"), result("b", true)))).toEqual(["running", "failed"]);
  });

  it("is thought, after what was said before it too", () => {
    const saying = [said("t1", "x"), delta("t1", "Let me look."), audio("t1"), call("a")];
    const silent: ConversationEvent = { type: "silent", turnId: "t1" };
    expect(statusOf(after(...saying))).toBe("speaking");
    expect(statusOf(after(...saying, silent))).toBe("thinking");
    expect(statusOf(after(...saying, silent, result("a")))).toBe("thinking");
    expect(statusOf(after(...saying, silent, result("a"), done("t1", "completed")))).toBe("ready");
  });

  it("has failed if the connection went meanwhile", () => {
    expect(states(after(said("t1", "x"), call("a"), { type: "link", link: "waiting" }))).toEqual(["failed"]);
  });
});

describe("a typed turn", () => {
  it("stands at once, and takes the server's name, echoed or not", () => {
    const typed: ConversationEvent = { type: "typed", text: "hello" };
    expect(after(typed)).toMatchObject({ awaiting: true, turns: [{ id: "", said: "hello" }] });
    expect(after(typed, delta("t1", "Hi")).turns).toMatchObject([{ id: "t1", said: "hello", reply: "Hi" }]);
    expect(after(typed, said("t1", "hello"), delta("t1", "Hi")).turns).toMatchObject([{ id: "t1", reply: "Hi" }]);
  });

  it("is not taken for something said at the same time", () => {
    const turns = after({ type: "typed", text: "hello" }, said("t1", "spoken"), said("t2", "hello")).turns;
    expect(turns).toMatchObject([
      { id: "t2", said: "hello" },
      { id: "t1", said: "spoken" },
    ]);
  });

  it("waits for a connection, and for the answer", () => {
    const state = after({ type: "link", link: "connecting" }, { type: "typed", text: "hello" }, { type: "link", link: "waiting" });
    expect(state.turns).toMatchObject([{ id: "", state: "open" }]);
    expect(statusOf(reduce(state, { type: "link", link: "open" }))).toBe("thinking");
  });
});

describe("errors", () => {
  it("belong to their turn, or else to the page", () => {
    const error = (turn_id?: string): ServerMessage => ({
      type: "error",
      code: "ENGINE_FAILED",
      message: "why",
      fatal: false,
      ...(turn_id ? { turn_id } : {}),
    });
    const ofTurn = after(said("t1", "x"), error("t1"));
    expect(ofTurn).toMatchObject({ awaiting: false, notice: null });
    expect(ofTurn.turns[0]?.problem).toEqual({ code: "ENGINE_FAILED", detail: "why" });
    const ofPage = after({ type: "released", sent: true }, error());
    expect(ofPage).toMatchObject({ awaiting: false, notice: { code: "ENGINE_FAILED", detail: "why" } });
    expect(reduce(ofPage, { type: "dismissed" }).notice).toBeNull();
  });
});

describe("a lost connection", () => {
  const lost: ConversationEvent = { type: "link", link: "waiting", retryInMs: 500 };

  it("ends what was going on and keeps what was said", () => {
    const state = after(said("t1", "x"), delta("t1", "One"), audio("t1"), said("t2", "par", false), lost);
    expect(statusOf(state)).toBe("waiting");
    expect(state).toMatchObject({ speaking: null, awaiting: false, hearing: false, retryInMs: 500 });
    expect(state.turns).toMatchObject([{ id: "t1", state: "interrupted", reply: "One" }]);
  });

  it("clears the server's complaint once the server is back, and no other", () => {
    const full: ServerMessage = { type: "error", code: "SERVER_FULL", message: "Full.", fatal: true };
    expect(after(full, lost, READY).notice).toBeNull();
    expect(after({ type: "problem", problem: { code: "MIC_DENIED" } }, READY).notice).toEqual({ code: "MIC_DENIED" });
  });
});

describe("push-to-talk", () => {
  it("hears while held, and thinks only if something was said", () => {
    expect(statusOf(after({ type: "held" }))).toBe("hearing");
    expect(statusOf(after({ type: "held" }, { type: "released", sent: true }))).toBe("thinking");
    expect(statusOf(after({ type: "held" }, { type: "released", sent: false }))).toBe("ready");
  });
});

describe("what was said before", () => {
  it("comes first, and each turn once", () => {
    const before = after(said("t1", "One"), done("t1", "completed"), said("t2", "Two"));
    const saved = after(said("t0", "Zero"), said("t1", "One, as saved")).turns;
    const state = reduce(before, { type: "recalled", turns: saved });
    expect(state.turns.map((turn) => turn.said)).toEqual(["Zero", "One, as saved", "Two"]);
  });
});

describe("heardLength", () => {
  it.each([
    ["Paris is nice.", "Paris is", "Paris is"],
    ["Paris  is\nnice.", "Paris is", "Paris  is"],
    ["Paris is nice.", "Paris is…", "Paris is"],
    ["Paris is nice.", "", ""],
    ["你好，世界。", "你好，", "你好，"],
    ["👍🏽 done", "👍🏽", "👍🏽"],
    ["Paris", "Paris and more", "Paris"],
  ])("of %j, %j heard: %j", (reply, heard, want) => {
    expect(reply.slice(0, heardLength(reply, heard))).toBe(want);
  });
});
