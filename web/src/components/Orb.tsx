// The sphere that shows who is speaking and how loudly. It reads the levels itself, once a frame: React need not know.

import { type RefObject, useEffect, useRef } from "react";

import type { Status } from "../conversation";
import type { Levels } from "../hooks/useVoiceChat";

export function Orb({ status, levels }: { status: Status; levels: RefObject<Levels> }) {
  const sphere = useRef<HTMLSpanElement>(null);
  const sound = useRef(0);

  useEffect(() => {
    let frame = requestAnimationFrame(function draw() {
      const { microphone, voice } = levels.current;
      const target = Math.max(loudness(microphone), loudness(voice * 0.5));
      sound.current += (target - sound.current) * (target > sound.current ? 0.5 : 0.12); // quick up, slow down
      sphere.current?.style.setProperty("--sound", sound.current.toFixed(3));
      frame = requestAnimationFrame(draw);
    });
    return () => cancelAnimationFrame(frame);
  }, [levels]);

  return <span ref={sphere} className="orb" data-status={status} aria-hidden="true" />;
}

/** Amplitude 0…1 to what the ear makes of it, 0…1: from −55 dB, a quiet room, to −10 dB, close speech. */
export function loudness(amplitude: number): number {
  const decibels = 20 * Math.log10(Math.max(amplitude, 1e-6));
  return Math.max(0, Math.min(1, (decibels + 55) / 45));
}
