// One voice of the list: how it stands, and, unfolded, how good it is and what can be done with it.

import { type FormEvent, useId, useState } from "react";

import type { Clip } from "../hooks/useClip";
import type { Live } from "../hooks/useLive";
import type { VoiceChat } from "../hooks/useVoiceChat";
import { request } from "../models";
import type { Strings } from "../strings";
import { findings, pathOf, underWay, type Voice, type Voices } from "../voices";
import { MoreIcon, PlayIcon, StopIcon } from "./icons";

interface Props {
  voice: Voice;
  chat: VoiceChat;
  live: Live<Voices>;
  clip: Clip;
  strings: Strings;
}

export function VoiceRow(props: Props) {
  const { voice, chat, live, strings } = props;
  const words = strings.voices;
  const [open, setOpen] = useState(false);
  const details = useId();
  const used = chat.voice === voice.id;
  const clone = `${pathOf(voice)}/clone`;
  return (
    <li data-voice={voice.id} data-status={voice.status}>
      <div className="what">
        <b>
          {voice.name}
          {voice.is_default && <span className="tag calm">{words.isDefault}</span>}
        </b>
        <small>{facts(voice, words)}</small>
        {underWay(voice) && <progress value={voice.progress?.fraction ?? undefined} aria-label={voice.name} />}
        {voice.status === "failed" && <small className="warning">{whyNot(voice, words)}</small>}
      </div>
      {voice.status === "ready" && (
        <button className="plain" aria-pressed={used} onClick={() => chat.speakWith(used ? null : voice.id)}>
          {used ? words.used : words.use}
        </button>
      )}
      {underWay(voice) && (
        <button className="plain" onClick={() => void live.change("DELETE", clone)}>
          {words.cancel}
        </button>
      )}
      {["failed", "cancelled"].includes(voice.status) && (
        <button className="plain" onClick={() => void live.change("POST", clone)}>
          {words.again}
        </button>
      )}
      <button
        className="small round plain more"
        aria-expanded={open}
        aria-controls={details}
        aria-label={words.more(voice.name)}
        title={words.more(voice.name)}
        onClick={() => setOpen(!open)}
      >
        <MoreIcon />
      </button>
      {open && (
        <div className="details" id={details}>
          <Details {...props} />
        </div>
      )}
    </li>
  );
}

function Details({ voice, chat, live, clip, strings }: Props) {
  const words = strings.voices;
  const path = pathOf(voice);
  const remove = async () => {
    if (confirm(words.sure(voice.name)) && (await live.change("DELETE", path)) && chat.voice === voice.id) chat.speakWith(null);
  };
  return (
    <>
      {voice.status === "ready" && <Preview voice={voice} live={live} clip={clip} strings={strings} />}
      {voice.status === "ready" && voice.quality && (
        <p>{findings(voice.quality).map(([name, number]) => words.findings[name](number)).join(" ")}</p>
      )}
      {voice.reference_text && (
        <p>
          {words.text}: “{voice.reference_text}”
        </p>
      )}
      <p>
        {words.agreed(voice.consent_date)} “{voice.consent_statement}”
      </p>
      <Rename voice={voice} live={live} words={words} />
      <div className="row">
        {voice.status === "ready" && !voice.is_default && (
          <button className="plain" onClick={() => void live.change("PATCH", path, { is_default: true })}>
            {words.makeDefault}
          </button>
        )}
        <button className="plain danger" onClick={() => void remove()}>
          {words.remove}
        </button>
      </div>
    </>
  );
}

function Preview({ voice, live, clip, strings }: Omit<Props, "chat">) {
  const words = strings.voices;
  const [text, setText] = useState(words.sample);
  const playing = clip.playing === voice.id;
  const speak = (event: FormEvent) => {
    event.preventDefault();
    if (playing) return clip.stop();
    const get = async () => (await request("POST", `${pathOf(voice)}/preview`, { text: text.trim() })).arrayBuffer();
    void live.attempt(() => clip.play(voice.id, get));
  };
  return (
    <form className="row" onSubmit={speak}>
      <input value={text} maxLength={500} required aria-label={words.sayThis} onChange={(event) => setText(event.target.value)} />
      <button className="filled" disabled={!text.trim()}>
        {playing ? <StopIcon /> : <PlayIcon />}
        {playing ? words.stop : words.speak}
      </button>
    </form>
  );
}

function Rename({ voice, live, words }: { voice: Voice; live: Live<Voices>; words: Strings["voices"] }) {
  const [name, setName] = useState(voice.name);
  const rename = (event: FormEvent) => {
    event.preventDefault();
    void live.change("PATCH", pathOf(voice), { name });
  };
  return (
    <form className="row" onSubmit={rename}>
      <input value={name} maxLength={80} required aria-label={words.name} onChange={(event) => setName(event.target.value)} />
      <button className="plain" disabled={!name.trim() || name.trim() === voice.name}>
        {words.rename}
      </button>
    </form>
  );
}

function facts(voice: Voice, words: Strings["voices"]): string {
  const step = underWay(voice) && (words.step as Record<string, string>)[voice.progress?.step ?? ""];
  const language = voice.language && new Intl.DisplayNames(document.documentElement.lang, { type: "language" }).of(voice.language);
  return [step || words.status[voice.status], language, voice.owner].filter(Boolean).join(" · ");
}

/** In the page's language where enrolment said what the recording lacks, else in the server's own words. */
function whyNot(voice: Voice, words: Strings["voices"]): string {
  const flaws = voice.quality?.flaws ?? [];
  return flaws.length > 0 ? flaws.map((flaw) => words.flaws[flaw]).join(" ") : (voice.problem ?? "");
}
