"""End-of-turn decisions, measured: how often a turn is taken too early, and how late when it is over.

    python benchmarks/endpointing.py run [end_threshold=0.6 ...]    the corpus through the real ears
    python benchmarks/endpointing.py dump                           what there is to decide on in each pause

`run` feeds every recording of `tests/corpus` to the real `Ears` (Silero, Smart Turn), faster than real time; time is
audio, so what a verdict takes to compute does not count. Chinese words are read from the script. `dump`
writes `.pytest_cache/endpointing/pauses.json`: for
each pause Smart Turn's probability after so much silence, and Moonshine's words. `endpointing_policies.py` tries
policies on it in milliseconds. What Smart Turn answered is kept there too, so a second run takes seconds.
"""

import asyncio
import hashlib
import json
import os
import pickle
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.corpus import utterances  # noqa: E402
from tests.corpus.sound import Recording, people, speak  # noqa: E402
from tests.fakes.stt import FakeSpeechToText  # noqa: E402

from avatar.conversation import ears  # noqa: E402
from avatar.conversation.overlap import Overlap  # noqa: E402
from avatar.conversation.utterance import Utterance  # noqa: E402
from avatar.core.audio import INPUT_RATE_HZ, Pcm, float_to_pcm16  # noqa: E402
from avatar.core.turn_events import Action, CommitTurn, DropReply, PrepareReply  # noqa: E402
from avatar.core.turns import TurnPolicy  # noqa: E402
from avatar.engines.base import Capabilities, EndOfTurn, SpeechToText  # noqa: E402
from avatar.engines.end_of_turn.smart_turn import SmartTurn  # noqa: E402
from avatar.engines.stt.moonshine import Moonshine  # noqa: E402
from avatar.engines.vad.silero import SileroVad  # noqa: E402
from avatar.settings import default_models_dir  # noqa: E402

CACHE = ROOT / ".pytest_cache" / "endpointing"
FRAME_MS = 32
SOON_MS = 250
"""Who goes on so soon after the decision makes one turn of it: no word of the reply was heard yet."""
STT_TIMEOUT_S = 30.0
ears.VERDICT_TIMEOUT_S = 30.0  # what a verdict takes does not count here
NEVER_MS = 1e9

# The silences a dump asks Smart Turn about: every frame at first, later every other.
SILENCES_MS = (*range(64, 800, FRAME_MS), *range(800, 1537, 2 * FRAME_MS))
TEXT_AT_MS = 128


class RememberingEndOfTurn:
    """Fills `EndOfTurn` with another, which it asks nothing twice."""

    name = "remembering"
    capabilities = Capabilities()

    def __init__(self, inner: EndOfTurn) -> None:
        self._inner = inner
        self._path = CACHE / "smart_turn.json"
        self._answers: dict[str, float] = json.loads(self._path.read_text()) if self._path.exists() else {}

    async def warm_up(self) -> None:
        await self._inner.warm_up()

    async def aclose(self) -> None:
        await self._inner.aclose()
        CACHE.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(self._answers))

    async def probability(self, pcm: Pcm) -> float:
        key = hashlib.blake2b(pcm[-8 * INPUT_RATE_HZ :].tobytes(), digest_size=16).hexdigest()
        if key not in self._answers:
            self._answers[key] = await self._inner.probability(pcm)
        return self._answers[key]


@dataclass
class Models:
    """The real ones, loaded."""

    vad: SileroVad
    end_of_turn: RememberingEndOfTurn
    stt: Moonshine


@asynccontextmanager
async def loaded() -> AsyncIterator[Models]:
    folder = Path(os.environ.get("AVATAR_MODELS_DIR") or default_models_dir())
    smart_turn = SmartTurn(folder / "smart-turn-v3" / "smart-turn-v3.2-cpu.onnx")
    models = Models(SileroVad(), RememberingEndOfTurn(smart_turn), Moonshine(folder / "moonshine-tiny-en"))
    engines = (models.vad, models.end_of_turn, models.stt)
    for engine in engines:
        await engine.warm_up()
    try:
        yield models
    finally:
        for engine in engines:
            await engine.aclose()


