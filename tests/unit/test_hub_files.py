"""A file gets its name only when it is what it should be; what is on disk is checked against catalog and manifest."""

import errno
import hashlib
from pathlib import Path

import pytest

from avatar.core.errors import SetupError
from avatar.hub import files, presence
from avatar.hub.catalog import Model, ModelFile
from avatar.hub.source import DiskFull
from avatar.hub.verify import check

DATA = b"weights"
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    path = tmp_path / "file.part"
    path.write_bytes(DATA)
    return path


@pytest.mark.parametrize(("size_bytes", "sha256"), [(len(DATA), SHA256), (len(DATA), None), (None, SHA256)])
def test_a_sound_file_is_renamed_and_recorded(
    temporary: Path, tmp_path: Path, size_bytes: int | None, sha256: str | None
) -> None:
    folder = tmp_path / "model"
    assert files.accept(temporary, folder, "sub/file", "package", size_bytes=size_bytes, sha256=sha256) is None
    assert (folder / "sub/file").read_bytes() == DATA
    assert not temporary.exists()
    assert presence.read_manifest(folder) == {"sub/file": presence.Recorded(len(DATA), SHA256, "package")}


@pytest.mark.parametrize(
    ("size_bytes", "sha256", "fault"),
    [
        (8, SHA256, "wrong size"),
        (8, None, "wrong size"),
        (len(DATA), "0" * 64, "wrong hash"),
        (None, "0", "wrong hash"),
    ],
)
def test_an_unsound_file_is_deleted_and_what_is_there_stays(
    temporary: Path, tmp_path: Path, size_bytes: int | None, sha256: str | None, fault: str
) -> None:
    (tmp_path / "file").write_bytes(b"before")
    assert files.accept(temporary, tmp_path, "file", "package", size_bytes=size_bytes, sha256=sha256) == fault
    assert (tmp_path / "file").read_bytes() == b"before"
    assert not temporary.exists()
    assert presence.read_manifest(tmp_path) == {}


def test_records_of_other_files_are_kept(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "part").write_bytes(DATA)
        files.accept(tmp_path / "part", tmp_path, name, "huggingface", size_bytes=None, sha256=None)
    assert presence.read_manifest(tmp_path).keys() == {"a", "b"}


def test_space_is_asked_for_with_some_to_spare(tmp_path: Path) -> None:
    files.require_space(tmp_path, 1_000, lambda _: 200_000_000)
    with pytest.raises(DiskFull, match="models_dir"):
        files.require_space(tmp_path, 1_000, lambda _: 50_000_000)
    assert files.free_bytes(tmp_path) > 0


def test_a_full_disk_is_told_from_other_troubles(tmp_path: Path) -> None:
    assert isinstance(files.disk_error(OSError(errno.ENOSPC, "full"), tmp_path), DiskFull)
    denied = files.disk_error(OSError(errno.EACCES, "Permission denied"), tmp_path)
    assert not isinstance(denied, DiskFull)
    assert isinstance(denied, SetupError)
    assert "Permission denied" in str(denied)


MODEL = Model(
    "tiny", "stt", "Tiny", "MIT", (ModelFile("pinned", len(DATA), SHA256), ModelFile("recorded"), ModelFile("neither"))
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("recorded", "pinned", "neither"):
        (tmp_path / name).write_bytes(DATA)
    (tmp_path / "recorded").rename(tmp_path / "part")
    files.accept(tmp_path / "part", tmp_path, "recorded", "modelscope", size_bytes=None, sha256=None)
    return tmp_path


def states(folder: Path) -> dict[str, str]:
    return {file.name: file.state for file in check(folder, MODEL).files}


def test_sound_files_are_ok_and_what_nothing_describes_is_unknown(folder: Path) -> None:
    assert states(folder) == {"pinned": "ok", "recorded": "ok", "neither": "unknown"}
    assert check(folder, MODEL).ok


@pytest.mark.parametrize("name", ["pinned", "recorded"])
@pytest.mark.parametrize(("data", "state"), [(b"wEights", "wrong hash"), (b"weight", "wrong size"), (None, "missing")])
def test_one_flipped_byte_is_found(folder: Path, name: str, data: bytes | None, state: str) -> None:
    (folder / name).unlink()
    if data is not None:
        (folder / name).write_bytes(data)
    assert states(folder)[name] == state
    assert [file.name for file in check(folder, MODEL).unsound] == [name]
    assert not check(folder, MODEL).ok
