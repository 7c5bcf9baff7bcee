"""Any server that speaks OpenAI's `/v1/audio/speech` as a `TextToSpeech`: vLLM-Omni (Qwen3-TTS, CosyVoice3) and others.

A piece of text is one request; its audio is given as it comes. Voices are cloned where the server takes a recording
with the request (`ref_audio`, vLLM-Omni's extension). The protocol tells no word times: marks are an estimate until the
piece has ended. Closing the generator closes the connection. Knows no settings.
"""

import base64
import io
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

import openai
import soundfile

from avatar.core.audio import Pcm, pcm16_to_float
from avatar.core.errors import EngineFailed
from avatar.core.voices import Reference
from avatar.engines.base import Capabilities, SpeechChunk
from avatar.engines.openai_server import HTTP_ERRORS, NONSENSE, Failures, connect, is_silence
from avatar.engines.tts.parts import LeadingSilence, Marker

logger = logging.getLogger(__name__)

_READ_BYTES = 4096  # 85 ms at 24 kHz
_OPENAI_VOICES = ("alloy", "ash", "ballad", "coral", "echo", "fable", "nova", "onyx", "sage", "shimmer", "verse")


@dataclass(frozen=True)
class _Voice:
    """What goes with each request to speak like a recording."""

    ref_audio: str = field(repr=False)
    ref_text: str = field(repr=False)


