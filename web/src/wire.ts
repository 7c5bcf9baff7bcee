// The messages of `/ws/chat`.
// Generated from `src/avatar/server/wire/` by `scripts/wire_types.py`: do not edit.

/** Forget the audio sent since the last turn. */
export interface AudioClear {
  type: "audio.clear";
}

/** Push-to-talk: the utterance is complete. */
export interface AudioEnd {
  type: "audio.end";
}

/** Format of the binary frames the client sends. */
export interface AudioFormat {
  format: "webm" | "pcm16";
  /** `pcm16` only: mono, little-endian. */
  sample_rate?: number;
}

/** Stop the reply. */
export interface Interrupt {
  type: "interrupt";
}

/** Format of the binary frames the client wants back (always PCM16 mono). */
export interface OutputFormat {
  /** Default: what the voice engine makes. */
  sample_rate?: number | null;
}

/** Answered by `pong`. */
export interface Ping {
  type: "ping";
}

/** How much of a reply has really been played. */
export interface Playback {
  type: "playback";
  turn_id: string;
  played_ms: number;
}

/** Optional first message: how this session goes. */
export interface SessionStart {
  type: "session.start";
  mode?: "push_to_talk" | "live";
  /** Default: webm for push_to_talk, pcm16 16000 Hz for live. */
  audio?: AudioFormat | null;
  /** Go on with this conversation. */
  conversation_id?: string | null;
  /** Go on with the conversation of the session that was given this token. */
  resume_token?: string | null;
  /** Id or name of a voice; empty or unset: the default one. */
  voice_id?: string | null;
  /** `high`: a better speech engine, where the server has one set up; it may take time to load. */
  quality?: "fast" | "high";
  /** ISO 639-1; unset: detected. */
  language?: string | null;
  /** System prompt. */
  instructions?: string | null;
  output?: OutputFormat;
  /** Live mode: how soon a turn is taken for over; unset: as the server is set up. */
  eagerness?: "low" | "medium" | "high" | null;
  /** Functions of the client's, besides the tools that the server has. */
  tools?: (ToolOffer)[];
}

/** Changes for the turns to come; what is absent stays. */
export interface SessionUpdate {
  type: "session.update";
  /** Id or name of a voice; empty: the default one. */
  voice_id?: string | null;
  language?: string | null;
  instructions?: string | null;
}

/** A typed turn. */
export interface Text {
  type: "text";
  text: string;
}

/** What came of a `tool.call` to one of the client's own tools. */
export interface ToolAnswer {
  type: "tool.result";
  call_id: string;
  /** For the model; of a failure too. */
  text: string;
  is_error?: boolean;
}

/** The user lets a call be made, or does not; for a `tool.call` with `needs_approval`. */
export interface ToolApprove {
  type: "tool.approve";
  call_id: string;
  approve: boolean;
}

/** A function that the client calls for the model: `tool.call` asks for it, `tool.result` answers. */
export interface ToolOffer {
  name: string;
  /** What it does and when to use it, for the model. */
  description?: string;
  /** JSON Schema of an object; at most 8,192 bytes. */
  parameters?: Record<string, unknown>;
}

export type ClientMessage = SessionStart | SessionUpdate | AudioEnd | AudioClear | Text | Interrupt | Playback | ToolApprove | ToolAnswer | Ping;

/** Something went wrong: what happened and what to do. */
export interface Error {
  session_id?: string | null;
  type: "error";
  code: string;
  message: string;
  fatal: boolean;
  turn_id?: string | null;
}

/** Bounds of what the client sends. */
export interface Limits {
  max_buffer_bytes: number;
  max_buffer_chunks: number;
  max_utterance_s: number;
  max_message_bytes: number;
  max_text_chars: number;
}

/** Answer to `ping`. */
export interface Pong {
  session_id?: string | null;
  type: "pong";
}

/** Format of the audio the server sends. */
export interface ReadyOutput {
  format: "pcm16";
  sample_rate: number;
}

/** The binary frames that follow, until `reply.done`, are this turn's PCM16. */
export interface ReplyAudio {
  session_id?: string | null;
  type: "reply.audio";
  turn_id: string;
  sample_rate: number;
}

/** The reply is over; nothing of this turn follows, and the turn is saved. */
export interface ReplyDone {
  session_id?: string | null;
  type: "reply.done";
  turn_id: string;
  status: "completed" | "interrupted" | "failed";
  heard_text: string;
  metrics: ReplyMetrics;
}

