"""The catalog holds together: what a profile, a file or a place refers to exists and can be used."""

import re
from pathlib import PurePosixPath

import pytest

from avatar.core.errors import SetupError
from avatar.hub import catalog
from avatar.hub.catalog import MODELS, PROFILES, Model

ALL_FILES = [(model, file) for model in MODELS.values() for file in model.files]


def test_profiles_name_models_that_exist() -> None:
    assert {key for keys in PROFILES.values() for key in keys} <= MODELS.keys()


@pytest.mark.parametrize(
    ("profile", "roles"),
    [("embedded", {"stt", "llm", "end_of_turn", "speaker"}), ("cpu", {"stt", "llm", "tts", "end_of_turn", "speaker"})],
)
def test_a_profile_covers_the_stages_that_need_weights(profile: catalog.Profile, roles: set[str]) -> None:
    assert {MODELS[key].role for key in PROFILES[profile]} == roles


def test_the_embedded_profile_needs_no_hub() -> None:
    files = [file for key in PROFILES["embedded"] for file in MODELS[key].files]
    assert all(file.package and file.sha256 and file.size_bytes for file in files)


@pytest.mark.parametrize(
    ("model", "file"), ALL_FILES, ids=lambda value: getattr(value, "key", getattr(value, "name", ""))
)
def test_a_file_can_be_had_somewhere_and_stays_in_its_folder(model: Model, file: catalog.ModelFile) -> None:
    assert file.repo or model.huggingface or file.package
    assert bool(file.package) == bool(file.member)
    assert file.sha256 is None or (re.fullmatch("[0-9a-f]{64}", file.sha256) and file.size_bytes)
    path = PurePosixPath(file.name)
    assert not path.is_absolute()
    assert ".." not in path.parts


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.key)
def test_a_model_says_how_large_it_is(model: Model) -> None:
    assert model.size_bytes > 0
    assert model.about_bytes or all(file.size_bytes for file in model.files)


def test_an_unknown_key_is_answered_with_the_known_ones() -> None:
    with pytest.raises(SetupError, match="smart-turn-v3"):
        catalog.model("smart-turn")
