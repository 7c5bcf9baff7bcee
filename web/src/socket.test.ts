import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { BACK_OFF_MS, ChatSocket, FULL_BACK_OFF_MS, type Link, PING_MS, SILENCE_MS } from "./socket";

class FakeWebSocket {
  static readonly OPEN = 1;
  static all: FakeWebSocket[] = [];
  readyState = 0;
  bufferedAmount = 0;
  sent: unknown[] = [];
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: (() => void) | null = null;

  constructor(readonly url: string) {
    FakeWebSocket.all.push(this);
  }
  send(data: unknown) {
    this.sent.push(typeof data === "string" ? (JSON.parse(data) as unknown) : data);
  }
  close() {
    this.readyState = 3;
  }
  accept(conversation = "c1") {
    this.readyState = 1;
    this.onopen?.();
    this.say({ type: "session.ready", conversation_id: conversation });
  }
  say(message: object) {
    this.onmessage?.({ data: JSON.stringify(message) });
  }
  fall() {
    this.readyState = 3;
    this.onclose?.();
  }
}

const last = () => FakeWebSocket.all.at(-1)!;

function open() {
  const links: [Link, number?][] = [];
  const audio: ArrayBuffer[] = [];
  const socket = new ChatSocket("ws://here/ws/chat", {
    onLink: (...link) => links.push(link),
    onMessage: () => undefined,
    onAudio: (pcm) => audio.push(pcm),
  });
  let starts = 0;
  socket.open(() => ({ type: "session.start", conversation_id: `c${starts++}` }));
  return { socket, links, audio };
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("WebSocket", FakeWebSocket);
  vi.spyOn(Math, "random").mockReturnValue(0.5);
  FakeWebSocket.all = [];
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

describe("ChatSocket", () => {
  it("is open only when the server is ready", () => {
    const { links } = open();
    last().readyState = 1;
    last().onopen?.();
    expect(links).toEqual([["connecting"]]);
    last().say({ type: "session.ready" });
    expect(links.at(-1)).toEqual(["open"]);
  });

  it("comes back after longer and longer waits, with a first message made anew", () => {
    const { links } = open();
    last().accept();
    const waits = [...BACK_OFF_MS, BACK_OFF_MS.at(-1)!];
    for (const wait of waits) {
      last().fall();
      expect(links.at(-1)).toEqual(["waiting", wait]);
      vi.advanceTimersByTime(wait - 1);
      expect(links.at(-1)![0]).toBe("waiting");
      vi.advanceTimersByTime(1);
      expect(links.at(-1)).toEqual(["connecting"]);
    }
    expect(FakeWebSocket.all).toHaveLength(1 + waits.length);
    last().accept();
    expect(last().sent).toEqual([{ type: "session.start", conversation_id: "c1" }]);
    last().fall();
    expect(links.at(-1)).toEqual(["waiting", BACK_OFF_MS[0]]);
  });

  it("asks a full server less often", () => {
    const { links } = open();
    last().readyState = 1;
    last().say({ type: "error", code: "SERVER_FULL" });
    last().fall();
    expect(links.at(-1)).toEqual(["waiting", FULL_BACK_OFF_MS]);
  });

  it("does not knock again where it is not let in", () => {
    const { links } = open();
    last().say({ type: "error", code: "UNAUTHORIZED" });
    last().fall();
    vi.advanceTimersByTime(60000);
    expect(links.at(-1)).toEqual(["closed"]);
    expect(FakeWebSocket.all).toHaveLength(1);
  });

  it("stays closed after close, even in the middle of a wait", () => {
    const { socket, links } = open();
    last().fall();
    socket.close();
    vi.advanceTimersByTime(60000);
    expect(links.at(-1)).toEqual(["closed"]);
    expect(FakeWebSocket.all).toHaveLength(1);
  });

  it("pings, and gives up on a connection that has gone silent", () => {
    const { links } = open();
    last().accept();
    vi.advanceTimersByTime(PING_MS);
    expect(last().sent.at(-1)).toEqual({ type: "ping" });
    vi.advanceTimersByTime(PING_MS - 1);
    last().say({ type: "pong" });
    vi.advanceTimersByTime(SILENCE_MS - PING_MS);
    expect(links.at(-1)).toEqual(["open"]);
    vi.advanceTimersByTime(2 * PING_MS);
    expect(links.map(([link]) => link)).toContain("waiting");
  });

  it("hurries when asked", () => {
    const { socket, links } = open();
    last().fall();
    socket.hurry();
    expect(links.at(-1)).toEqual(["connecting"]);
    vi.advanceTimersByTime(60000 / 4);
    expect(FakeWebSocket.all).toHaveLength(2);
  });

  it("drops live frames that the network does not take, and never a recording's piece", () => {
    const { socket } = open();
    last().accept();
    last().bufferedAmount = 1e6;
    expect(socket.sendFrame(new ArrayBuffer(640))).toBe(false);
    expect(socket.sendPiece(new Blob(["x"]))).toBe(true);
    last().bufferedAmount = 0;
    expect(socket.sendFrame(new ArrayBuffer(640))).toBe(true);
  });

  it("hands audio on, and says when nothing could be sent", () => {
    const { socket, audio } = open();
    expect(socket.send({ type: "ping" })).toBe(false);
    last().accept();
    last().onmessage?.({ data: new ArrayBuffer(4) });
    expect(audio).toHaveLength(1);
  });
});
