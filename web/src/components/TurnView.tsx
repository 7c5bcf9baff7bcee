// One turn: what was said, what was answered (and heard), how long it took and where that time went.

import { heardLength, type Turn } from "../conversation";
import { explain, type Strings } from "../strings";
import { bars } from "../waterfall";
import type { ReplyMetrics, TraceSpan } from "../wire";
import { CallView } from "./CallView";
import { PlayIcon, StopIcon, WarningIcon } from "./icons";

const NBSP = "\u00a0";
const AT_A_GLANCE = {
  endpoint_ms: "endpoint",
  stt_ms: "stt",
  tools_ms: "tools",
  llm_ttft_ms: "llm_first_token",
  tts_ttfa_ms: "tts_first_audio",
} as const;

interface Props {
  turn: Turn;
  strings: Strings;
  busy: boolean;
  replaying: boolean;
  onReplay: () => void;
  onApprove: (callId: string, approve: boolean) => void;
}

export function TurnView({ turn, strings, busy, replaying, onReplay, onApprove }: Props) {
  const over = turn.state !== "open";
  return (
    <article className="turn" data-turn={turn.id} data-state={turn.state}>
      {turn.said && (
        <p className="said" data-final={turn.saidFinal}>
          <span className="sr-only">{strings.you}: </span>
          {turn.said}
        </p>
      )}
      {turn.calls.map((call) => (
        <CallView key={call.id} call={call} strings={strings} onApprove={(approve) => onApprove(call.id, approve)} />
      ))}
      {turn.reply ? <Reply turn={turn} strings={strings} /> : turn.saidFinal && !over && !turn.problem && <Dots />}
      {turn.problem && <TurnProblem code={turn.problem.code} detail={turn.problem.detail} strings={strings} />}
      {over && (turn.reply || turn.state === "interrupted") && (
        <footer className="facts">
          {turn.reply && (
            <button
              className="small round"
              onClick={onReplay}
              disabled={busy}
              title={replaying ? strings.stopReplay : strings.replay}
              aria-label={replaying ? strings.stopReplay : strings.replay}
            >
              {replaying ? <StopIcon /> : <PlayIcon />}
            </button>
          )}
          {turn.state === "interrupted" && <span className="tag">{strings.interrupted}</span>}
          {turn.metrics && <Metrics metrics={turn.metrics} strings={strings} />}
        </footer>
      )}
    </article>
  );
}

function Reply({ turn, strings }: { turn: Turn; strings: Strings }) {
  const cut = turn.state !== "open" && turn.state !== "completed" && turn.heard !== null;
  const heard = cut ? heardLength(turn.reply, turn.heard ?? "") : turn.reply.length;
  return (
    <p className="reply" data-open={turn.state === "open"}>
      <span className="sr-only">{strings.assistant}: </span>
      <span className="heard">{turn.reply.slice(0, heard)}</span>
      {heard < turn.reply.length && (
        <s className="unheard" title={strings.unheard}>
          {turn.reply.slice(heard)}
        </s>
      )}
    </p>
  );
}

function Metrics({ metrics, strings }: { metrics: ReplyMetrics; strings: Strings }) {
  const total = metrics.voice_to_voice_ms;
  const stages = Object.entries(AT_A_GLANCE).flatMap(([key, name]) => {
    const value = metrics[key as keyof typeof AT_A_GLANCE];
    return typeof value === "number" ? [`${strings.trace[name]} ${Math.round(value)}`.replaceAll(" ", NBSP)] : [];
  });
  const summary = (
    <>
      {typeof total === "number" && (
        <span title={strings.voiceToVoice}>
          <b className="latency">{Math.round(total)} ms</b> {strings.latency}
        </span>
      )}
      {stages.length > 0 && <small>{stages.join(" · ") + NBSP}ms</small>}
    </>
  );
  if (metrics.trace.length === 0) return <span className="metrics">{summary}</span>;
  return (
    <details className="trace">
      <summary className="metrics">{summary}</summary>
      <Waterfall trace={metrics.trace} strings={strings} />
    </details>
  );
}

function Waterfall({ trace, strings }: { trace: TraceSpan[]; strings: Strings }) {
  return (
    <ol className="waterfall" role="list" aria-label={strings.waterfall}>
      {bars(trace).map(({ name, ms, left, width }) => (
        <li key={name} data-stage={name}>
          <span>{strings.trace[name]}</span>
          <span className="lane" aria-hidden="true">
            <i style={{ left: `${left}%`, width: `${width}%` }} />
          </span>
          <span>{Math.round(ms)} ms</span>
        </li>
      ))}
    </ol>
  );
}

function TurnProblem({ code, detail, strings }: { code: string; detail: string | undefined; strings: Strings }) {
  const [what, todo] = explain(strings, code);
  return (
    <p className="problem" role="alert" data-code={code} title={detail}>
      <WarningIcon />
      <span>
        <b>{what}</b> {todo}
      </span>
    </p>
  );
}

const Dots = () => (
  <p className="dots" aria-hidden="true">
    <i />
    <i />
    <i />
  </p>
);
