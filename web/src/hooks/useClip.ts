// Plays one sound file at a time, apart from the conversation's audio.

import { useCallback, useEffect, useRef, useState } from "react";

export interface Clip {
  /** What is being fetched or played. */
  playing: string | null;
  /** In a gesture: plays what `get` gives, in place of what plays. Rejects when that cannot be had or decoded. */
  play(name: string, get: () => Promise<ArrayBuffer>): Promise<void>;
  stop(): void;
}

export function useClip(): Clip {
  const [playing, setPlaying] = useState<string | null>(null);
  const context = useRef<AudioContext | null>(null);
  const running = useRef<{ source: AudioBufferSourceNode | null } | null>(null);

  const stop = useCallback(() => {
    running.current?.source?.stop();
    running.current = null;
    setPlaying(null);
  }, []);

  const play = useCallback(
    async (name: string, get: () => Promise<ArrayBuffer>) => {
      stop();
      const mine = { source: null as AudioBufferSourceNode | null };
      running.current = mine;
      setPlaying(name);
      context.current ??= new AudioContext();
      try {
        const [data] = await Promise.all([get(), context.current.resume()]);
        const buffer = await context.current.decodeAudioData(data);
        if (running.current !== mine) return; // stopped, or another plays
        mine.source = new AudioBufferSourceNode(context.current, { buffer });
        mine.source.onended = () => void (running.current === mine && stop());
        mine.source.connect(context.current.destination);
        mine.source.start();
      } catch (error) {
        if (running.current === mine) stop();
        throw error;
      }
    },
    [stop],
  );

  useEffect(
    () => () => {
      running.current = null;
      void context.current?.close();
      context.current = null;
    },
    [],
  );
  return { playing, play, stop };
}
