// The microphone: permission, echo cancellation, 20 ms frames of 16 kHz PCM16. Knows no server and no mode.

import { useCallback, useEffect, useRef, useState } from "react";

import type { Problem } from "../conversation";
import type { CapturedFrame } from "../worklets/capture";
import type { Unlock } from "./useAudioGraph";
import { useLatest } from "./useLatest";

export interface Microphone {
  on: boolean;
  stream(): MediaStream | null;
  /** Asks for it if need be. Gives what is wrong, or null. */
  open(): Promise<Problem | null>;
  /** Off: it stays open and hears silence. */
  enable(enabled: boolean): void;
  close(): void;
}

interface Events {
  onFrame(frame: CapturedFrame): void;
  /** It was unplugged, or its permission withdrawn. */
  onLost(): void;
}

const WISHES: MediaTrackConstraints = {
  channelCount: 1,
  echoCancellation: true,
  noiseSuppression: true,
  autoGainControl: true,
};

export function useMicrophone(unlock: Unlock, events: Events): Microphone {
  const [on, setOn] = useState(false);
  const source = useRef<{ stream: MediaStream; nodes: AudioNode[] } | null>(null);
  const latest = useLatest(events);

  const close = useCallback(() => {
    source.current?.stream.getTracks().forEach((track) => track.stop());
    source.current?.nodes.forEach((node) => node.disconnect());
    source.current = null;
    setOn(false);
  }, []);

  const open = useCallback(async (): Promise<Problem | null> => {
    if (source.current) return null;
    // Browsers hide the microphone from pages that came over plain HTTP from another machine; types do not know that.
    if (!(navigator.mediaDevices as MediaDevices | undefined)) return { code: "MIC_INSECURE" };
    try {
      const context = await unlock();
      const stream = await navigator.mediaDevices.getUserMedia({ audio: WISHES });
      const microphone = context.createMediaStreamSource(stream);
      const capture = new AudioWorkletNode(context, "avatar-capture");
      capture.port.onmessage = ({ data }: MessageEvent<CapturedFrame>) => latest.current.onFrame(data);
      microphone.connect(capture).connect(context.destination); // it outputs silence; unconnected it might not run
      stream.getAudioTracks()[0]?.addEventListener("ended", () => {
        close();
        latest.current.onLost();
      });
      source.current = { stream, nodes: [microphone, capture] };
      setOn(true);
      return null;
    } catch (error) {
      return { code: microphoneProblem(error) };
    }
  }, [unlock, latest, close]);

  const enable = useCallback((enabled: boolean) => {
    source.current?.stream.getAudioTracks().forEach((track) => (track.enabled = enabled));
  }, []);

  const stream = useCallback(() => source.current?.stream ?? null, []);

  useEffect(() => close, [close]);
  return { on, stream, open, enable, close };
}

/** The code of what keeps the microphone shut. */
export function microphoneProblem(error: unknown): string {
  const name = error instanceof DOMException ? error.name : "";
  if (name === "NotAllowedError" || name === "SecurityError") return "MIC_DENIED";
  return name === "NotFoundError" || name === "OverconstrainedError" ? "MIC_MISSING" : "MIC_BUSY";
}
