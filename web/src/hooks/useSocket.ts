import { useEffect, useState } from "react";

import { ChatSocket, type SocketEvents } from "../socket";
import { useLatest } from "./useLatest";

/** The page's connection; it ends with the component, and tries again at once when the network is back. */
export function useSocket(events: SocketEvents): ChatSocket {
  const latest = useLatest(events);
  const [socket] = useState(
    () =>
      new ChatSocket(location.origin.replace(/^http/, "ws") + "/ws/chat", {
        onLink: (link, retryInMs) => latest.current.onLink(link, retryInMs),
        onMessage: (message) => latest.current.onMessage(message),
        onAudio: (pcm) => latest.current.onAudio(pcm),
      }),
  );
  useEffect(() => {
    const hurry = () => socket.hurry();
    addEventListener("online", hurry);
    return () => {
      removeEventListener("online", hurry);
      socket.close();
    };
  }, [socket]);
  return socket;
}