class Reader:
    """Stands for a transcriber of Chinese, for none is at hand: reads the script up to `now_ms`, less its last mark."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self.now_ms = 0.0
        self.stt = FakeSpeechToText(lambda _: self._said(), language="zh")

    def _said(self) -> str:
        said = [pause.said for pause in self._recording.pauses if pause.start_ms <= self.now_ms]
        over = self.now_ms >= self._recording.end_ms - FRAME_MS
        text = self._recording.name.rsplit(" [", 1)[0] if over else (said[-1] if said else "")
        return text.rstrip("，。？")


class Listener:
    """Real ears on one recording, frame by frame; it takes their turns as a session would."""

    def __init__(self, models: Models, policy: TurnPolicy, stt: SpeechToText) -> None:
        self._models = models
        self._stt = stt
        self._taken: list[Utterance] = []
        self.ears = ears.Ears(
            models.vad, models.end_of_turn, self._utterance, Overlap(lambda: None), policy, INPUT_RATE_HZ, self._act
        )
        self.commits: list[CommitTurn] = []
        self.paused = False

    def _utterance(self) -> Utterance:
        return Utterance(self._stt, None, STT_TIMEOUT_S)

    def _act(self, action: Action) -> None:
        match action:
            case PrepareReply():
                self.paused = True
            case DropReply():
                self.paused = False
            case CommitTurn():
                self.paused = False
                self.commits.append(action)
                self._taken.append(self.ears.take())

    async def frames(self, pcm: Pcm) -> AsyncIterator[float]:
        """Hear `pcm`; yields the time, in ms of audio, after each frame, when its verdict is in too."""
        samples = self._models.vad.frame_samples
        for number in range(1, pcm.size // samples + 1):
            self.ears.hear(float_to_pcm16(pcm[(number - 1) * samples : number * samples]))
            while self.ears.waits:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            yield float(number * FRAME_MS)

    async def aclose(self) -> None:
        await self.ears.aclose()
        for utterance in self._taken:
            await utterance.aclose()


def recordings() -> list[Recording]:
    """The corpus. espeak-ng never says the same twice to the sample, so what it said is kept until a script changes."""
    made_from = b"".join(path.read_bytes() for path in sorted((ROOT / "tests/corpus").glob("*.*")))
    kept = CACHE / f"corpus-{hashlib.blake2b(made_from, digest_size=8).hexdigest()}.pickle"
    if not kept.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(pickle.dumps([*map(speak, utterances()), *people()]))
    spoken: list[Recording] = pickle.loads(kept.read_bytes())
    return spoken


# --- run ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What became of a recording. `cut_offs`: turns taken while the speaker was not done; `heard`: those whose speaker
    went on later than `SOON_MS`, into the reply. `delay_ms`: from the true end to the decision; None: no turn was taken
    after it."""

    kind: str
    language: str
    name: str
    cut_offs: int
    heard: int
    delay_ms: float | None


def judge(recording: Recording, commits_ms: list[float]) -> Outcome:
    """Compare decisions with the truth."""
    late = [at_ms - recording.end_ms for at_ms in commits_ms if at_ms >= recording.end_ms]
    early = [at_ms for at_ms in commits_ms if not recording.may_end(at_ms)]
    heard = sum(at_ms + SOON_MS < pause.end_ms for at_ms in early for pause in recording.pauses if pause.holds(at_ms))
    about = recording.kind, recording.language, recording.name
    return Outcome(*about, len(early), heard, late[0] if late else None)


def table(outcomes: list[Outcome]) -> str:
    """Markdown: a row for each kind and language, and one for all."""
    groups: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[outcome.kind, outcome.language].append(outcome)
        groups["**all**", ""].append(outcome)
    head = "| kind | language | turns | taken early | cut off | never taken | delay p50 | p95 |"
    rows = [head, "|---|---|---|---|---|---|---|---|"]
    for (kind, language), group in sorted(groups.items()):
        delays_ms = [outcome.delay_ms for outcome in group if outcome.delay_ms is not None]
        p50, p95 = np.percentile(delays_ms, [50, 95]) if delays_ms else (np.nan, np.nan)
        early = sum(outcome.cut_offs > 0 for outcome in group)
        cut_off = sum(outcome.heard > 0 for outcome in group)
        missed = len(group) - len(delays_ms)
        rows.append(f"| {kind} | {language} | {len(group)} | {early} | {cut_off} | {missed} | {p50:.0f} | {p95:.0f} |")
    return "\n".join(rows)


