import { useCallback, useEffect, useState } from "react";

import { ask, EVENTS, type Inventory, inventory, isTurningPoint, type Progress, withProgress } from "../models";

const RETRY_MS = 2000;

export interface UsedInventory {
  inventory: Inventory | null;
  problem: string;
  /** Asks the server for a change; what came of it is in the inventory, or in the problem. */
  change: (method: string, path: string, body?: unknown) => Promise<void>;
}

/** Models and engines, kept up to date while the component is there. */
export function useInventory(): UsedInventory {
  const [found, setFound] = useState<Inventory | null>(null);
  const [problem, setProblem] = useState("");

  const refresh = useCallback(async () => {
    try {
      setFound(await inventory());
    } catch (error) {
      setProblem((error as Error).message);
    }
  }, []);

  useEffect(() => {
    let socket: WebSocket;
    let timer: ReturnType<typeof setTimeout>;
    const connect = () => {
      socket = new WebSocket(location.origin.replace(/^http/, "ws") + EVENTS);
      socket.onopen = () => void refresh();
      socket.onmessage = ({ data }: MessageEvent<string>) => {
        const news = JSON.parse(data) as Progress;
        setFound((known) => known && { ...known, models: withProgress(known.models, news) });
        if (isTurningPoint(news)) void refresh();
      };
      socket.onclose = () => (timer = setTimeout(connect, RETRY_MS));
    };
    connect();
    return () => {
      clearTimeout(timer);
      socket.onclose = null;
      socket.close();
    };
  }, [refresh]);

  const change = useCallback(
    async (method: string, path: string, body?: unknown) => {
      setProblem("");
      try {
        await ask(method, path, body);
      } catch (error) {
        setProblem((error as Error).message);
      }
      await refresh();
    },
    [refresh],
  );

  return { inventory: found, problem, change };
}
