// Records a stream as WebM/Opus, in pieces as it goes (MP4 where the browser has no WebM).

import { useCallback, useMemo, useRef } from "react";

const PIECE_MS = 100;
const SPEECH_BITS_PER_S = 32_000;
const FORMATS = ["audio/webm;codecs=opus", "audio/webm", "audio/mp4"];

export interface Recorder {
  /** False when this browser cannot record. */
  start(stream: MediaStream, onPiece: (piece: Blob) => void, bitsPerSecond?: number): boolean;
  /** Ends it; once it is done every piece has been handed over. Gives its length in ms, 0 when nothing was running. */
  stop(): Promise<number>;
}

export function useRecorder(): Recorder {
  const running = useRef<{ recorder: MediaRecorder; sinceMs: number } | null>(null);

  const start = useCallback((stream: MediaStream, onPiece: (piece: Blob) => void, bitsPerSecond = SPEECH_BITS_PER_S) => {
    const mimeType = FORMATS.find((format) => "MediaRecorder" in window && MediaRecorder.isTypeSupported(format));
    if (!mimeType) return false;
    const recorder = new MediaRecorder(stream, { mimeType, audioBitsPerSecond: bitsPerSecond });
    recorder.ondataavailable = ({ data }) => {
      if (data.size) onPiece(data);
    };
    recorder.start(PIECE_MS);
    running.current = { recorder, sinceMs: performance.now() };
    return true;
  }, []);

  const stop = useCallback(async () => {
    const current = running.current;
    running.current = null;
    if (!current) return 0;
    const lengthMs = performance.now() - current.sinceMs;
    await new Promise((resolve) => {
      current.recorder.onstop = resolve;
      if (current.recorder.state === "inactive") resolve(null);
      else current.recorder.stop();
    });
    return lengthMs;
  }, []);

  return useMemo(() => ({ start, stop }), [start, stop]);
}
