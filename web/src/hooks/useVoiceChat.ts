// The conversation put together: what each hook does when another says something. The wire's rules live here;
// what it looks like does not.

import { useCallback, useEffect, useEffectEvent, useReducer, useRef, useState } from "react";

import { EMPTY, isCalling, type Problem, reduce, statusOf } from "../conversation";
import { rememberedThread, rememberThread, turnsOf } from "../conversations";
import type { ServerMessage, SessionStart } from "../wire";
import { useAudioGraph } from "./useAudioGraph";
import { useMicrophone } from "./useMicrophone";
import { type Played, usePlayback } from "./usePlayback";
import { useRecorder } from "./useRecorder";
import { useSocket } from "./useSocket";
import { useStored } from "./useStored";

export const MODES = ["live", "push_to_talk"] as const;
export type Mode = (typeof MODES)[number];
export const QUALITIES = ["fast", "high"] as const;
export type Quality = (typeof QUALITIES)[number];

/** Loudness of either side now, 0…1; read by animations, so it is no React state. */
export interface Levels {
  microphone: number;
  voice: number;
}

/** How a connection names the conversation it goes on with. */
type Thread = Pick<SessionStart, "conversation_id" | "resume_token">;

/** A press shorter than this was a slip. */
const SHORTEST_HOLD_MS = 300;
/** A recording ends this much before the server's limit. */
const HOLD_MARGIN_MS = 500;
const PLAYBACK_REPORT_MS = 200;
/** What a `session.start` gets that names a voice or conversation which is no longer there. */
const GONE = ["NOT_FOUND", "VOICE_NOT_READY"];

