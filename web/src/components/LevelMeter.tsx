import { type RefObject, useEffect, useRef } from "react";

import type { Levels } from "../hooks/useVoiceChat";
import { loudness } from "./Orb";

const REFRESH_MS = 60;

/** The microphone's level, as a bar. */
export function LevelMeter({ levels, label }: { levels: RefObject<Levels>; label: string }) {
  const bar = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const timer = setInterval(() => {
      const level = loudness(levels.current.microphone);
      bar.current?.style.setProperty("--level", level.toFixed(2));
      bar.current?.setAttribute("aria-valuenow", String(Math.round(level * 100)));
    }, REFRESH_MS);
    return () => clearInterval(timer);
  }, [levels]);
  return (
    <div ref={bar} className="meter" role="meter" aria-label={label} aria-valuemin={0} aria-valuemax={100} aria-valuenow={0} />
  );
}
