import { useState } from "react";

/** A choice of the user that outlives the page; anything but one of `values` is the first of them. */
export function useStored<T extends string>(key: string, values: readonly [T, ...T[]]): [T, (value: T) => void] {
  const [value, setValue] = useState<T>(() => {
    const stored = read(key);
    return values.find((known) => known === stored) ?? values[0];
  });
  return [
    value,
    (next) => {
      setValue(next);
      write(key, next);
    },
  ];
}

// A browser that keeps nothing for this page (private mode, blocked storage) throws: the choice then lasts as long as the page.
function read(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

function write(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    return;
  }
}
