"""The files of voices: `<root>/<voice id>/{source,reference.wav,embedding.f32}`, and what engines made of recordings.

A file is whole or not there: it is written beside its place, synced, and renamed. Blocking throughout; raises `OSError`
as the disk does. Ids given to it were made by the library; nothing a client names becomes a path.
"""

import hashlib
import io
import os
import re
import secrets
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from avatar.core.audio import Pcm
from avatar.core.errors import BufferLimit
from avatar.voices.embedding import DIMENSIONS, Vectors

REFERENCE_RATE_HZ = 24_000
"""What every cloning engine known here takes; the band above 12 kHz says nothing of a voice."""

_INCOMING, _CONDITIONING, _REMOVED = ".incoming", ".conditioning", ".removed"
_COPY_BYTES = 1 << 20


class VoiceFolder:
    """All of it belongs to the user the server runs as, and to nobody else."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def prepare(self, voices: Collection[str], conditioned: Collection[str]) -> None:
        """Make the folder, and clear what belongs to no voice: a crash left it."""
        for folder in (self._root, *(self._root / name for name in (_INCOMING, _CONDITIONING))):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for entry in (self._root / _INCOMING).iterdir():
            entry.unlink()
        for folder, known in ((self._root, voices), (self._root / _CONDITIONING, conditioned)):
            for entry in folder.iterdir():
                if not entry.name.startswith(".") and entry.name not in known:
                    shutil.rmtree(entry)

    def receive(self, file: BinaryIO, max_bytes: int) -> tuple[Path, str]:
        """Copy an upload to the disk: its place and its SHA-256. Raises `BufferLimit`."""
        path, digest, total = self._root / _INCOMING / secrets.token_hex(16), hashlib.sha256(), 0
        try:
            with path.open("xb") as out:
                while block := file.read(_COPY_BYTES):
                    total += len(block)
                    if total > max_bytes:
                        raise BufferLimit(f"The recording is larger than {max_bytes // 1_000_000} MB.")
                    digest.update(block)
                    out.write(block)
                out.flush()
                os.fsync(out.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path, digest.hexdigest()

    def take(self, voice_id: str, received: Path) -> None:
        """Make what was received the recording of a new voice."""
        (self._root / voice_id).mkdir(mode=0o700)
        os.replace(received, self._root / voice_id / "source")
        _sync(self._root / voice_id)
        _sync(self._root)

    def source(self, voice_id: str) -> bytes:
        """The recording as it was uploaded."""
        return (self._root / voice_id / "source").read_bytes()

    def save(self, voice_id: str, reference: Pcm, embedding: Vectors) -> None:
        """Save what enrolment made of the recording; `reference` at `REFERENCE_RATE_HZ`."""
        wav = io.BytesIO()
        soundfile.write(wav, reference, REFERENCE_RATE_HZ, format="WAV", subtype="PCM_16")
        _write(self._root / voice_id / "reference.wav", wav.getvalue())
        _write(self._root / voice_id / "embedding.f32", embedding.astype("<f4").tobytes())

    def reference_path(self, voice_id: str) -> Path:
        """Where the trimmed recording is."""
        return self._root / voice_id / "reference.wav"

    def reference(self, voice_id: str) -> Pcm:
        """The trimmed recording, float32[n] at `REFERENCE_RATE_HZ`."""
        pcm: Pcm = soundfile.read(self.reference_path(voice_id), dtype="float32")[0]
        return pcm

    def embedding(self, voice_id: str) -> Vectors:
        """float32[256]."""
        return np.fromfile(self._root / voice_id / "embedding.f32", "<f4", DIMENSIONS)

    def conditioning(self, key: str, engine: str) -> bytes | None:
        """What `engine` made of the recording `key`, if it has."""
        path = self._conditioning_path(key, engine)
        return path.read_bytes() if path.is_file() else None

    def save_conditioning(self, key: str, engine: str, data: bytes) -> None:
        """Keep it for the next start."""
        path = self._conditioning_path(key, engine)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        _write(path, data)

    def forget_conditioning(self, key: str) -> None:
        """Remove what every engine made of the recording `key`."""
        shutil.rmtree(self._root / _CONDITIONING / key, ignore_errors=True)

    def remove(self, voice_id: str, keep: bool) -> None:
        """Take a voice's files away; `keep` moves them to a folder that nothing reads."""
        folder = self._root / voice_id
        if keep and folder.is_dir():
            (self._root / _REMOVED).mkdir(mode=0o700, exist_ok=True)
            os.replace(folder, self._root / _REMOVED / voice_id)
        else:
            shutil.rmtree(folder, ignore_errors=True)

    def _conditioning_path(self, key: str, engine: str) -> Path:
        return self._root / _CONDITIONING / key / re.sub(r"[^A-Za-z0-9.-]", "_", engine)


def _write(path: Path, data: bytes) -> None:
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with beside.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """A rename is durable only once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
