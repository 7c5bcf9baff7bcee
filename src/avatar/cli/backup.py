"""`avatar backup` and `avatar restore`: the database, the recordings and the voices as one file.

The database is copied as it stands at one moment, beside a server that goes on writing; then come the files that this
copy names, which are never changed once they have a name. Weights are not in it, nor the server's secret.
"""

import os
import sqlite3
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from avatar.core.errors import SetupError

DATABASE = "avatar.db"
AUDIO, VOICES = "audio", "voices"
"""The folders beside it, as `store/` and `app.py` name them."""
_TABLES = ("conversations", "turns", "voice_profiles")
_BUSY_TIMEOUT_S = 30.0


@dataclass
class Held:
    """What a backup holds; `missing` files were deleted while it was made."""

    conversations: int
    turns: int
    voices: int
    files: int = 0
    missing: int = 0


def back_up(data_dir: Path, target: Path) -> Held:
    """Write what `data_dir` holds to `target`, which appears whole or not at all. Raises `SetupError`."""
    if not (data_dir / DATABASE).is_file():
        raise SetupError(f"There is nothing to back up: {data_dir} has no {DATABASE}.")
    if target.exists():
        raise SetupError(f"{target} is there already; name another file.")
    with _failures("The backup was not made"), TemporaryDirectory(prefix=".backup-", dir=target.parent) as work:
        copy, packed = Path(work, DATABASE), Path(work, "packed")
        with closing(sqlite3.connect(data_dir / DATABASE, timeout=_BUSY_TIMEOUT_S)) as db:
            db.execute("VACUUM INTO ?", (str(copy),))
        packed.touch(0o600)
        with closing(sqlite3.connect(copy)) as db:
            held = Held(*(db.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in _TABLES))
            paths = list(_files(db, data_dir))
        with tarfile.open(packed, "w:gz", compresslevel=1) as archive:  # the recordings are packed already
            for path in paths:
                try:
                    _add(archive, path, str(path.relative_to(data_dir)))
                    held.files += 1
                except FileNotFoundError:
                    held.missing += 1
            _add(archive, copy, DATABASE)  # last: what was not restored whole has none
        with packed.open("rb") as written:
            os.fsync(written.fileno())
        packed.rename(target)
    return held


def restore(source: Path, data_dir: Path) -> None:
    """Unpack a backup into `data_dir`, which holds no conversations yet. Raises `SetupError`."""
    if (data_dir / DATABASE).exists():
        raise SetupError(
            f"{data_dir} holds conversations already. Move it away, or set AVATAR_DATA_DIR to a new folder."
        )
    os.umask(0o077)
    with _failures(f"{source} was not restored"), tarfile.open(source) as archive:
        if archive.getnames()[-1:] != [DATABASE]:
            raise SetupError(f"{source} is no backup that `avatar backup` made.")
        archive.extractall(data_dir, filter="data")


def _files(db: sqlite3.Connection, data_dir: Path) -> Iterator[Path]:
    """What the database names: recordings of turns, and the folders of voices."""
    for side in ("user_audio", "reply_audio"):
        for (name,) in db.execute(f"SELECT {side} FROM turns WHERE {side} IS NOT NULL"):
            yield data_dir / AUDIO / name
    for (voice_id,) in db.execute("SELECT id FROM voice_profiles"):
        yield from sorted(path for path in (data_dir / VOICES / voice_id).glob("[!.]*") if path.is_file())


def _add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    with path.open("rb") as file:
        entry = archive.gettarinfo(arcname=name, fileobj=file)
        entry.mode = 0o600
        archive.addfile(entry, file)


@contextmanager
def _failures(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error, tarfile.TarError, sqlite3.Error) as error:
        raise SetupError(f"{what}: {error}") from None
