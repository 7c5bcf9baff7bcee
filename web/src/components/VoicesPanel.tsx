// Voices people brought: bringing one, hearing it, choosing who speaks in this conversation.

import { useEffect, useEffectEvent, useState } from "react";

import { type Clip, useClip } from "../hooks/useClip";
import { type Live, useLive } from "../hooks/useLive";
import { QUALITIES, type VoiceChat } from "../hooks/useVoiceChat";
import type { Progress } from "../models";
import type { Strings } from "../strings";
import { allVoices, bring, needsList, type NewVoice, VOICE_EVENTS, type Voices, withNews } from "../voices";
import { NewVoiceForm } from "./NewVoiceForm";
import { Notice } from "./Notice";
import { Panel } from "./Panel";
import { VoiceRow } from "./VoiceRow";

const SOURCE = {
  events: VOICE_EVENTS,
  load: allVoices,
  merge: (known: Voices, news: Progress) => ({ ...known, voices: withNews(known.voices, news) }),
  isTurningPoint: (known: Voices | null, news: Progress) => needsList(known?.voices ?? [], news),
};

export function VoicesPanel({ chat, strings, onClose }: { chat: VoiceChat; strings: Strings; onClose: () => void }) {
  const live = useLive(SOURCE);
  const clip = useClip();
  const setAside = useEffectEvent(chat.setAside);
  useEffect(() => {
    setAside(true);
    return () => setAside(false);
  }, []);
  const { notice } = chat.state;
  return (
    <Panel title={strings.voices.title} problem={live.problem} strings={strings} onClose={onClose}>
      {notice && <Notice problem={notice} strings={strings} onClose={chat.dismiss} />}
      {live.found && (
        <>
          <Speaking chat={chat} voices={live.found} strings={strings} />
          <Brought chat={chat} live={live} clip={clip} strings={strings} />
        </>
      )}
    </Panel>
  );
}

/** Who speaks in this conversation, and how well. */
function Speaking({ chat, voices, strings }: { chat: VoiceChat; voices: Voices; strings: Strings }) {
  const words = strings.voices;
  const ready = voices.voices.filter(({ status }) => status === "ready");
  const builtin = voices.speakers.filter(({ kind }) => kind === "builtin");
  const options = (list: { id: string; name: string }[]) =>
    list.map(({ id, name }) => (
      <option key={id} value={id}>
        {name}
      </option>
    ));
  return (
    <div className="speaking">
      <label>
        <span>{words.inUse}</span>
        <select value={chat.voice ?? ""} onChange={(event) => chat.speakWith(event.target.value || null)}>
          <option value="">{words.defaultVoice}</option>
          {ready.length > 0 && <optgroup label={words.brought}>{options(ready)}</optgroup>}
          {builtin.length > 0 && <optgroup label={words.builtin}>{options(builtin)}</optgroup>}
        </select>
      </label>
      {voices.hasHighQuality && (
        <fieldset className="modes">
          <legend className="sr-only">{words.quality}</legend>
          {QUALITIES.map((value) => (
            <label key={value}>
              <input type="radio" name="quality" checked={chat.quality === value} onChange={() => chat.setQuality(value)} />
              <span>{words[value]}</span>
            </label>
          ))}
        </fieldset>
      )}
    </div>
  );
}

function Brought({ chat, live, clip, strings }: { chat: VoiceChat; live: Live<Voices>; clip: Clip; strings: Strings }) {
  const words = strings.voices;
  const [adding, setAdding] = useState(false);
  const voices = live.found?.voices ?? [];
  const unspoken = live.found?.speakers.some(({ kind, available }) => kind === "enrolled" && !available);
  const send = async (voice: NewVoice) => {
    if (await live.attempt(() => bring(voice, new Date()))) setAdding(false);
  };
  return (
    <>
      <h3>
        {words.list}
        {!adding && (
          <button className="plain" onClick={() => setAdding(true)}>
            {words.add}
          </button>
        )}
      </h3>
      {adding && <NewVoiceForm strings={strings} clip={clip} onSend={send} onCancel={() => setAdding(false)} />}
      {unspoken && <p className="aside">{words.unspoken}</p>}
      {voices.length === 0 && !adding && <p className="aside">{words.none}</p>}
      <ul>
        {voices.map((voice) => (
          <VoiceRow key={voice.id} voice={voice} chat={chat} live={live} clip={clip} strings={strings} />
        ))}
      </ul>
    </>
  );
}
