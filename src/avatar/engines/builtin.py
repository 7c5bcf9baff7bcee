"""The engines that come with AVATAR, best first in each stage, each built only when it is chosen.

Knows what each adapter's constructor takes; the adapters are imported inside the factories, because some of their
packages take a second to import and others are not installed.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from avatar.engines.base import Engine, Stage
from avatar.engines.registry import EngineSpec, Facts, Wish

Options = Mapping[str, Any]

WHISPER_ON_CPU = tuple(f"faster-whisper-{size}" for size in ("small", "base", "tiny", "large-v3-turbo", "medium"))
"""`small` first: the largest that transcribes faster than people speak on two cores."""
WHISPER_ON_GPU = tuple(
    f"faster-whisper-{size}" for size in ("large-v3-turbo", "large-v3", "medium", "small", "base", "tiny")
)

USUAL_WPM = 175
"""Where `speed_wpm` leaves a voice its own pace."""

VLLM_MIN_VRAM_BYTES = 8 << 30
"""A 7B model in 4 bits (5.6 GB) and a KV cache worth having."""
QWEN3_TTS_MIN_VRAM_BYTES = 6 << 30
"""The smaller model (1.8 GB), its codec (0.7 GB), and slots for some sessions (0.23 GB each)."""

F5_TTS_MIN_VRAM_BYTES = 3 << 30
"""The model in half precision and its vocoder (0.8 GB), what CUDA itself takes, and a clause at work."""


def _silero(weights: Path | None, options: Options) -> Engine:
    from avatar.engines.vad.silero import SileroVad

    return SileroVad()


def _smart_turn(weights: Path | None, options: Options) -> Engine:
    from avatar.engines.end_of_turn.smart_turn import SmartTurn

    assert weights is not None
    return SmartTurn(_only_file(weights, "*.onnx"))


def _moonshine(weights: Path | None, options: Options) -> Engine:
    from avatar.engines.stt.moonshine import Moonshine

    assert weights is not None
    return Moonshine(weights, threads=options["threads"] or 1)


def _faster_whisper(weights: Path | None, options: Options) -> Engine:
    from avatar.engines.stt.faster_whisper import FasterWhisper

    assert weights is not None
    return FasterWhisper(weights, device=options["device"], threads=options["threads"])


def _llama_cpp(weights: Path | None, options: Options) -> Engine:
    from avatar.engines.llm.llama_cpp import LlamaCpp

    assert weights is not None
    wanted = {name: options[name] for name in ("context_tokens", "slots", "threads", "gpu_layers")}
    return LlamaCpp(_only_file(weights, "*.gguf"), **wanted)


def _vllm(weights: Path | None, options: Options) -> Engine:
    from avatar.engines.llm.vllm import Vllm

    assert weights is not None
    wanted = {name: options[name] for name in ("context_tokens", "gpu_memory_fraction", "quantization")}
    return Vllm(weights, **wanted)


def _openai(weights: Path | None, options: Options) -> Engine:
    from avatar.engines.llm.openai_compatible import OpenAICompatible

    wanted = {name: options[name] for name in ("base_url", "model", "api_key", "context_tokens")}
    return OpenAICompatible(**wanted)


def _espeak(weights: Path | None, options: Options) -> Engine:
    from avatar.engines.tts.espeak import Espeak

    return Espeak(voice=options["voice"], speed_wpm=options["speed_wpm"])


def _openai_speech(weights: Path | None, options: Options) -> Engine:
    from avatar.engines.tts.openai_speech import OpenAISpeech

    wanted = ("base_url", "model", "voice", "api_key", "sample_rate_hz", "reference_audio")
    return OpenAISpeech(**{name: options[name] for name in wanted})


def _qwen3_tts(weights: Path | None, options: Options) -> Engine:
    from avatar.engines.tts.qwen3.adapter import Qwen3Tts

    assert weights is not None
    return Qwen3Tts(weights, voice=options["voice"], fp8=options["fp8"])


def _f5_tts(weights: Path | None, options: Options) -> Engine:
    from avatar.engines.tts.f5.adapter import F5Tts

    assert weights is not None
    return F5Tts(weights, steps=options["flow_steps"], speed=options["speed_wpm"] / USUAL_WPM)


def _kokoro(weights: Path | None, options: Options) -> Engine:
    from avatar.engines.tts.kokoro import Kokoro

    assert weights is not None
    return Kokoro(weights, voice=options["voice"], speed=options["speed_wpm"] / USUAL_WPM)


def _needs_address(stage: Stage) -> Callable[[Facts, Wish], str | None]:
    return lambda facts, wish: None if wish.options.get("base_url") else f"`{stage}.base_url` is not set"


def _needs_gpu(min_vram_bytes: int) -> Callable[[Facts, Wish], str | None]:
    def why_not(facts: Facts, wish: Wish) -> str | None:
        if wish.engine != "auto":
            return None  # who asks for it by name may run it on a CPU
        if facts.free_vram_bytes is None:
            return "there is no GPU"
        if facts.free_vram_bytes < min_vram_bytes:
            return f"it wants {min_vram_bytes >> 30} GiB of free GPU memory, {facts.free_vram_bytes >> 30} are free"
        return None

    return why_not


def _only_file(folder_or_file: Path, pattern: str) -> Path:
    """The weights' one file, when what is known of them is their folder."""
    if folder_or_file.is_dir():
        return next(iter(sorted(folder_or_file.glob(pattern))), folder_or_file)
    return folder_or_file


