// Models and engines: what is here and what serves, and changing both by a click.

import { useState } from "react";

import { type Live, useLive } from "../hooks/useLive";
import {
  ask,
  duration,
  INVENTORY,
  type Inventory,
  type Model,
  type Option,
  type Seat,
  size,
  underWay,
  type Validation,
  verdict,
} from "../models";
import type { Strings } from "../strings";
import { Panel } from "./Panel";

type Change = Live<Inventory>["change"];

export function ModelsPanel({ strings, onClose }: { strings: Strings; onClose: () => void }) {
  const live = useLive(INVENTORY);
  return (
    <Panel title={strings.models.title} problem={live.problem} strings={strings} onClose={onClose}>
      {live.found && <Lists inventory={live.found} strings={strings} live={live} />}
    </Panel>
  );
}

function Lists({ inventory, strings, live }: { inventory: Inventory; strings: Strings; live: Live<Inventory> }) {
  const { gpu } = inventory;
  return (
    <>
      <h3>
        {strings.models.engines}
        {gpu && <small>{strings.models.gpu(size(gpu.used_bytes), size(gpu.total_bytes))}</small>}
      </h3>
      <ul>
        {inventory.seats.map((seat) => (
          <SeatRow key={seat.stage} seat={seat} strings={strings} change={live.change} />
        ))}
      </ul>
      <h3>{strings.models.weights}</h3>
      <ul>
        {inventory.models.map((model) => (
          <ModelRow key={model.key} model={model} strings={strings} live={live} />
        ))}
      </ul>
    </>
  );
}

function SeatRow({ seat, strings, change }: { seat: Seat; strings: Strings; change: Change }) {
  const words = strings.models;
  const stage = (strings.stages as Record<string, string>)[seat.stage] ?? seat.stage;
  const path = `/api/engines/${seat.stage}`;
  const load = (choice: string) => {
    const [engine, model] = choice.split("\n");
    void change("POST", `${path}/load`, model ? { engine, model } : { engine });
  };
  const facts = [words.seat[seat.state], seat.vram_bytes ? words.vram(size(seat.vram_bytes)) : "", seat.problem ?? ""];
  return (
    <li data-stage={seat.stage} data-state={seat.state}>
      <div className="what">
        <b>{stage}</b>
        <small>{[seat.name, ...facts].filter(Boolean).join(" · ")}</small>
      </div>
      <select value="" aria-label={words.choose(stage)} disabled={seat.state === "loading"} onChange={(event) => load(event.target.value)}>
        <option value="" disabled>
          {words.change}
        </option>
        {seat.options.flatMap(choices).map(({ value, text, whyNot }) => (
          <option key={value} value={value} disabled={whyNot !== null} title={whyNot ?? ""}>
            {text}
          </option>
        ))}
      </select>
      {seat.state === "ready" && (
        <button className="plain" onClick={() => void change("POST", `${path}/unload`)}>
          {words.unload}
        </button>
      )}
    </li>
  );
}

/** An engine that takes weights is offered once with each model that is here. */
function choices({ engine, models, why_not }: Option) {
  const names = models.length > 0 ? models : [""];
  return names.map((model) => ({
    value: model ? `${engine}\n${model}` : engine,
    text: model ? `${engine}: ${model}` : engine,
    whyNot: why_not,
  }));
}

function ModelRow({ model, strings, live }: { model: Model; strings: Strings; live: Live<Inventory> }) {
  const words = strings.models;
  const { lines, validate } = useVerdict(model, words, live);
  const { download } = model;
  const active = underWay(download) || download?.state === "paused";
  const facts = [
    size(model.size_bytes),
    model.licence,
    model.vram_bytes ? words.vram(size(model.vram_bytes)) : "",
    model.state === "absent" ? "" : words.state[model.state],
  ];
  return (
    <li data-model={model.key} data-state={model.state}>
      <div className="what">
        <b title={model.path}>{model.title}</b>
        <small>{facts.filter(Boolean).join(" · ")}</small>
        {active && <progress value={download?.fraction ?? undefined} aria-label={model.title} />}
        {download && <small className="news">{told(download, words)}</small>}
        {(lines ?? model.problems).map((line) => (
          <small key={line} className="verdict">
            {line}
          </small>
        ))}
      </div>
      <Actions model={model} words={words} change={live.change} validate={validate} />
    </li>
  );
}

/** What a validation found, until another download or a deletion. */
function useVerdict(model: Model, words: Strings["models"], { attempt }: Live<Inventory>) {
  const [asked, setAsked] = useState<{ after: string | undefined; found: Validation | null } | null>(null);
  const after = model.download?.state;
  const validate = () => {
    setAsked({ after, found: null });
    void attempt(async () => {
      setAsked({ after, found: await ask<Validation>("POST", `/api/models/${model.key}/validate`) });
    }).then((succeeded) => succeeded || setAsked(null));
  };
  if (asked === null || asked.after !== after || model.state === "absent") return { lines: null, validate };
  return { lines: asked.found ? verdict(asked.found, words) : [words.validating], validate };
}

function told(download: NonNullable<Model["download"]>, words: Strings["models"]): string {
  const { state, bytes_per_s: rate, eta_s: left, message } = download;
  if (state === "done" || state === "cancelled") return "";
  const speed = state === "running" && rate ? `${size(rate)}/s` : "";
  const time = state === "running" && left ? words.left(duration(left)) : "";
  return [words.job[state], speed, time, message].filter(Boolean).join(" · ");
}

interface ActionsOf {
  model: Model;
  words: Strings["models"];
  change: Change;
  validate: () => void;
}

function Actions({ model, words, change, validate }: ActionsOf) {
  const path = `/api/models/${model.key}`;
  const button = (text: string, act: () => void) => (
    <button className="plain" onClick={act}>
      {text}
    </button>
  );
  const post = (verb: string) => () => void change("POST", `${path}/${verb}`);
  const download = () => {
    if (model.terms === null) post("download")();
    else if (confirm(words.accept(model.terms))) void change("POST", `${path}/download`, { accept_terms: true });
  };
  if (underWay(model.download)) return <>{button(words.pause, post("pause"))}{button(words.cancel, post("cancel"))}</>;
  if (model.download?.state === "paused")
    return <>{button(words.resume, post("resume"))}{button(words.cancel, post("cancel"))}</>;
  return (
    <>
      {model.state !== "present" && button(words.download, download)}
      {model.state !== "absent" && button(words.validate, validate)}
      {model.state !== "absent" &&
        model.used_by.length === 0 &&
        button(words.remove, () => {
          if (confirm(words.sure(model.title))) void change("DELETE", path);
        })}
    </>
  );
}
