// Where a recording comes from: the microphone, with something to read aloud, or a file.

import type { ChangeEvent } from "react";

import { useVoiceRecording } from "../hooks/useVoiceRecording";
import type { Strings } from "../strings";
import { MAX_S } from "../voices";
import { RecordIcon, StopIcon } from "./icons";
import { LevelMeter } from "./LevelMeter";

interface Props {
  strings: Strings;
  onRecorded: (recording: Blob, seconds: number) => void;
  onFile: (file: File) => void;
  /** Gets a code. */
  onProblem: (code: string) => void;
}

export function VoiceRecorder({ strings, onRecorded, onFile, onProblem }: Props) {
  const words = strings.voices;
  const recording = useVoiceRecording();
  const { seconds, levels } = recording;
  const record = async () => {
    const code = await recording.start(onRecorded);
    if (code) onProblem(code);
  };
  const choose = ({ target }: ChangeEvent<HTMLInputElement>) => {
    const file = target.files?.[0];
    if (file) onFile(file);
  };
  if (seconds !== null)
    return (
      <div className="recorder" data-recording="true">
        <p className="aside">{words.readAloud}</p>
        <blockquote>{words.passage}</blockquote>
        <div className="row">
          <button type="button" className="stop" onClick={() => recording.stop()}>
            <StopIcon />
            {words.stop}
          </button>
          <LevelMeter levels={levels} label={words.level} />
          <time>{`${seconds.toFixed(0)} / ${MAX_S} s`}</time>
        </div>
      </div>
    );
  return (
    <div className="recorder">
      <div className="row">
        <button type="button" className="outlined" onClick={() => void record()}>
          <RecordIcon />
          {words.record}
        </button>
        <label className="outlined file">
          <input type="file" accept="audio/*,video/webm,video/mp4,video/3gpp,video/quicktime,.flac,.ogg,.opus,.m4a,.mka,.amr,.caf" onChange={choose} />
          {words.file}
        </label>
      </div>
      <small>{words.fileHint}</small>
    </div>
  );
}
