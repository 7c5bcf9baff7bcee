import { type RefObject, useLayoutEffect, useRef } from "react";

/** The newest `value`, for callbacks that outlive the render that made them; it is there as soon as the screen shows it. */
export function useLatest<T>(value: T): RefObject<T> {
  const ref = useRef(value);
  useLayoutEffect(() => {
    ref.current = value;
  });
  return ref;
}