export function useVoiceChat() {
  const [state, dispatch] = useReducer(reduce, EMPTY);
  const [mode, storeMode] = useStored<Mode>("avatar.mode", MODES);
  const [quality, storeQuality] = useStored<Quality>("avatar.quality", QUALITIES);
  const [voice, setVoice] = useState<string | null>(null);
  const [muted, setMuted] = useState(false);
  const [replaying, setReplaying] = useState<string | null>(null);
  const levels = useRef<Levels>({ microphone: 0, voice: 0 });
  const [thread, setThread] = useState(rememberedThread);
  const going = useRef<Thread>({ conversation_id: thread, resume_token: null });
  const speech = useRef({ voice, quality }); // for connections, which outlive renders
  const reportedAtMs = useRef(0);
  const lastPlayed = useRef<Played | null>(null);
  const held = useRef<{ limit: ReturnType<typeof setTimeout> } | null>(null);
  const status = statusOf(state);
  const unlock = useAudioGraph();

  const complain = useCallback((problem: Problem) => dispatch({ type: "problem", problem }), []);

  const playback = usePlayback(unlock, (played) => {
    levels.current.voice = played.ended ? 0 : played.peak;
    publish(played);
    if (played.replay) {
      if (played.ended) setReplaying(null);
      return;
    }
    lastPlayed.current = played;
    if (played.ended || performance.now() - reportedAtMs.current >= PLAYBACK_REPORT_MS) reportHeard();
    if (played.ended) dispatch({ type: "silent", turnId: played.id });
  });

  const socket = useSocket({
    onLink: (link, retryInMs) => {
      dispatch({ type: "link", link, retryInMs });
      if (link === "open") return;
      playback.end(); // what has come may still be said
      void release();
    },
    onMessage: (message) => {
      dispatch({ type: "server", message });
      follow(message);
    },
    onAudio: (pcm) => playback.push(pcm),
  });

  const microphone = useMicrophone(unlock, {
    onFrame: ({ pcm, rms }) => {
      levels.current.microphone = rms;
      if (mode === "live" && state.link === "open") socket.sendFrame(pcm);
    },
    onLost: () => complain({ code: "MIC_LOST" }),
  });
  const recorder = useRecorder();

  function reportHeard() {
    const played = lastPlayed.current;
    if (!played) return;
    reportedAtMs.current = performance.now();
    socket.send({ type: "playback", turn_id: played.id, played_ms: Math.round(played.heardMs) });
    if (played.ended) lastPlayed.current = null;
  }

  function follow(message: ServerMessage) {
    if (message.type === "session.ready") {
      take(message.conversation_id, message.resume_token);
      for (const { id, said } of state.turns) if (!id) socket.send({ type: "text", text: said });
    } else if (message.type === "speech.started") stopReplay();
    else if (message.type === "reply.audio") {
      setReplaying(null);
      playback.begin(message.turn_id, message.sample_rate);
    } else if (message.type === "reply.lower") playback.change(message.turn_id, "lower");
    else if (message.type === "reply.hold") {
      playback.change(message.turn_id, "hold");
      reportHeard();
    } else if (message.type === "reply.resume") playback.change(message.turn_id, "resume");
    else if (message.type === "reply.done") {
      if (message.status === "completed") playback.end(message.turn_id);
      else playback.clear(message.turn_id);
    } else if (message.type === "error" && GONE.includes(message.code) && state.link !== "open") {
      if (speech.current.voice !== null) speakWith(null); // one of the two was deleted meanwhile
      else take(null);
      connect(mode);
    }
  }

  /** From now on the page is about this conversation; with its token it can be gone on with before a turn of it is saved. */
  function take(id: string | null, token: string | null = null) {
    going.current = { conversation_id: token === null ? id : null, resume_token: token };
    rememberThread(id);
    setThread(id);
  }

  /** Shows what was said in the conversation that the page is about. */
  async function recall(id: string) {
    try {
      dispatch({ type: "recalled", turns: await turnsOf(id) });
    } catch {
      if (going.current.conversation_id === id) take(null); // it is gone, or nothing of it was saved
    }
  }

  const recallThread = useEffectEvent(() => void (thread !== null && recall(thread)));
  useEffect(() => recallThread(), []);

  /** Ends what goes on, and shows a conversation that was: to read, to hear, to go on with. */
  async function open(id: string) {
    end();
    playback.forget();
    dispatch({ type: "forgotten" });
    take(id);
    await recall(id);
  }

  function stopReplay() {
    if (replaying === null) return;
    setReplaying(null);
    playback.clear();
  }

  function connect(inMode: Mode) {
    socket.open((): SessionStart => {
      const audio = inMode === "live" ? { format: "pcm16" as const, sample_rate: 16000 } : { format: "webm" as const };
      const { voice, quality } = speech.current;
      return { type: "session.start", mode: inMode, audio, ...going.current, voice_id: voice, quality };
    });
  }

  /** Speaks from the next turn on with this voice; null: with the default. */
  function speakWith(next: string | null) {
    speech.current.voice = next;
    setVoice(next);
    if (state.link === "open") socket.send({ type: "session.update", voice_id: next ?? "" });
  }

  function setQuality(next: Quality) {
    if (next === quality) return;
    speech.current.quality = next;
    storeQuality(next);
    if (state.link === "closed") return;
    playback.clear();
    connect(mode);
  }

  /** The microphone hears nothing while something else is on the screen. */
  function setAside(aside: boolean) {
    microphone.enable(!aside && mode === "live" && !muted);
  }

  async function openMicrophone(enabled: boolean): Promise<boolean> {
    const problem = await microphone.open();
    microphone.enable(enabled);
    if (problem) complain(problem);
    return !problem;
  }

  async function prepareSound() {
    await playback.prepare().catch(() => complain({ code: "NO_SOUND" }));
  }

  /** In a gesture: sound, microphone, connection. */
  async function start() {
    setMuted(false);
    await prepareSound();
    connect(mode);
    await openMicrophone(mode === "live");
  }

  function end() {
    playback.clear();
    microphone.close();
    levels.current = { microphone: 0, voice: 0 };
    socket.close();
  }

  function setMode(next: Mode) {
    if (next === mode) return;
    storeMode(next);
    if (state.link === "closed") return;
    playback.clear();
    microphone.enable(next === "live" && !muted);
    connect(next);
  }

  async function toggleMute() {
    if (!microphone.on) {
      setMuted(!(await openMicrophone(true)));
      return;
    }
    microphone.enable(muted);
    setMuted(!muted);
  }

  function interrupt() {
    stopReplay();
    if (state.speaking === null && !state.awaiting && !isCalling(state)) return;
    reportHeard();
    socket.send({ type: "interrupt" });
    playback.clear();
    if (state.speaking !== null) dispatch({ type: "silent", turnId: state.speaking });
  }

  async function sendText(text: string) {
    if (state.link === "closed") {
      await prepareSound();
      connect(mode);
    }
    interrupt();
    dispatch({ type: "typed", text });
    if (state.link === "open") socket.send({ type: "text", text }); // else `follow` does, when the session is ready
  }

  async function press() {
    if (state.link !== "open" || held.current) return;
    const limitMs = (state.session?.limits.max_utterance_s ?? 60) * 1000 - HOLD_MARGIN_MS;
    const hold = { limit: setTimeout(() => void release(), limitMs) };
    held.current = hold;
    interrupt();
    const ready = await openMicrophone(true);
    const stream = microphone.stream();
    if (!ready || !stream || held.current !== hold) return void release(); // or let go while the browser asked
    dispatch({ type: "held" });
    if (!recorder.start(stream, (piece) => socket.sendPiece(piece))) complain({ code: "NO_RECORDER" });
  }

  async function release() {
    if (!held.current) return;
    clearTimeout(held.current.limit);
    held.current = null;
    const lengthMs = await recorder.stop();
    microphone.enable(false);
    const slip = lengthMs < SHORTEST_HOLD_MS;
    const sent = socket.send({ type: slip ? "audio.clear" : "audio.end" }) && !slip;
    dispatch({ type: "released", sent });
    if (slip && lengthMs > 0) complain({ code: "TOO_SHORT" });
  }

  function toggleReplay(turnId: string) {
    if (replaying === turnId) return stopReplay();
    if (state.speaking === null && playback.replay(turnId)) setReplaying(turnId);
    else complain({ code: "REPLAY_GONE" });
  }

  function approve(callId: string, approve: boolean) {
    if (socket.send({ type: "tool.approve", call_id: callId, approve })) dispatch({ type: "approved", callId });
  }

  function forget() {
    interrupt();
    take(null);
    speakWith(null);
    playback.forget();
    dispatch({ type: "forgotten" });
    if (state.link !== "closed") connect(mode);
  }

  return {
    state,
    status,
    mode,
    muted,
    microphoneOn: microphone.on,
    replaying,
    levels,
    voice,
    quality,
    thread,
    open,
    complain,
    speakWith,
    setQuality,
    setAside,
    start,
    end,
    setMode,
    toggleMute,
    interrupt,
    sendText,
    press,
    release,
    toggleReplay,
    approve,
    forget,
    dismiss: () => dispatch({ type: "dismissed" }),
  };
}

export type VoiceChat = ReturnType<typeof useVoiceChat>;

/** Numbers for whoever looks from outside (tests, support): what the loudspeaker has really done. */
function publish(played: Played) {
  const { dataset } = document.documentElement;
  const loudest = dataset.playedTurn === played.id ? Math.max(played.peak, Number(dataset.playedPeak)) : played.peak;
  dataset.playedTurn = played.id;
  dataset.playedMs = played.playedMs.toFixed(0);
  dataset.playedPeak = loudest.toFixed(4);
  dataset.underruns = String(played.underruns);
}
