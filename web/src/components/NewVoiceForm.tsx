// The form that brings a voice: a recording, whose it is, and that its owner agrees.

import { type ChangeEvent, type FormEvent, useState } from "react";

import type { Clip } from "../hooks/useClip";
import { explain, type Strings } from "../strings";
import { MAX_BYTES, MIN_S, type NewVoice } from "../voices";
import { PlayIcon, StopIcon } from "./icons";
import { VoiceRecorder } from "./VoiceRecorder";

const LANGUAGES = "en zh de fr es it pt nl pl ru ja ko hi ar tr".split(" ");
const CLIP = "new voice";

interface Props {
  strings: Strings;
  clip: Clip;
  onSend: (voice: NewVoice) => Promise<void>;
  onCancel: () => void;
}

export function NewVoiceForm({ strings, clip, onSend, onCancel }: Props) {
  const words = strings.voices;
  const [recording, setRecording] = useState<{ blob: Blob; title: string; own: boolean } | null>(null);
  const [fields, setFields] = useState({ name: "", language: "", referenceText: "", owner: "" });
  const [consents, setConsents] = useState(false);
  const [complaint, setComplaint] = useState("");
  const [sending, setSending] = useState(false);

  const take = (blob: Blob, title: string, own: boolean) => {
    setComplaint(blob.size > MAX_BYTES ? words.tooLarge : "");
    if (blob.size <= MAX_BYTES) setRecording({ blob, title, own });
  };
  const field = (name: keyof typeof fields) => ({
    value: fields[name],
    onChange: ({ target }: ChangeEvent<HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement>) =>
      setFields({ ...fields, [name]: target.value }),
  });
  const discard = () => {
    clip.stop();
    setRecording(null);
  };
  const send = async (event: FormEvent) => {
    event.preventDefault();
    if (!recording) return;
    clip.stop();
    setSending(true);
    await onSend({ recording: recording.blob, ...fields, consent: words.consent });
    setSending(false);
  };

  return (
    <form className="new-voice" aria-label={words.add} onSubmit={(event) => void send(event)}>
      {recording ? (
        <div className="row">
          <span className="what">{recording.title}</span>
          <Listen recording={recording.blob} clip={clip} words={words} />
          <button type="button" className="plain" onClick={discard}>
            {words.discard}
          </button>
        </div>
      ) : (
        <VoiceRecorder
          strings={strings}
          onRecorded={(blob, seconds) => {
            if (seconds < MIN_S) setComplaint(words.tooShort);
            else take(blob, words.recordingSeconds(seconds.toFixed(0)), true);
          }}
          onFile={(file) => {
            take(file, file.name, false);
            if (!fields.name) setFields({ ...fields, name: file.name.replace(/\.[^.]*$/, "").slice(0, 80) });
          }}
          onProblem={(code) => setComplaint(explain(strings, code).join(" "))}
        />
      )}
      {complaint && (
        <p className="warning" role="alert">
          {complaint}
        </p>
      )}
      <div className="fields">
        <label>
          <span>{words.name}</span>
          <input required maxLength={80} autoComplete="off" {...field("name")} />
        </label>
        <label>
          <span>{words.language}</span>
          <select {...field("language")}>
            <option value="">{words.detect}</option>
            <Languages />
          </select>
        </label>
        <label className="whole">
          <span>{words.text}</span>
          <textarea rows={2} maxLength={2000} placeholder={words.textHint} {...field("referenceText")} />
        </label>
        {recording?.own && fields.referenceText === "" && (
          <button type="button" className="plain whole" onClick={() => setFields({ ...fields, referenceText: words.passage })}>
            {words.usePassage}
          </button>
        )}
        <label className="whole">
          <span>{words.owner}</span>
          <input maxLength={80} autoComplete="off" {...field("owner")} />
        </label>
      </div>
      <label className="consent">
        <input type="checkbox" required checked={consents} onChange={(event) => setConsents(event.target.checked)} />
        {words.consent}
      </label>
      <div className="row end">
        <button type="button" className="plain" onClick={onCancel}>
          {words.cancel}
        </button>
        <button className="filled" disabled={!recording || sending}>
          {sending ? words.sending : words.save}
        </button>
      </div>
    </form>
  );
}

function Listen({ recording, clip, words }: { recording: Blob; clip: Clip; words: Strings["voices"] }) {
  const playing = clip.playing === CLIP;
  const listen = () => {
    if (playing) clip.stop();
    else clip.play(CLIP, () => recording.arrayBuffer()).catch(() => undefined); // what this browser cannot play, the server may read
  };
  return (
    <button type="button" className="plain" onClick={listen}>
      {playing ? <StopIcon /> : <PlayIcon />}
      {playing ? words.stop : words.listen}
    </button>
  );
}

function Languages() {
  const names = new Intl.DisplayNames(document.documentElement.lang, { type: "language" });
  return LANGUAGES.map((code) => (
    <option key={code} value={code}>
      {names.of(code)}
    </option>
  ));
}
