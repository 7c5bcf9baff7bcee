// Past conversations: finding one, opening it in the page, taking it along, deleting it.

import { useEffect, useState } from "react";

import { list, type Listed, type Page, pathOf } from "../conversations";
import type { VoiceChat } from "../hooks/useVoiceChat";
import { ask } from "../models";
import type { Strings } from "../strings";
import { Panel } from "./Panel";

export function ConversationsPanel({ chat, strings, onClose }: { chat: VoiceChat; strings: Strings; onClose: () => void }) {
  const words = strings.conversations;
  const [query, setQuery] = useState("");
  const [page, setPage] = useState<Page | null>(null);
  const [problem, setProblem] = useState("");
  const attempt = (work: () => Promise<void>) => work().then(() => setProblem(""), (error: Error) => setProblem(error.message));

  useEffect(() => {
    let wanted = true; // an answer that comes late must not replace that of a later question
    list(query, null).then((found) => wanted && setPage(found), (error: Error) => wanted && setProblem(error.message));
    return () => {
      wanted = false;
    };
  }, [query]);

  const more = async ({ items, cursor }: Page) => {
    const next = await list("", cursor);
    setPage({ items: [...items, ...next.items], cursor: next.cursor });
  };
  const open = (id: string) => {
    onClose();
    void chat.open(id);
  };
  const remove = async (id: string) => {
    await ask("DELETE", pathOf(id));
    setPage((known) => known && { ...known, items: known.items.filter((item) => item.id !== id) });
    if (chat.thread === id) chat.forget();
  };
  return (
    <Panel title={words.title} problem={problem} strings={strings} onClose={onClose}>
      <input value={query} maxLength={200} placeholder={words.search} aria-label={words.search} onChange={(event) => setQuery(event.target.value)} />
      {page?.items.length === 0 && <p className="aside">{query ? words.nothing : words.none}</p>}
      <ul>
        {page?.items.map((item) => (
          <Row
            key={item.id}
            item={item}
            strings={strings}
            current={chat.thread === item.id}
            onOpen={() => open(item.id)}
            onRemove={() => void (confirm(words.sure(item.title)) && attempt(() => remove(item.id)))}
          />
        ))}
      </ul>
      {page?.cursor && (
        <button className="plain" onClick={() => void attempt(() => more(page))}>
          {words.more}
        </button>
      )}
    </Panel>
  );
}

interface RowProps {
  item: Listed;
  strings: Strings;
  current: boolean;
  onOpen: () => void;
  onRemove: () => void;
}

function Row({ item, strings, current, onOpen, onRemove }: RowProps) {
  const words = strings.conversations;
  const at = new Date(item.at).toLocaleString(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });
  return (
    <li data-conversation={item.id}>
      <div className="what">
        <b>
          {item.title || words.untitled}
          {current && <span className="tag calm">{words.current}</span>}
        </b>
        <small>{[at, item.excerpt].filter(Boolean).join(" · ")}</small>
      </div>
      <button className="plain" onClick={onOpen}>
        {words.open}
      </button>
      <a className="plain" href={`${pathOf(item.id)}/export?format=markdown`} download>
        {words.export}
      </a>
      <button className="plain danger" onClick={onRemove}>
        {words.remove}
      </button>
    </li>
  );
}