/** Stop playing this reply at once, but keep what has come of it: `reply.resume` or `reply.done` follows. */
export interface ReplyHold {
  session_id?: string | null;
  type: "reply.hold";
  turn_id: string;
}

/** There is a voice over this reply: play it at a quarter of its loudness until `reply.hold` or `reply.resume`. */
export interface ReplyLower {
  session_id?: string | null;
  type: "reply.lower";
  turn_id: string;
}

/** Where the turn's time went, in milliseconds; null where a stage did not run. */
export interface ReplyMetrics {
  /** Last speech sample to the decision that the turn is over. */
  endpoint_ms?: number | null;
  /** Transcription asked to transcript. */
  stt_ms?: number | null;
  /** LLM asked, and tools called for it, before it said a word. */
  tools_ms?: number | null;
  /** LLM request to its first token. */
  llm_ttft_ms?: number | null;
  /** First token to first clause. */
  first_clause_ms?: number | null;
  /** First clause to first audio. */
  tts_ttfa_ms?: number | null;
  /** First audio, held until the turn is over, to its being sent. */
  queue_ms?: number | null;
  /** First audio being sent to the socket having taken it. */
  wire_ms?: number | null;
  /** Decision that the turn is over to first audio taken, less what engines were at work. */
  own_ms?: number | null;
  /** Last speech sample (push-to-talk: `audio.end`; typed turns: the message) to first audio sent. */
  voice_to_voice_ms?: number | null;
  /** Replies of this turn that were prepared and dropped. */
  eager_tries: number;
  /** Tokens the dropped ones had. */
  wasted_tokens: number;
  /** Engine work on the dropped ones. */
  wasted_ms: number;
  /** Times the reply ran dry while it played, as the server counts. */
  underruns: number;
  /** The stages that ran, in the order of a turn. */
  trace: (TraceSpan)[];
}

/** It was no interruption: go on playing where the reply was, as loud as before. */
export interface ReplyResume {
  session_id?: string | null;
  type: "reply.resume";
  turn_id: string;
}

/** A piece of the answer's text; the final one carries the whole. */
export interface ReplyText {
  session_id?: string | null;
  type: "reply.text";
  turn_id: string;
  delta: string;
  is_final: boolean;
  text?: string | null;
}

/** The session has its slot; turns may begin. */
export interface SessionReady {
  session_id?: string | null;
  type: "session.ready";
  conversation_id: string;
  resume_token: string;
  mode: "push_to_talk" | "live";
  /** Stage (vad, end_of_turn, stt, llm, tts) to engine name. */
  engines: Record<string, string>;
  output: ReadyOutput;
  limits: Limits;
}

/** The user began to speak. */
export interface SpeechStarted {
  session_id?: string | null;
  type: "speech.started";
  /** Milliseconds of input audio since the session began. */
  at_ms: number;
}

/** The user's speech ended. */
export interface SpeechStopped {
  session_id?: string | null;
  type: "speech.stopped";
  at_ms: number;
}

/** The model has a tool called. Nothing is called before the turn is over; one `tool.result` follows. */
export interface ToolCall {
  session_id?: string | null;
  type: "tool.call";
  turn_id: string;
  call_id: string;
  /** Label of the MCP server that has the tool; absent: it is the client's, to call and to answer. */
  server?: string | null;
  name: string;
  /** JSON text as the model wrote it; it may be no JSON at all. */
  arguments: string;
  /** Nothing happens until `tool.approve`. */
  needs_approval: boolean;
}

/** What the model is told of a call; also after `tool.approve` or `tool.result` did not come in time. */
export interface ToolResult {
  session_id?: string | null;
  type: "tool.result";
  turn_id: string;
  call_id: string;
  text: string;
  is_error: boolean;
}

/** One stage of a turn, in milliseconds from where `voice_to_voice_ms` begins; negative before that. */
export interface TraceSpan {
  name: "endpoint" | "stt" | "tools" | "llm_first_token" | "first_clause" | "tts_first_audio" | "queue" | "wire";
  start_ms: number;
  end_ms: number;
}

/** What the user said; until it is final, what is sure of it so far. */
export interface Transcript {
  session_id?: string | null;
  type: "transcript";
  turn_id: string;
  text: string;
  is_final: boolean;
}

export type ServerMessage = SessionReady | SpeechStarted | SpeechStopped | Transcript | ReplyText | ToolCall | ToolResult | ReplyAudio | ReplyLower | ReplyHold | ReplyResume | ReplyDone | Error | Pong;
