import { type FormEvent, useState } from "react";

import type { Strings } from "../strings";
import { SendIcon } from "./icons";

export function Composer({ strings, limit, onSend }: { strings: Strings; limit: number; onSend: (text: string) => void }) {
  const [text, setText] = useState("");
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (!text.trim()) return;
    onSend(text.trim());
    setText("");
  };
  return (
    <form className="composer" onSubmit={submit}>
      <input
        value={text}
        maxLength={limit}
        onChange={(event) => setText(event.target.value)}
        placeholder={strings.placeholder}
        aria-label={strings.placeholder}
        autoComplete="off"
        enterKeyHint="send"
      />
      <button className="small round filled" disabled={!text.trim()} aria-label={strings.send} title={strings.send}>
        <SendIcon />
      </button>
    </form>
  );
}
