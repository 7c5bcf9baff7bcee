"""What is on disk is told from names and sizes, in our layout and in folders copied by hand."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from avatar.hub import catalog, presence
from avatar.hub.catalog import Model, ModelFile

MODEL = Model(
    "tiny",
    "stt",
    "Tiny",
    "MIT",
    (ModelFile("model.bin", 4), ModelFile("voices/a.bin")),
    huggingface="org/Tiny-Repo",
    modelscope="mirror/Tiny-Repo",
)


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(catalog.MODELS, "tiny", MODEL)


def write(folder: Path, model: bytes = b"1234", voice: bytes = b"v") -> None:
    (folder / "voices").mkdir(parents=True)
    (folder / "model.bin").write_bytes(model)
    (folder / "voices/a.bin").write_bytes(voice)


@pytest.mark.parametrize("folder", ["tiny", "Tiny-Repo", "org/Tiny-Repo", "mirror/Tiny-Repo"])
def test_a_model_is_found_under_its_key_and_under_the_names_of_its_repositories(tmp_path: Path, folder: str) -> None:
    write(tmp_path / folder)
    assert presence.locate(tmp_path, "tiny") == tmp_path / folder
    assert presence.missing(tmp_path, ["tiny", "smart-turn-v3"]) == ("smart-turn-v3",)
    assert presence.present(tmp_path) == {"tiny": tmp_path / folder}


def test_our_own_folder_comes_before_a_copy(tmp_path: Path) -> None:
    write(tmp_path / "Tiny-Repo")
    write(tmp_path / "tiny")
    assert presence.locate(tmp_path, "tiny") == tmp_path / "tiny"


def test_an_incomplete_copy_does_not_hide_a_whole_one(tmp_path: Path) -> None:
    write(tmp_path / "tiny", model=b"12")
    write(tmp_path / "org/Tiny-Repo")
    assert presence.locate(tmp_path, "tiny") == tmp_path / "org/Tiny-Repo"


@pytest.mark.parametrize(("model", "voice"), [(b"123", b"v"), (b"1234", b"")])
def test_a_file_of_the_wrong_size_is_absent(tmp_path: Path, model: bytes, voice: bytes) -> None:
    write(tmp_path / "tiny", model, voice)
    assert presence.locate(tmp_path, "tiny") is None


def test_the_size_recorded_at_fetch_time_counts_where_the_catalog_has_none(tmp_path: Path) -> None:
    write(tmp_path / "tiny", voice=b"cut")
    manifest = tmp_path / "tiny" / presence.MANIFEST
    manifest.write_text(json.dumps({"voices/a.bin": {"size_bytes": 9, "sha256": "0" * 64, "source": "huggingface"}}))
    assert [file.name for file in presence.absent(tmp_path / "tiny", MODEL)] == ["voices/a.bin"]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"voices/a.bin": 1}', '{"voices/a.bin": {"size": 1}}'])
def test_a_damaged_manifest_counts_as_none(tmp_path: Path, text: str) -> None:
    write(tmp_path / "tiny")
    (tmp_path / "tiny" / presence.MANIFEST).write_text(text)
    assert presence.locate(tmp_path, "tiny") == tmp_path / "tiny"


def test_ggufs_put_straight_into_the_folder_are_found(tmp_path: Path) -> None:
    (tmp_path / "b.gguf").touch()
    (tmp_path / "a.gguf").touch()
    (tmp_path / "c.gguf.part").touch()
    (tmp_path / "folder.gguf").mkdir()
    assert presence.local_ggufs(tmp_path) == (tmp_path / "a.gguf", tmp_path / "b.gguf")


def test_no_folder_at_all_is_nothing_present(tmp_path: Path) -> None:
    assert presence.present(tmp_path / "none") == {}
    assert presence.local_ggufs(tmp_path / "none") == ()


def test_a_start_does_not_pay_for_the_hubs() -> None:
    program = "import sys, avatar.hub.presence; print({'huggingface_hub', 'aiohttp', 'filelock'} & set(sys.modules))"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "set()"
