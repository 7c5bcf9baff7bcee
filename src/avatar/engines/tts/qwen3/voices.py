"""A voice cloned from a recording, and a bounded memory of those: the same recording is never listened to twice.

Knows no files and no sessions.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from avatar.engines.tts.qwen3.checkpoint import Checkpoint
from avatar.engines.tts.qwen3.codec import DecoderSnapshot, DecoderState
from avatar.engines.tts.qwen3.codec.config import SAMPLE_RATE_HZ
from avatar.engines.tts.qwen3.config import CODE_GROUPS
from avatar.engines.tts.qwen3.prompt import Reference, Voice

SILENCE_S = 0.5
"""Put behind a reference recording, so that its last sound is not continued in the first word (faster-qwen3-tts)."""
MIN_S, MAX_S = 0.3, 60.0
"""Less says nothing of a voice; more would fill the positions that speech needs (official guide: 3 s will do)."""


@dataclass(frozen=True)
class Clone:
    """A voice, ready to speak: vector, and with a transcript the recording's codes and its words' tokens.

    `key` names what it was made of. `decoder`: its state behind the recording; None if there is none, or not yet.
    """

    key: str
    voice: Voice
    decoder: DecoderSnapshot | None = None


def content_key(wav: Tensor, transcript: str | None, exact: bool) -> str:
    """A name for what a clone is made of."""
    digest = hashlib.sha256(wav.float().cpu().numpy().tobytes())
    digest.update(repr((transcript, exact)).encode())
    return digest.hexdigest()


@torch.no_grad()
def clone(checkpoint: Checkpoint, wav: Tensor, transcript: str | None = None, *, exact: bool = False) -> Clone:
    """Make a voice of a recording: wav[n], 24 kHz, -1..1.

    With the words spoken in it the model imitates it more closely, but needs text in clauses. `exact`: nothing is
    appended, as the official package does it. Raises `ValueError` for a model or a recording that does not do.
    """
    if checkpoint.speaker_encoder is None:
        raise ValueError("This model cannot clone voices; a base model can.")
    if not MIN_S * SAMPLE_RATE_HZ <= len(wav) <= MAX_S * SAMPLE_RATE_HZ:
        raise ValueError(f"A voice is made of {MIN_S} to {MAX_S:.0f} s of audio, not {len(wav) / SAMPLE_RATE_HZ:.1f}.")
    key = content_key(wav, transcript, exact)
    wav = wav.to(checkpoint.talker.codec_embedding.device, torch.float32)
    speaker = checkpoint.speaker_encoder(wav)
    if transcript is None:
        return Clone(key, checkpoint.prompter.clone(speaker))
    silence = wav.new_zeros(0 if exact else int(SILENCE_S * SAMPLE_RATE_HZ))
    codes = checkpoint.encoder(torch.cat([wav, silence])[None])[0]
    return Clone(key, checkpoint.prompter.clone(speaker, codes.T, transcript), state_after(checkpoint, codes))


@torch.no_grad()
def state_after(checkpoint: Checkpoint, codes: Tensor) -> DecoderSnapshot:
    """The decoder's state when codes[16, T] have been spoken."""
    decoder, slots = checkpoint.decoder, torch.zeros(1, dtype=torch.int64, device=codes.device)
    state = DecoderState.allocate(decoder.config, 1, codes.device)
    for part in torch.split(codes[None], 32, -1):
        decoder.step(part, state, slots)
    return state.snapshot(0)


class CloneCache:
    """The clones used last, at most `size` of them. An entry with a 10 s reference takes about 6 MB."""

    def __init__(self, checkpoint: Checkpoint, size: int = 32) -> None:
        self._checkpoint = checkpoint
        self._size = size
        self._clones: OrderedDict[str, Clone] = OrderedDict()

    def __len__(self) -> int:
        return len(self._clones)

    def clone(self, wav: Tensor, transcript: str | None = None, *, exact: bool = False) -> Clone:
        """`clone`, or what it gave for the same recording and words."""
        key = content_key(wav, transcript, exact)
        made = self._clones.get(key) or clone(self._checkpoint, wav, transcript, exact=exact)
        self._clones[key] = made
        self._clones.move_to_end(key)
        while len(self._clones) > self._size:
            self._clones.popitem(last=False)
        return made


def to_bytes(made: Clone) -> bytes:
    """A clone to keep: a few kilobytes."""
    assert made.voice.speaker is not None
    kept = {"speaker": made.voice.speaker.float().cpu()}
    if made.voice.reference is not None:
        kept["codes"] = made.voice.reference.codes.to("cpu", torch.int16).contiguous()
        kept["text_ids"] = torch.tensor(made.voice.reference.text_ids, dtype=torch.int32)
    return safetensors.torch.save(kept)


@torch.no_grad()
def from_bytes(checkpoint: Checkpoint, data: bytes) -> Clone:
    """The clone that `to_bytes` was given, for the same model, without its decoder's state, which takes time to make.

    Raises `ValueError` on anything else.
    """
    try:
        kept = safetensors.torch.load(data)
    except SafetensorError:
        raise ValueError("This is no voice that was kept.") from None
    speaker, codes, text_ids = (kept.get(name) for name in ("speaker", "codes", "text_ids"))
    width, device = checkpoint.config.talker.hidden, checkpoint.talker.codec_embedding.device
    if speaker is None or speaker.shape != (width,):
        raise ValueError(f"This is no voice of a model of width {width}.")
    key = hashlib.sha256(data).hexdigest()
    if codes is None or text_ids is None:
        return Clone(key, Voice(speaker.to(device)))
    top = checkpoint.config.code_vocab
    if (
        codes.ndim != 2
        or codes.shape[1] != CODE_GROUPS
        or not len(codes)
        or not 0 <= int(codes.min()) <= int(codes.max()) < top
    ):
        raise ValueError("This is no recording's codes.")
    codes = codes.to(device, torch.int64)
    reference = Reference(codes, tuple(text_ids.tolist()))
    return Clone(key, Voice(speaker.to(device), reference=reference))