class OpenAISpeech:
    """A model on the server at `base_url` (which ends in `/v1` as a rule).

    `model` empty: the first it offers. `voice`: the default; empty: the server's first. `sample_rate_hz`: of its raw
    PCM, which does not say. `reference_audio`: whether it clones; `auto` asks the server for what vLLM-Omni tells.
    """

    conditioning_version = "openai-speech-1"

    def __init__(
        self,
        base_url: str,
        model: str = "",
        voice: str = "",
        api_key: str = "",
        sample_rate_hz: int = 24_000,
        reference_audio: Literal["auto", "on", "off"] = "auto",
        read_timeout_s: float = 30.0,
    ) -> None:
        self.sample_rate_hz = sample_rate_hz
        self._base_url = base_url
        self._model = model
        self._default = voice
        self._offered: tuple[str, ...] = ()
        self._clones = reference_audio == "on"
        self._asks_whether_it_clones = reference_audio == "auto"
        self._learned: dict[str, _Voice] = {}
        self._failures = Failures(base_url, read_timeout_s, "speech", "tts", "speech", "speech")
        self._client = connect(base_url, api_key, read_timeout_s)

    @property
    def name(self) -> str:
        return f"openai-speech ({self._model or 'any model'} at {urlsplit(self._base_url).netloc})"

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(streams=True, clones=self._clones, concurrent=16)

    @property
    def voices(self) -> tuple[str, ...]:
        own = dict.fromkeys(filter(None, (self._default, *(self._offered or _OPENAI_VOICES))))
        return (*own, *self._learned)

    async def warm_up(self) -> None:
        """Connect, and find model and voices. Raises `EngineFailed` when the server cannot be used as configured."""
        try:
            await self._find_model()
            await self._find_voices()
        except openai.APIError as error:
            raise EngineFailed(str(self._failures.meaning(error, self._model))) from error
        except NONSENSE:
            raise self._failures.nonsense() from None

    async def aclose(self) -> None:
        await self._client.close()

    async def speak(
        self, text: AsyncIterator[str], *, voice: str | None = None, language: str | None = None
    ) -> AsyncGenerator[SpeechChunk, None]:
        wanted = self._voice_fields(voice)
        marker = Marker(self.sample_rate_hz)
        try:
            async for piece in text:
                marker.begin(piece)
                if any(char.isalnum() for char in piece):
                    async with aclosing(self._say(piece, wanted)) as parts:
                        async for pcm in parts:
                            yield marker.chunk(pcm)
                yield marker.end()
        finally:
            if isinstance(text, AsyncGenerator):
                await text.aclose()

    async def condition(self, reference: Reference) -> bytes:
        """The recording itself, as the server takes it: the server is what conditions on it."""
        wav = io.BytesIO()
        soundfile.write(wav, reference.pcm, reference.rate_hz, format="WAV", subtype="PCM_16")
        audio = "data:audio/wav;base64," + base64.b64encode(wav.getvalue()).decode()
        return json.dumps({"ref_audio": audio, "ref_text": reference.text}).encode()

    def learn(self, voice: str, conditioning: bytes) -> None:
        try:
            found = _Voice(**json.loads(conditioning))
        except (ValueError, TypeError):
            raise EngineFailed("What was kept of this voice cannot be read: enrol it again.") from None
        self._learned[voice] = found

    def forget(self, voice: str) -> None:
        self._learned.pop(voice, None)

    def _voice_fields(self, voice: str | None) -> dict[str, Any]:
        """What a request says of the voice; fixed for a stream, whatever is forgotten meanwhile."""
        known = self._learned.get(voice or "")
        if known is None:
            return {"voice": voice if voice in self.voices else self.voices[0]}
        body: dict[str, Any] = {"ref_audio": known.ref_audio}
        # Without its text, Qwen3-TTS takes the speaker's vector alone.
        body |= {"ref_text": known.ref_text} if known.ref_text else {"x_vector_only_mode": True}
        return {"voice": self.voices[0], "extra_body": body}

    async def _say(self, text: str, voice: dict[str, Any]) -> AsyncGenerator[Pcm, None]:
        """float32[n] pieces of one utterance, without the silence before it. Raises what `base.py` promises."""
        given, leading = False, LeadingSilence(self.sample_rate_hz)
        try:
            async with aclosing(self._bytes(text, voice)) as blocks:
                async for block in blocks:
                    pcm = leading.strip(pcm16_to_float(block))
                    if pcm.size:
                        given = True
                        yield pcm
        except openai.APIError as error:
            raise (self._failures.lost() if given else self._failures.meaning(error, self._model)) from error
        except HTTP_ERRORS as error:
            raise (self._failures.lost() if given else self._failures.broken(error)) from error
        except NONSENSE as error:
            raise (self._failures.lost() if given else self._failures.nonsense()) from error
        if not given:
            raise self._failures.nonsense()

    async def _bytes(self, text: str, voice: dict[str, Any]) -> AsyncGenerator[bytes, None]:
        """Whole samples as they come. A request that found a connection closed is made once more."""
        for last in (False, True):
            try:
                async with self._client.audio.speech.with_streaming_response.create(
                    model=self._model, input=text, response_format="pcm", stream_format="audio", **voice
                ) as response:
                    if "json" in response.headers.get("content-type", ""):
                        raise ValueError("an answer in words")
                    rest = b""
                    async for block in response.iter_bytes(_READ_BYTES):
                        last = True
                        block = rest + block
                        whole = len(block) - len(block) % 2
                        rest = block[whole:]
                        yield block[:whole]
                return
            except openai.APIConnectionError as error:
                if last or is_silence(error):
                    raise

    async def _find_model(self) -> None:
        if self._model:
            return
        try:
            async for model in self._client.models.list():
                self._model = model.id
                return
        except openai.NotFoundError:  # not every server lists its models
            pass
        raise EngineFailed(f"The server at {self._base_url} offers no model: load one there, or set tts.model.")

    async def _find_voices(self) -> None:
        """Names of voices, where the server tells them, and whether it takes recordings (vLLM-Omni lists those)."""
        try:
            told = await self._client.get("/audio/voices", cast_to=dict[str, Any])
        except openai.APIStatusError as error:
            if error.status_code not in (404, 405, 501):
                raise
            return
        listed = [voice if isinstance(voice, str) else voice.get("id") or voice["name"] for voice in told["voices"]]
        self._offered = tuple(map(str, listed))
        self._clones = self._clones or (self._asks_whether_it_clones and "uploaded_voices" in told)
