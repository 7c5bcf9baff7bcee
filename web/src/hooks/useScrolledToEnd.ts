import { type RefObject, useEffect, useRef } from "react";

const NEAR_PX = 80;

/** Keeps the last element of a scrolling `main` in sight as `content` grows, unless the user has scrolled up to read. */
export function useScrolledToEnd(content: unknown): RefObject<HTMLDivElement | null> {
  const end = useRef<HTMLDivElement>(null);
  const pinned = useRef(true);
  useEffect(() => {
    const box = end.current?.closest("main");
    const look = () => {
      if (box) pinned.current = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_PX;
    };
    box?.addEventListener("scroll", look);
    return () => box?.removeEventListener("scroll", look);
  }, []);
  useEffect(() => {
    if (pinned.current) end.current?.scrollIntoView({ block: "end" });
  }, [content]);
  return end;
}
