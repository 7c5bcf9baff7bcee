// A tool that was called for a reply: what is to be done, whether it may be, and, folded, what came of it.

import type { Call } from "../conversation";
import type { Strings } from "../strings";

interface Props {
  call: Call;
  strings: Strings;
  onApprove: (approve: boolean) => void;
}

export function CallView({ call, strings, onApprove }: Props) {
  const words = strings.calls;
  return (
    <div className="call" data-call={call.id} data-state={call.state}>
      <details>
        <summary>
          <span>
            {call.server && `${call.server} · `}
            <b>{call.name}</b>
          </span>
          <span className="state">{words.state[call.state]}</span>
        </summary>
        <pre>{call.arguments}</pre>
        {call.result && <pre className="result">{call.result}</pre>}
      </details>
      {call.state === "asking" && (
        <p className="choice">
          <code>{call.arguments}</code>
          <button className="plain" onClick={() => onApprove(false)}>
            {words.refuse}
          </button>
          <button className="filled" onClick={() => onApprove(true)}>
            {words.approve}
          </button>
        </p>
      )}
    </div>
  );
}
