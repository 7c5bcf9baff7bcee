// A turn's trace as bars on one scale. Knows no words and no colours.

import type { TraceSpan } from "./wire";

export interface Bar {
  name: TraceSpan["name"];
  /** Milliseconds the stage took. */
  ms: number;
  /** Where the bar begins and how wide it is, in per cent of the whole. */
  left: number;
  width: number;
}

/** One bar a stage. The scale runs from the user's last word, or from what was done before it, to the end of the last stage. */
export function bars(trace: TraceSpan[]): Bar[] {
  const begin = Math.min(0, ...trace.map((span) => span.start_ms));
  const whole = Math.max(0, ...trace.map((span) => span.end_ms)) - begin || 1;
  return trace.map(({ name, start_ms, end_ms }) => ({
    name,
    ms: end_ms - start_ms,
    left: (100 * (start_ms - begin)) / whole,
    width: (100 * (end_ms - start_ms)) / whole,
  }));
}
