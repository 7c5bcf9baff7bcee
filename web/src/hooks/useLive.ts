// A list of the server's that changes while it is looked at: asked for, kept up to date by `/ws/events`, changed.

import { useCallback, useEffect, useState } from "react";

import { ask, type Progress } from "../models";
import { useLatest } from "./useLatest";

const RETRY_MS = 2000;

export interface Source<T> {
  /** Path of the events, with their scopes. */
  events: string;
  load: () => Promise<T>;
  /** The list with news in it. */
  merge: (known: T, news: Progress) => T;
  /** Whether news change more than `merge` can tell, so that the list must be asked for anew. */
  isTurningPoint: (known: T | null, news: Progress) => boolean;
}

export interface Live<T> {
  found: T | null;
  problem: string;
  /** Does something that changes the list; what came of it is in the list, or in the problem. Gives whether it succeeded. */
  attempt: (work: () => Promise<unknown>) => Promise<boolean>;
  /** Asks the server for a change. */
  change: (method: string, path: string, body?: unknown) => Promise<boolean>;
}

export function useLive<T>(source: Source<T>): Live<T> {
  const [found, setFound] = useState<T | null>(null);
  const [problem, setProblem] = useState("");
  const latest = useLatest({ source, found });
  const { events } = source;

  const refresh = useCallback(async () => {
    try {
      setFound(await latest.current.source.load());
    } catch (error) {
      setProblem((error as Error).message);
    }
  }, [latest]);

  useEffect(() => {
    let socket: WebSocket;
    let timer: ReturnType<typeof setTimeout>;
    const connect = () => {
      socket = new WebSocket(location.origin.replace(/^http/, "ws") + events);
      socket.onopen = () => void refresh();
      socket.onmessage = ({ data }: MessageEvent<string>) => {
        const news = JSON.parse(data) as Progress;
        const { source, found } = latest.current;
        setFound((known) => known && source.merge(known, news));
        if (source.isTurningPoint(found, news)) void refresh();
      };
      socket.onclose = () => (timer = setTimeout(connect, RETRY_MS));
    };
    connect();
    return () => {
      clearTimeout(timer);
      socket.onclose = null;
      socket.close();
    };
  }, [events, latest, refresh]);

  const attempt = useCallback(
    async (work: () => Promise<unknown>) => {
      setProblem("");
      const succeeded = await work().then(
        () => true,
        (error: unknown) => {
          setProblem((error as Error).message);
          return false;
        },
      );
      await refresh();
      return succeeded;
    },
    [refresh],
  );

  const change = useCallback(
    (method: string, path: string, body?: unknown) => attempt(() => ask(method, path, body)),
    [attempt],
  );

  return { found, problem, attempt, change };
}
