// Records a voice in the page: the microphone as it is, without what makes calls clear and voices flat.

import { type RefObject, useCallback, useEffect, useRef, useState } from "react";

import { MAX_S } from "../voices";
import { microphoneProblem } from "./useMicrophone";
import { useRecorder } from "./useRecorder";
import type { Levels } from "./useVoiceChat";

const WISHES: MediaTrackConstraints = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
const BITS_PER_S = 128_000;
const LOOK_MS = 60;
/** Recording ends this much before the server's limit. */
const MARGIN_S = 0.5;

export interface VoiceRecording {
  /** Null when nothing is being recorded. */
  seconds: number | null;
  levels: RefObject<Levels>;
  /** In a gesture. Gives a problem's code, or null. `onDone` gets the recording, however it ends. */
  start(onDone: (recording: Blob, seconds: number) => void): Promise<string | null>;
  stop(): void;
}

export function useVoiceRecording(): VoiceRecording {
  const [seconds, setSeconds] = useState<number | null>(null);
  const levels = useRef<Levels>({ microphone: 0, voice: 0 });
  const recorder = useRecorder();
  const ending = useRef<(() => Promise<void>) | null>(null);
  const wanted = useRef<object | null>(null); // the last start, until it is stopped

  const start = useCallback(
    async (onDone: (recording: Blob, seconds: number) => void) => {
      if (ending.current) return null;
      const mine = (wanted.current = {});
      if (!(navigator.mediaDevices as MediaDevices | undefined)) return "MIC_INSECURE";
      let stream: MediaStream;
      try {
        stream = await navigator.mediaDevices.getUserMedia({ audio: WISHES });
      } catch (error) {
        return microphoneProblem(error);
      }
      if (wanted.current !== mine) return release(stream), null; // stopped, or started again, while the browser asked
      const pieces: Blob[] = [];
      if (!recorder.start(stream, (piece) => pieces.push(piece), BITS_PER_S)) return release(stream), "NO_RECORDER";
      const loudness = meter(stream);
      const sinceMs = performance.now();
      const passed = () => (performance.now() - sinceMs) / 1000;
      const watch = setInterval(() => {
        levels.current.microphone = loudness.rms();
        setSeconds(passed());
        if (passed() >= MAX_S - MARGIN_S) void ending.current?.();
      }, LOOK_MS);
      setSeconds(0);
      ending.current = async () => {
        ending.current = null;
        clearInterval(watch);
        const lengthMs = await recorder.stop();
        release(stream);
        loudness.close();
        levels.current.microphone = 0;
        setSeconds(null);
        onDone(new Blob(pieces, { type: pieces[0]?.type ?? "" }), lengthMs / 1000);
      };
      return null;
    },
    [recorder],
  );

  const stop = useCallback(() => {
    wanted.current = null;
    void ending.current?.();
  }, []);
  useEffect(() => stop, [stop]);
  return { seconds, levels, start, stop };
}

function release(stream: MediaStream) {
  stream.getTracks().forEach((track) => track.stop());
}

function meter(stream: MediaStream) {
  const context = new AudioContext();
  const analyser = new AnalyserNode(context, { fftSize: 2048 });
  context.createMediaStreamSource(stream).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  return {
    rms: () => {
      analyser.getFloatTimeDomainData(samples);
      return Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length);
    },
    close: () => void context.close(),
  };
}