BUILTIN: tuple[EngineSpec, ...] = (
    EngineSpec("vad", "silero", _silero, ("faster_whisper", "onnxruntime"), praise="small, exact, in every language"),
    EngineSpec(
        "end_of_turn",
        "smart-turn",
        _smart_turn,
        ("onnxruntime",),
        ("smart-turn-v3",),
        takes="file",
        praise="hears whether a sentence is finished, in 23 languages",
    ),
    EngineSpec(
        "stt",
        "faster-whisper",
        _faster_whisper,
        ("faster_whisper",),
        WHISPER_ON_CPU,
        WHISPER_ON_GPU,
        takes="folder",
        praise="every language, and finds out which",
    ),
    EngineSpec(
        "stt",
        "moonshine",
        _moonshine,
        ("onnxruntime",),
        ("moonshine-tiny-en",),
        takes="folder",
        praise="the fastest on a CPU; English",
    ),
    EngineSpec("llm", "openai", _openai, ("openai",), praise="`llm.base_url` is set", why_not=_needs_address("llm")),
    EngineSpec(
        "llm",
        "vllm",
        _vllm,
        ("vllm",),
        ("qwen2.5-7b-instruct-awq",),
        takes="folder",
        praise="many sessions at once on the GPU",
        why_not=_needs_gpu(VLLM_MIN_VRAM_BYTES),
    ),
    EngineSpec(
        "llm",
        "llama.cpp",
        _llama_cpp,
        ("xllamacpp",),
        ("qwen3-1.7b-gguf", "smollm2-135m-instruct"),
        takes="file",
        begin_with="smollm2-135m-instruct",
        praise="in this process, on any machine",
    ),
    EngineSpec(
        "tts",
        "openai-speech",
        _openai_speech,
        ("openai",),
        praise="`tts.base_url` is set",
        why_not=_needs_address("tts"),
    ),
    EngineSpec(
        "tts",
        "qwen3-tts",
        _qwen3_tts,
        ("torch", "safetensors", "tokenizers"),
        tuple(f"qwen3-tts-{name}" for name in ("1.7b-custom", "0.6b-custom", "1.7b-base", "0.6b-base")),
        cloning_weights=("qwen3-tts-1.7b-base", "qwen3-tts-0.6b-base"),
        takes="folder",
        begin_with="qwen3-tts-0.6b-custom",
        praise="speaks from the first words of a text on, for many sessions at once on a GPU",
        why_not=_needs_gpu(QWEN3_TTS_MIN_VRAM_BYTES),
    ),
    EngineSpec(
        "tts",
        "f5-tts",
        _f5_tts,
        ("torch", "safetensors", "yaml", "rjieba", "pypinyin"),
        ("f5-tts-v1-base",),
        takes="folder",
        praise="speaks like a recording, in English and Chinese, a clause at a time on a GPU",
        why_not=_needs_gpu(F5_TTS_MIN_VRAM_BYTES),
    ),
    EngineSpec(
        "tts",
        "kokoro",
        _kokoro,
        ("onnxruntime", "espeakng_loader", "pypinyin"),
        ("kokoro-82m",),
        takes="folder",
        praise="a good voice on a CPU; English, Chinese and five more languages",
    ),
    EngineSpec(
        "tts", "espeak-ng", _espeak, ("espeakng_loader",), praise="speaks within a millisecond, in 100 languages"
    ),
)
