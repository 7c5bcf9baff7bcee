// A dialog over the page, with a head to close it by and a place for what went wrong.

import { type ReactNode, useEffect, useRef } from "react";

import type { Strings } from "../strings";
import { CloseIcon } from "./icons";

interface Props {
  title: string;
  problem: string;
  strings: Strings;
  onClose: () => void;
  children: ReactNode;
}

export function Panel({ title, problem, strings, onClose, children }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} className="panel" aria-label={title} onClose={onClose}>
      <div className="panel-head">
        <h2>{title}</h2>
        <button className="small round plain" onClick={onClose} aria-label={strings.close} title={strings.close}>
          <CloseIcon />
        </button>
      </div>
      {problem && (
        <p className="problem" role="alert">
          {problem}
        </p>
      )}
      {children}
    </dialog>
  );
}
