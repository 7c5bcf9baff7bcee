// The one AudioContext of the page, with both worklets in it. Browsers make sound only after a gesture, so `unlock`
// belongs in a click or key handler; later calls give the same context, awake.

import { useCallback, useEffect, useRef } from "react";

import captureUrl from "../worklets/capture.ts?worker&url";
import playbackUrl from "../worklets/playback.ts?worker&url";

export type Unlock = () => Promise<AudioContext>;

export function useAudioGraph(): Unlock {
  const graph = useRef<{ context: AudioContext; ready: Promise<unknown> } | null>(null);

  const unlock = useCallback(async () => {
    graph.current ??= make();
    const { context, ready } = graph.current;
    await Promise.all([context.resume(), ready]);
    return context;
  }, []);

  useEffect(() => {
    const wake = () => void (document.hidden || graph.current?.context.resume()); // phones suspend it in the background
    document.addEventListener("visibilitychange", wake);
    return () => {
      document.removeEventListener("visibilitychange", wake);
      void graph.current?.context.close();
      graph.current = null;
    };
  }, []);

  return unlock;
}

function make() {
  const context = new AudioContext({ latencyHint: "interactive" });
  const load = (url: string) => context.audioWorklet.addModule(url);
  return { context, ready: Promise.all([load(captureUrl), load(playbackUrl)]) };
}
