// The controls of a running conversation: the talk button, the level, the mode, stop and end.

import type { VoiceChat } from "../hooks/useVoiceChat";
import type { Strings } from "../strings";
import { MicrophoneIcon, MutedIcon, StopIcon } from "./icons";
import { LevelMeter } from "./LevelMeter";
import { ModeSwitch } from "./ModeSwitch";
import { Orb } from "./Orb";

export function Dock({ chat, strings }: { chat: VoiceChat; strings: Strings }) {
  const busy = chat.status === "speaking" || chat.status === "thinking";
  return (
    <div className="dock">
      <ModeSwitch mode={chat.mode} strings={strings} onChange={chat.setMode} />
      <div className="talk">
        <TalkButton chat={chat} strings={strings} />
        <p className="status" role="status" data-status={chat.status}>
          {describe(chat, strings)}
        </p>
        <LevelMeter levels={chat.levels} label={strings.level} />
      </div>
      <div className="actions">
        <button className="stop" onClick={chat.interrupt} disabled={!busy} title={strings.stopTitle} aria-label={strings.stop}>
          <StopIcon />
          <span>{strings.stop}</span>
        </button>
        <button className="plain" onClick={chat.end}>
          {strings.end}
        </button>
      </div>
    </div>
  );
}

/** Hands-free: the microphone's switch. Push-to-talk: held while speaking (the space bar too: see useShortcuts). */
function TalkButton({ chat, strings }: { chat: VoiceChat; strings: Strings }) {
  const orb = <Orb status={chat.status} levels={chat.levels} />;
  if (chat.mode === "push_to_talk") {
    return (
      <button
        className="orb-button"
        data-talk="hold"
        aria-label={strings.hold}
        title={strings.hold}
        disabled={chat.state.link !== "open"}
        onPointerDown={(event) => {
          event.currentTarget.setPointerCapture(event.pointerId);
          void chat.press();
        }}
        onPointerUp={() => void chat.release()}
        onPointerCancel={() => void chat.release()}
        onContextMenu={(event) => event.preventDefault()}
      >
        {orb}
        <MicrophoneIcon />
      </button>
    );
  }
  const silent = chat.muted || !chat.microphoneOn;
  const label = silent ? strings.unmute : strings.mute;
  return (
    <button className="orb-button" aria-pressed={!silent} aria-label={label} title={label} onClick={() => void chat.toggleMute()}>
      {orb}
      {silent ? <MutedIcon /> : <MicrophoneIcon />}
    </button>
  );
}

function describe({ status, mode, muted, microphoneOn }: VoiceChat, { status: words, hintHold }: Strings): string {
  if (status !== "ready") return words[status];
  if (mode === "push_to_talk") return hintHold;
  return muted || !microphoneOn ? words.muted : words.listening;
}
