"""Recordings on disk: `<root>/<conversation>/<turn>.{user,reply}.ogg`.

A change to files and the row that goes with it cannot be one transaction. So a folder in `<root>/.pending`, named for
the turn (or the conversation being deleted), exists from before the first change until after the commit; after a crash
`recover` looks only at what is named there, and asks the database which way it went. Blocking throughout; knows no
SQL. All ids given to it are of the form `records.new_id` makes.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from avatar.media.opus import encode_ogg_opus
from avatar.store.records import Recording, Side, is_id

SIDES: tuple[Side, ...] = ("user", "reply")


class AudioFolder:
    """The audio folder. Raises `OSError` as the disk does."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._pending = root / ".pending"

    def prepare(self) -> None:
        """Make the folder, readable by its owner alone."""
        for folder in (self._root, self._pending):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, name: str) -> Path:
        """Where the recording is that a row calls `name`."""
        return self._root / name

    def stage(self, conversation_id: str, turn_id: str, recordings: Mapping[Side, Recording]) -> None:
        """Encode and write to the pending folder, durably. A failure leaves nothing."""
        if not recordings:
            return
        pending = self._pending_turn(conversation_id, turn_id)
        pending.mkdir()
        try:
            for side, (pcm, rate_hz) in recordings.items():
                _write_durably(pending / f"{side}.ogg", encode_ogg_opus(pcm, rate_hz))
        except BaseException:
            shutil.rmtree(pending, ignore_errors=True)
            raise

    def place(self, conversation_id: str, turn_id: str, sides: Iterable[Side]) -> dict[Side, str]:
        """Move what was staged to where it stays, durably; the names that rows hold, by side."""
        names = {side: _name(conversation_id, turn_id, side) for side in sides}
        if names:
            folder = self._root / conversation_id
            folder.mkdir(mode=0o700, exist_ok=True)
            for side, name in names.items():
                os.replace(self._pending_turn(conversation_id, turn_id) / f"{side}.ogg", self._root / name)
            _sync(folder)
            _sync(self._root)
        return names

    def settle(self, conversation_id: str, turn_id: str, *, keep: bool) -> None:
        """The row is committed; or it is not coming, and what was placed goes. What cannot go is left to `recover`."""
        with suppress(OSError):
            if not keep:
                for side in SIDES:
                    (self._root / _name(conversation_id, turn_id, side)).unlink(missing_ok=True)
            shutil.rmtree(self._pending_turn(conversation_id, turn_id))

    def mark_deletion(self, conversation_id: str) -> None:
        """Say that the conversation's rows are about to go."""
        (self._pending / conversation_id).mkdir(exist_ok=True)

    def delete(self, conversation_id: str) -> None:
        """Its rows are gone: remove all recordings of a conversation."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self._root / conversation_id)
        (self._pending / conversation_id).rmdir()

    def recover(self, conversation_exists: Callable[[str], bool], turn_exists: Callable[[str], bool]) -> None:
        """After a crash: finish what was pending. Nobody may be saving meanwhile."""
        for pending in self._pending.iterdir():
            conversation_id, _, turn_id = pending.name.partition(".")
            if not is_id(conversation_id, "conv"):
                continue
            if is_id(turn_id, "turn"):
                self.settle(conversation_id, turn_id, keep=turn_exists(turn_id))
            elif conversation_exists(conversation_id):
                pending.rmdir()
            else:
                with suppress(OSError):  # it is tried again at the next start; the server need not fail for it
                    self.delete(conversation_id)

    def _pending_turn(self, conversation_id: str, turn_id: str) -> Path:
        return self._pending / f"{conversation_id}.{turn_id}"


def _name(conversation_id: str, turn_id: str, side: Side) -> str:
    return f"{conversation_id}/{turn_id}.{side}.ogg"


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """A rename is durable only once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