async def run(policy: TurnPolicy) -> None:
    outcomes = []
    async with loaded() as models:
        for recording in recordings():
            reader = Reader(recording)
            listener = Listener(models, policy, models.stt if recording.language == "en" else reader.stt)
            async for reader.now_ms in listener.frames(recording.pcm):
                pass
            await listener.aclose()
            outcomes.append(judge(recording, [commit.at_ms for commit in listener.commits]))
    print(policy, f"\n\n{table(outcomes)}\n")
    for outcome in outcomes:
        if outcome.cut_offs or outcome.delay_ms is None:
            print(f"{outcome.cut_offs} cut off, {outcome.delay_ms} ms: {outcome.kind}, {outcome.name}")


# --- dump ---------------------------------------------------------------------------------------

# Every pause is noticed, and no turn ends in it.
ONLY_WATCH = TurnPolicy(eager_ms=64, eager_tries=10**6, silence_ms=NEVER_MS, ceiling_ms=NEVER_MS, max_turn_ms=NEVER_MS)


async def pauses(models: Models, recording: Recording) -> list[dict[str, Any]]:
    """Each pause that voice activity finds, with `probabilities` at `SILENCES_MS` as long as it lasts. Its truth is
    `mid`, `may_end` or `end`; `true_ms` is where the sound before it stopped. English `text` is what Moonshine heard;
    Chinese, for which no transcriber is at hand, the script without its last mark."""
    found: list[dict[str, Any]] = []
    listener, was_paused = Listener(models, ONLY_WATCH, models.stt), False
    async for now_ms in listener.frames(recording.pcm):
        if listener.paused and not was_paused:
            found.append(_pause(recording, now_ms - ONLY_WATCH.eager_ms))
        was_paused = listener.paused
        utterance = listener.ears.utterance
        if not was_paused or utterance is None:
            continue
        pause = found[-1]
        silence_ms = now_ms - pause["vad_ms"]
        pause["lasted_ms"] = silence_ms
        if silence_ms in SILENCES_MS:
            pause["probabilities"].append(await models.end_of_turn.probability(utterance.pcm))
        if silence_ms == TEXT_AT_MS and recording.language == "en":
            pause["text"] = (await utterance.listen()).text
        if silence_ms > SILENCES_MS[-1] and pause["truth"] == "end":
            break
    await listener.aclose()
    return found


def _pause(recording: Recording, vad_ms: float) -> dict[str, Any]:
    now_ms = vad_ms + ONLY_WATCH.eager_ms
    truth, true_ms, said = "mid", vad_ms, ""
    if now_ms >= recording.end_ms:
        truth, true_ms = "end", recording.end_ms
    for pause in recording.pauses:
        if pause.start_ms <= now_ms <= pause.end_ms:
            truth, true_ms, said = "may_end" if pause.may_end else "mid", pause.start_ms, pause.said.rstrip("，。？")
    about = {"kind": recording.kind, "language": recording.language, "name": recording.name}
    return about | {"truth": truth, "true_ms": true_ms, "vad_ms": vad_ms, "text": said, "probabilities": []}


async def dump() -> None:
    found = []
    async with loaded() as models:
        for number, recording in enumerate(recordings()):
            found.append(await pauses(models, recording))
            print(f"\r{number} {recording.name[:60]:60}", end="", file=sys.stderr)
    (CACHE / "pauses.json").write_text(json.dumps(found, ensure_ascii=False))


def main() -> None:
    what, *changes = sys.argv[1:] or ["run"]
    if what == "dump":
        asyncio.run(dump())
    else:
        named: dict[str, Any] = {name: float(value) for name, value in (change.split("=") for change in changes)}
        asyncio.run(run(replace(TurnPolicy(), **named)))


if __name__ == "__main__":
    main()
