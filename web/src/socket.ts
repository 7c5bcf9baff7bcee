// One conversation's WebSocket: opens it, keeps it open, and says how it stands. Knows no state of the conversation
// beyond the first message, which its owner makes anew for each connection (so that it can name the conversation).

import type { ClientMessage, ServerMessage, SessionStart } from "./wire";

export type Link = "closed" | "connecting" | "open" | "waiting";

export interface SocketEvents {
  /** `retryInMs` comes with "waiting": when the next try is. */
  onLink(link: Link, retryInMs?: number): void;
  onMessage(message: ServerMessage): void;
  onAudio(pcm: ArrayBuffer): void;
}

export const BACK_OFF_MS = [500, 1000, 2000, 4000, 8000, 15000];
/** A full server is asked less often. */
export const FULL_BACK_OFF_MS = 5000;
export const PING_MS = 15000;
/** A server that says nothing for this long, pongs included, is gone. */
export const SILENCE_MS = 2.5 * PING_MS;
/** Microphone audio that the network has not taken: 2 s of PCM16 at 16 kHz. Newer frames are dropped. */
export const MAX_BACKLOG_BYTES = 64000;

const HOPELESS = ["UNAUTHORIZED"];
const FULL = ["SERVER_FULL", "GPU_MEMORY"];

export class ChatSocket {
  private socket: WebSocket | null = null;
  private start: (() => SessionStart) | null = null;
  private tries = 0;
  private lastCode = "";
  private lastHeard = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private pings: ReturnType<typeof setInterval> | undefined;

  constructor(
    private readonly url: string,
    private readonly events: SocketEvents,
  ) {}

  /** Connects, and keeps connecting until `close`. A connection that is there is replaced. */
  open(start: () => SessionStart): void {
    this.drop();
    this.start = start;
    this.tries = 0;
    this.connect();
  }

  close(): void {
    this.drop();
    this.start = null;
    this.events.onLink("closed");
  }

  /** Tries now instead of after the wait. */
  hurry(): void {
    if (this.start && !this.socket) this.connect();
  }

  /** False when there is no connection. */
  send(message: ClientMessage): boolean {
    return this.transmit(JSON.stringify(message));
  }

  /** Live audio: what the network cannot take in time is dropped. */
  sendFrame(pcm: ArrayBuffer): boolean {
    return (this.socket?.bufferedAmount ?? 0) < MAX_BACKLOG_BYTES && this.transmit(pcm);
  }

  /** A recording's piece: each one counts. */
  sendPiece(piece: Blob): boolean {
    return this.transmit(piece);
  }

  private transmit(data: string | ArrayBuffer | Blob): boolean {
    if (this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(data);
    return true;
  }

  private connect(): void {
    clearTimeout(this.timer);
    this.lastCode = "";
    this.lastHeard = Date.now();
    this.events.onLink("connecting");
    const socket = new WebSocket(this.url);
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      if (this.start) this.send(this.start());
    };
    socket.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) => this.receive(data);
    socket.onclose = () => this.retry();
    this.pings = setInterval(() => this.checkAlive(), PING_MS);
  }

  private receive(data: string | ArrayBuffer): void {
    this.lastHeard = Date.now();
    if (typeof data !== "string") return this.events.onAudio(data);
    const message = JSON.parse(data) as ServerMessage;
    if (message.type === "error") this.lastCode = message.code;
    if (message.type === "session.ready") {
      this.tries = 0;
      this.events.onLink("open");
    }
    this.events.onMessage(message);
  }

  private checkAlive(): void {
    if (Date.now() - this.lastHeard < SILENCE_MS) return void this.send({ type: "ping" });
    this.drop(); // a dead network lets close() wait for its handshake, so nobody waits for onclose
    this.retry();
  }

  private retry(): void {
    this.drop();
    if (HOPELESS.includes(this.lastCode)) return this.close();
    const base = BACK_OFF_MS[Math.min(this.tries, BACK_OFF_MS.length - 1)]!;
    const wait = Math.max(base, FULL.includes(this.lastCode) ? FULL_BACK_OFF_MS : 0) * (0.8 + 0.4 * Math.random());
    this.tries += 1;
    this.events.onLink("waiting", wait);
    this.timer = setTimeout(() => this.connect(), wait);
  }

  private drop(): void {
    clearTimeout(this.timer);
    clearInterval(this.pings);
    if (!this.socket) return;
    this.socket.onopen = this.socket.onmessage = this.socket.onclose = null;
    this.socket.close();
    this.socket = null;
  }
}
