"""The choice of engines, as a pure function: nothing is installed and no weights are there."""

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from avatar.core.errors import SetupError
from avatar.engines import registry
from avatar.engines.base import STAGES, Stage
from avatar.engines.builtin import BUILTIN, F5_TTS_MIN_VRAM_BYTES, QWEN3_TTS_MIN_VRAM_BYTES, VLLM_MIN_VRAM_BYTES
from avatar.engines.registry import (
    ENTRY_POINTS,
    Choice,
    EngineSpec,
    Facts,
    Wish,
    choose,
    installed_packages,
    plug_ins,
)
from avatar.hub.catalog import PROFILES

ALL = frozenset(package for spec in BUILTIN for package in spec.packages)
EMBEDDED = {key: Path(key) for key in ("moonshine-tiny-en", "smollm2-135m-instruct", "smart-turn-v3")}


def pick(stage: Stage, wish: Wish = Wish(), facts: Facts = Facts(ALL - {"vllm"}, EMBEDDED)) -> Choice:  # noqa: B008
    return choose(stage, wish, facts, BUILTIN)


def test_the_embedded_default() -> None:
    names = [pick(stage).spec.name for stage in STAGES]
    assert names == ["silero", "smart-turn", "moonshine", "llama.cpp", "espeak-ng"]


def test_faster_whisper_is_the_default_once_its_weights_are_there() -> None:
    facts = Facts(ALL, {**EMBEDDED, "faster-whisper-tiny": Path("t"), "faster-whisper-small": Path("s")})
    choice = pick("stt", facts=facts)
    assert (choice.spec.name, choice.weights) == ("faster-whisper", Path("s"))
    assert ("moonshine", "faster-whisper comes first") in choice.rejected


def test_a_gpu_prefers_the_larger_whisper() -> None:
    weights = {"faster-whisper-small": Path("s"), "faster-whisper-large-v3-turbo": Path("l")}
    assert pick("stt", facts=Facts(ALL, weights, free_vram_bytes=8 << 30)).weights == Path("l")


@pytest.mark.parametrize(
    ("free", "name"), [(None, "llama.cpp"), (VLLM_MIN_VRAM_BYTES - 1, "llama.cpp"), (40 << 30, "vllm")]
)
def test_vllm_serves_on_a_gpu_with_room(free: int | None, name: str) -> None:
    facts = Facts(ALL, {**EMBEDDED, "qwen2.5-7b-instruct-awq": Path("q")}, free_vram_bytes=free)
    assert pick("llm", facts=facts).spec.name == name


@pytest.mark.parametrize(
    ("engine", "weights", "least_bytes", "package"),
    [
        ("qwen3-tts", "qwen3-tts-0.6b-custom", QWEN3_TTS_MIN_VRAM_BYTES, "tokenizers"),
        ("f5-tts", "f5-tts-v1-base", F5_TTS_MIN_VRAM_BYTES, "rjieba"),
    ],
)
def test_speech_on_a_gpu_wants_weights_and_room_and_by_name_also_runs_without(
    engine: str, weights: str, least_bytes: int, package: str
) -> None:
    here = {weights: Path(weights)}
    choice = pick("tts", facts=Facts(ALL, here, free_vram_bytes=least_bytes))
    assert (choice.spec.name, choice.weights) == (engine, Path(weights))
    for why, facts in (
        ("there is no GPU", Facts(ALL, here)),
        (f"it wants {least_bytes >> 30} GiB", Facts(ALL, here, free_vram_bytes=least_bytes - 1)),
        (f"no weights; `avatar models fetch {weights}`", Facts(ALL, free_vram_bytes=80 << 30)),
        (f"the package {package} is not installed", Facts(ALL - {package}, here, free_vram_bytes=80 << 30)),
    ):
        choice = pick("tts", facts=facts)
        assert choice.spec.name == "espeak-ng"
        assert dict(choice.rejected)[engine].startswith(why)
    assert pick("tts", Wish(engine), Facts(ALL, here)).spec.name == engine
    with pytest.raises(SetupError, match="no weights"):
        pick("tts", Wish(engine), Facts(ALL))


@pytest.mark.parametrize(("has_voices", "weights"), [(False, "custom"), (True, "base")])
def test_qwen3_tts_has_voices_of_its_own_until_somebody_brings_one(has_voices: bool, weights: str) -> None:
    here = {key: Path(key) for key in PROFILES["gpu"]}
    facts = Facts(ALL, here, free_vram_bytes=40 << 30, has_voices=has_voices)
    assert pick("tts", facts=facts).weights == Path(f"qwen3-tts-0.6b-{weights}")


def test_an_address_beats_local_models() -> None:
    assert pick("llm", Wish(options={"base_url": "http://localhost:1/v1"})).spec.name == "openai"


def test_every_reason_is_given_when_nothing_can_serve() -> None:
    with pytest.raises(SetupError) as raised:
        pick("stt", facts=Facts(ALL - {"faster_whisper"}))
    assert "faster_whisper is not installed" in str(raised.value)
    assert "avatar models fetch moonshine-tiny-en" in str(raised.value)


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(SetupError, match=r"auto, faster-whisper, moonshine\."):
        pick("stt", Wish("whisperx"))


def test_a_named_engine_that_cannot_run_is_an_error_not_a_fall_back() -> None:
    with pytest.raises(SetupError, match="no weights") as raised:
        pick("stt", Wish("faster-whisper"))
    assert "moonshine" not in str(raised.value)


def test_a_model_by_key_by_path_and_not_at_all(tmp_path: Path) -> None:
    gguf = tmp_path / "mine.gguf"
    gguf.touch()
    assert pick("llm", Wish(model="smollm2-135m-instruct")).weights == Path("smollm2-135m-instruct")
    assert pick("llm", Wish(model=str(gguf))).weights == gguf
    assert pick("llm", Wish(model="mine.gguf"), Facts(ALL, files={"mine.gguf": gguf})).weights == gguf
    assert pick("stt", Wish(model="moonshine-tiny-en")).spec.name == "moonshine"
    with pytest.raises(SetupError, match="avatar models fetch qwen3"):
        pick("llm", Wish(model="qwen3-1.7b-gguf"))
    with pytest.raises(SetupError, match="cannot use `no-such-model`"):
        pick("llm", Wish(model="no-such-model"))


def test_availability_is_probed_without_importing() -> None:
    import sys

    before = set(sys.modules)
    assert "onnxruntime" in installed_packages(BUILTIN)
    assert "xllamacpp" not in set(sys.modules) - before


def test_a_package_inside_one_that_is_missing_is_missing() -> None:
    spec = EngineSpec("stt", "nested", BUILTIN[0].build, ("no_such_package.part", "json.decoder"))
    assert installed_packages([spec]) == {"json.decoder"}


def test_a_broken_plug_in_costs_nobody_else_their_engine(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = EntryPoint("broken", "no_such_package:SPEC", ENTRY_POINTS)
    good = EntryPoint("good", "avatar.engines.builtin:BUILTIN", ENTRY_POINTS)
    monkeypatch.setattr(registry, "entry_points", lambda group: (broken, good))
    assert len(plug_ins()) == 1
    assert "no_such_package:SPEC" in caplog.text
