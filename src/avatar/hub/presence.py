"""Which models are on disk, told from names and sizes alone: cheap enough for every start.

Owns the layout of the models folder and the small manifest beside each model's files. Hashes nothing, fetches nothing,
imports no client of a hub.
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from avatar.hub import catalog
from avatar.hub.catalog import Model, ModelFile

MANIFEST = ".hub.json"
QWEN_TTS_DIR = "QWEN_TTS_MODELS_DIR"
"""Environment variable of earlier systems: the folder that holds `Qwen/`, when that is not the models folder."""


@dataclass(frozen=True)
class Recorded:
    """What was true of a file when it was fetched and checked."""

    size_bytes: int
    sha256: str
    source: str


def read_manifest(folder: Path) -> dict[str, Recorded]:
    """The records of `folder` by file name; empty when there are none, or when they cannot be read."""
    try:
        return {name: Recorded(**record) for name, record in json.loads((folder / MANIFEST).read_text("utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def home(models_dir: Path, model: Model) -> Path:
    """The folder that `model` is put into."""
    elsewhere = os.environ.get(QWEN_TTS_DIR) if model.folder.startswith("Qwen/") else None
    return (Path(elsewhere).expanduser() if elsewhere else models_dir) / (model.folder or model.key)


def candidates(models_dir: Path, model: Model) -> tuple[Path, ...]:
    """Folders that may hold `model`: its own first, then copies under the name of its repository."""
    return tuple(dict.fromkeys(_candidates(models_dir, model)))


def _candidates(models_dir: Path, model: Model) -> Iterator[Path]:
    own = home(models_dir, model)
    yield own
    if model.folder:
        yield own.parents[1] / own.name
    yield models_dir / model.key
    for repo in filter(None, (model.huggingface, model.modelscope)):
        yield models_dir / repo.partition("/")[2]
        yield models_dir / repo


def absent(folder: Path, model: Model) -> tuple[ModelFile, ...]:
    """Files of `model` that `folder` lacks, or has in another size than the catalog or the manifest says."""
    records = read_manifest(folder)

    def is_there(file: ModelFile) -> bool:
        recorded = records.get(file.name)
        expected = file.size_bytes or (recorded.size_bytes if recorded else None)
        try:
            size_bytes = (folder / file.name).stat().st_size
        except OSError:
            return False
        return size_bytes == expected if expected else size_bytes > 0

    return tuple(file for file in model.files if not is_there(file))


def locate(models_dir: Path, key: str) -> Path | None:
    """The folder that holds every file of model `key`, or None. Raises `SetupError` for an unknown key."""
    model = catalog.model(key)
    return next((folder for folder in candidates(models_dir, model) if not absent(folder, model)), None)


def present(models_dir: Path) -> dict[str, Path]:
    """Every model of the catalog that is on disk, with its folder."""
    located = ((key, locate(models_dir, key)) for key in catalog.MODELS)
    return {key: folder for key, folder in located if folder is not None}


def missing(models_dir: Path, keys: Iterable[str]) -> tuple[str, ...]:
    """Those of `keys` that are not on disk, in their order."""
    return tuple(key for key in keys if locate(models_dir, key) is None)


def local_ggufs(models_dir: Path) -> tuple[Path, ...]:
    """GGUF files that somebody put straight into the models folder, by name."""
    return tuple(sorted(path for path in models_dir.glob("*.gguf") if path.is_file()))
