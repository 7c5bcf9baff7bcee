import type { Problem } from "../conversation";
import { explain, type Strings } from "../strings";
import { CloseIcon, WarningIcon } from "./icons";

/** A problem that belongs to no turn: what happened, what to do, and the server's own words where it had any. */
export function Notice({ problem, strings, onClose }: { problem: Problem; strings: Strings; onClose: () => void }) {
  const [what, todo] = explain(strings, problem.code);
  return (
    <div className="notice" role="alert" data-code={problem.code}>
      <WarningIcon />
      <p>
        <b>{what}</b> {todo}
        {problem.detail && <small>{problem.detail}</small>}
      </p>
      <button className="small round" onClick={onClose} aria-label={strings.close} title={strings.close}>
        <CloseIcon />
      </button>
    </div>
  );
}
