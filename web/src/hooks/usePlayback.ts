// The loudspeaker: the live reply, replays of earlier ones, and reports of what was really played.

import { useCallback, useEffect, useRef } from "react";

import { Recordings } from "../recordings";
import type { PlayerCommand } from "../worklets/playback";
import type { PlayerReport } from "../worklets/player";
import type { Unlock } from "./useAudioGraph";
import { useLatest } from "./useLatest";

export interface Played extends PlayerReport {
  id: string;
  replay: boolean;
  /** Without what still waits in the device's own buffer. */
  heardMs: number;
}

export interface Playback {
  /** In a gesture: from now on there can be sound. */
  prepare(): Promise<void>;
  begin(turnId: string, rateHz: number): void;
  push(pcm: ArrayBuffer): void;
  /** All of the reply has come; what is queued still plays. */
  end(turnId?: string): void;
  /** While somebody speaks over this reply: lower it, hold it where it is, go on as before. */
  change(turnId: string, how: "lower" | "hold" | "resume"): void;
  /** Silence, now (if it is this turn's sound); what still comes of that reply is dropped. */
  clear(turnId?: string): void;
  /** Says an earlier reply again; false when it is not kept any more. */
  replay(turnId: string): boolean;
  forget(): void;
}

export function usePlayback(unlock: Unlock, onPlayed: (played: Played) => void): Playback {
  const latest = useLatest(onPlayed);
  const node = useRef<AudioWorkletNode | null>(null);
  const recordings = useRef(new Recordings());
  const current = useRef<{ id: string; replay: boolean } | null>(null);

  const tell = useCallback((command: PlayerCommand) => node.current?.port.postMessage(command), []);

  const prepare = useCallback(async () => {
    const context = await unlock();
    if (node.current) return;
    const made = new AudioWorkletNode(context, "avatar-playback", { numberOfInputs: 0, outputChannelCount: [1] });
    made.port.onmessage = ({ data }: MessageEvent<PlayerReport>) => {
      const { id } = data;
      if (id === null) return;
      const replay = id.startsWith(REPLAY);
      const deviceMs = data.ended ? 0 : (context.baseLatency + (context.outputLatency || 0)) * 1000;
      const heardMs = Math.max(0, data.playedMs - deviceMs);
      latest.current({ ...data, id: replay ? id.slice(REPLAY.length) : id, replay, heardMs });
    };
    made.connect(context.destination);
    node.current = made;
  }, [unlock, latest]);

  const begin = useCallback(
    (turnId: string, rateHz: number) => {
      current.current = { id: turnId, replay: false };
      recordings.current.begin(turnId, rateHz);
      tell({ do: "begin", id: turnId, rateHz });
    },
    [tell],
  );

  const push = useCallback(
    (pcm: ArrayBuffer) => {
      if (!current.current || current.current.replay) return;
      recordings.current.add(current.current.id, pcm);
      tell({ do: "push", pcm });
    },
    [tell],
  );

  const end = useCallback(
    (turnId?: string) => {
      if (!current.current || current.current.replay || (turnId && current.current.id !== turnId)) return;
      tell({ do: "end" });
      if (!node.current) latest.current({ ...SILENT, id: current.current.id });
    },
    [tell, latest],
  );

  const clear = useCallback(
    (turnId?: string) => {
      if (turnId && (current.current?.id !== turnId || current.current.replay)) return;
      current.current = null;
      tell({ do: "clear" });
    },
    [tell],
  );

  const replay = useCallback(
    (turnId: string) => {
      const recording = recordings.current.get(turnId);
      if (!recording) return false;
      current.current = { id: turnId, replay: true };
      tell({ do: "begin", id: REPLAY + turnId, rateHz: recording.rateHz });
      for (const pcm of recording.pieces) tell({ do: "push", pcm });
      tell({ do: "end" });
      return true;
    },
    [tell],
  );

  const change = useCallback(
    (turnId: string, how: "lower" | "hold" | "resume") => {
      if (current.current?.id === turnId && !current.current.replay) tell({ do: how });
    },
    [tell],
  );

  const forget = useCallback(() => recordings.current.clear(), []);

  useEffect(() => () => node.current?.disconnect(), []);
  return { prepare, begin, push, end, change, clear, replay, forget };
}

const REPLAY = "replay:";
const SILENT = { replay: false, heardMs: 0, playedMs: 0, bufferedMs: 0, underruns: 0, peak: 0, ended: true };
