import { type RefObject, useEffect, useRef } from "react";

const NEAR_PX = 80;

/** For the content of a scrolling parent: keeps its end in sight as it grows, unless the user has scrolled up to read. */
export function useScrolledToEnd(): RefObject<HTMLElement | null> {
  const content = useRef<HTMLElement>(null);
  useEffect(() => {
    const box = content.current?.parentElement;
    if (!box || !content.current) return;
    let pinned = true;
    let top = 0;
    const look = () => {
      const near = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_PX;
      pinned = near || (pinned && box.scrollTop >= top); // growth, too, takes the end away; only the user scrolls up
      top = box.scrollTop;
    };
    const sizes = new ResizeObserver(() => {
      if (pinned) box.scrollTop = box.scrollHeight;
    });
    box.addEventListener("scroll", look);
    sizes.observe(box);
    sizes.observe(content.current);
    return () => {
      box.removeEventListener("scroll", look);
      sizes.disconnect();
    };
  }, []);
  return content;
}
