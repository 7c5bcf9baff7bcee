import { type Mode, MODES } from "../hooks/useVoiceChat";
import type { Strings } from "../strings";

export function ModeSwitch({ mode, strings, onChange }: { mode: Mode; strings: Strings; onChange: (mode: Mode) => void }) {
  return (
    <fieldset className="modes">
      <legend className="sr-only">{strings.mode}</legend>
      {MODES.map((value) => (
        <label key={value}>
          <input type="radio" name="mode" value={value} checked={mode === value} onChange={() => onChange(value)} />
          <span>{strings[value]}</span>
        </label>
      ))}
    </fieldset>
  );
}
