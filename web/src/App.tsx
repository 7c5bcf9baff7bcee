// The page: header, conversation, controls.

import { useState } from "react";

import { Composer } from "./components/Composer";
import { ConversationsPanel } from "./components/ConversationsPanel";
import { Dock } from "./components/Dock";
import { BoxIcon, HistoryIcon, MoonIcon, PlusIcon, SunIcon, VoiceIcon } from "./components/icons";
import { ModelsPanel } from "./components/ModelsPanel";
import { ModeSwitch } from "./components/ModeSwitch";
import { Notice } from "./components/Notice";
import { Orb } from "./components/Orb";
import { TurnView } from "./components/TurnView";
import { VoicesPanel } from "./components/VoicesPanel";
import { type Appearance, useAppearance } from "./hooks/useAppearance";
import { useClip } from "./hooks/useClip";
import { useScrolledToEnd } from "./hooks/useScrolledToEnd";
import { useShortcuts } from "./hooks/useShortcuts";
import { useVoiceChat, type VoiceChat } from "./hooks/useVoiceChat";
import { request } from "./models";
import type { Strings } from "./strings";

const MAX_TEXT_CHARS = 8000; // until the server says what it takes

export function App() {
  const appearance = useAppearance();
  const chat = useVoiceChat();
  const { strings } = appearance;
  const { state } = chat;
  const holding = chat.mode === "push_to_talk";
  useShortcuts({
    interrupt: chat.interrupt,
    press: () => void (holding && chat.press()),
    release: () => void chat.release(),
  });

  return (
    <div className="page" data-status={chat.status} data-started={state.turns.length > 0 || chat.status !== "off"}>
      <Header chat={chat} appearance={appearance} />
      <main>
        {state.turns.length === 0 && chat.status === "off" ? (
          <Welcome chat={chat} strings={strings} />
        ) : (
          <Log chat={chat} strings={strings} />
        )}
      </main>
      <div className="bottom">
        {state.notice && <Notice problem={state.notice} strings={strings} onClose={chat.dismiss} />}
        {chat.status !== "off" && <Dock chat={chat} strings={strings} />}
        {chat.status === "off" && state.turns.length > 0 && (
          <button className="filled wide" onClick={() => void chat.start()}>
            {strings.resume}
          </button>
        )}
        <Composer
          strings={strings}
          limit={state.session?.limits.max_text_chars ?? MAX_TEXT_CHARS}
          onSend={(text) => void chat.sendText(text)}
        />
        <Engines engines={state.session?.engines ?? {}} strings={strings} />
      </div>
    </div>
  );
}

function Header({ chat, appearance }: { chat: VoiceChat; appearance: Appearance }) {
  const { strings, dark, switchTheme, switchLanguage } = appearance;
  const theme = dark ? strings.light : strings.dark;
  const [shows, show] = useState<"conversations" | "voices" | "models" | null>(null);
  const close = () => show(null);
  return (
    <header>
      <h1>
        <span className="mark" aria-hidden="true" />
        AVATAR
      </h1>
      <nav>
        {chat.state.turns.length > 0 && (
          <button className="plain" onClick={chat.forget} title={strings.newConversation} aria-label={strings.newConversation}>
            <PlusIcon />
          </button>
        )}
        <button
          className="plain"
          onClick={() => show("conversations")}
          title={strings.conversations.title}
          aria-label={strings.conversations.title}
        >
          <HistoryIcon />
        </button>
        <button className="plain" onClick={() => show("voices")} title={strings.voices.title} aria-label={strings.voices.title}>
          <VoiceIcon />
        </button>
        <button className="plain" onClick={() => show("models")} title={strings.models.title} aria-label={strings.models.title}>
          <BoxIcon />
        </button>
        <button className="plain" onClick={switchLanguage} lang={strings.other === "中文" ? "zh-CN" : "en"}>
          {strings.other}
        </button>
        <button className="plain" onClick={switchTheme} title={theme} aria-label={theme}>
          {dark ? <SunIcon /> : <MoonIcon />}
        </button>
      </nav>
      {shows === "conversations" && <ConversationsPanel chat={chat} strings={strings} onClose={close} />}
      {shows === "voices" && <VoicesPanel chat={chat} strings={strings} onClose={close} />}
      {shows === "models" && <ModelsPanel strings={strings} onClose={close} />}
    </header>
  );
}

function Welcome({ chat, strings }: { chat: VoiceChat; strings: Strings }) {
  return (
    <section className="welcome">
      <Orb status={chat.status} levels={chat.levels} />
      <h2>{strings.tagline}</h2>
      <p>{chat.mode === "live" ? strings.hint : strings.hintHold}</p>
      <ModeSwitch mode={chat.mode} strings={strings} onChange={chat.setMode} />
      <button className="filled wide" onClick={() => void chat.start()}>
        {strings.start}
      </button>
    </section>
  );
}

function Log({ chat, strings }: { chat: VoiceChat; strings: Strings }) {
  const { turns, speaking } = chat.state;
  const content = useScrolledToEnd();
  const clip = useClip();
  const listen = (id: string, recording: string) => {
    if (clip.playing === id) return clip.stop();
    const get = async () => (await request("GET", recording)).arrayBuffer();
    clip.play(id, get).catch(() => chat.complain({ code: "REPLAY_GONE" }));
  };
  return (
    <section ref={content} className="log" role="log" aria-label={strings.conversation}>
      {turns.length === 0 && <p className="hint">{chat.mode === "live" ? strings.hint : strings.hintHold}</p>}
      {turns.map((turn, n) => (
        <TurnView
          key={turn.id || `typed-${n}`}
          turn={turn}
          strings={strings}
          busy={speaking !== null}
          replaying={chat.replaying === turn.id || clip.playing === turn.id}
          onReplay={() => (turn.recording === null ? chat.toggleReplay(turn.id) : listen(turn.id, turn.recording))}
          onApprove={chat.approve}
        />
      ))}
    </section>
  );
}

function Engines({ engines, strings }: { engines: Record<string, string>; strings: Strings }) {
  const words: Record<string, string> = strings.stages;
  const list = Object.entries(engines);
  if (list.length === 0) return null;
  return (
    <p className="engines" title={strings.engines}>
      {list.map(([stage, engine]) => (
        <span key={stage}>
          {words[stage] ?? stage} <b title={engine}>{engine.split(" (")[0]}</b>
        </span>
      ))}
    </p>
  );
}
