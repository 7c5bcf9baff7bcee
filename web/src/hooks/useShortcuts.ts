import { useEffect } from "react";

import { useLatest } from "./useLatest";

interface Shortcuts {
  interrupt(): void;
  press(): void;
  release(): void;
}

/** Esc stops the reply; the space bar, outside of text fields and other buttons, is the talk button. */
export function useShortcuts(shortcuts: Shortcuts): void {
  const latest = useLatest(shortcuts);
  useEffect(() => {
    const isTalkKey = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement;
      return event.code === "Space" && (target === document.body || target.closest("[data-talk]") !== null);
    };
    const down = (event: KeyboardEvent) => {
      if (event.key === "Escape") latest.current.interrupt();
      if (!isTalkKey(event)) return;
      event.preventDefault();
      if (!event.repeat) latest.current.press();
    };
    const up = (event: KeyboardEvent) => {
      if (event.code === "Space") latest.current.release();
    };
    const leave = () => latest.current.release();
    addEventListener("keydown", down);
    addEventListener("keyup", up);
    addEventListener("blur", leave);
    return () => {
      removeEventListener("keydown", down);
      removeEventListener("keyup", up);
      removeEventListener("blur", leave);
    };
  }, [latest]);
}
