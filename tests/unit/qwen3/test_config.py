"""What a model directory says of itself is taken, or refused by file and key."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from avatar.engines.tts.checkpoints import CheckpointError
from avatar.engines.tts.qwen3.config import Draw, ModelConfig, Sampling
from tests.unit.qwen3.conftest import GOLDEN_DIR

Json = dict[str, Any]
Change = Callable[[Json], object]


def changed(tmp_path: Path, kind: str, change: Change) -> Path:
    shutil.copytree(GOLDEN_DIR / kind, tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    change(content)
    file.write_text(json.dumps(content), encoding="utf-8")
    return tmp_path / "model"


def test_the_base_model() -> None:
    config = ModelConfig.load(GOLDEN_DIR / "base")
    assert (config.kind, config.size, config.takes_instructions) == ("base", "1b7", False)
    assert (config.talker.hidden, config.predictor.hidden, config.code_vocab) == (64, 32, 2048)
    assert config.languages == {"english": 2050, "chinese": 2055, "russian": 2069}
    assert config.speaker_encoder is not None
    assert config.sampling == Sampling()


def test_the_custom_voice_model() -> None:
    config = ModelConfig.load(GOLDEN_DIR / "custom")
    assert config.speakers == {"serena": 3066, "eric": 2875}
    assert config.dialects == {"eric": "sichuan_dialect"}
    assert config.speaker_encoder is None


@pytest.mark.parametrize(
    ("kind", "size", "takes"),
    [("custom_voice", "0b6", False), ("custom_voice", "1b7", True), ("voice_design", "1b7", True)],
)
def test_which_models_take_instructions(tmp_path: Path, kind: str, size: str, takes: bool) -> None:
    folder = changed(tmp_path, "custom", lambda c: c.update(tts_model_type=kind, tts_model_size=size))
    assert ModelConfig.load(folder).takes_instructions is takes


OPTIONAL = {
    "architectures",
    "model_type",
    "tokenizer_type",
    "hidden_act",
    "attention_bias",
    "rope_scaling",
    "num_code_groups",
}
"""What has one value that is supported: leaving it out is no contradiction."""


@pytest.mark.parametrize("place", [(), ("talker_config",), ("talker_config", "code_predictor_config")])
def test_every_key_that_is_needed_is_asked_for_by_name(tmp_path: Path, place: tuple[str, ...]) -> None:
    folder = changed(tmp_path, "custom", lambda c: None)
    file = folder / "config.json"
    original = file.read_text(encoding="utf-8")
    needed = section_of(json.loads(original), place).keys() - OPTIONAL
    assert len(needed) > 6
    for key in needed:
        content = json.loads(original)
        del section_of(content, place)[key]
        file.write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(CheckpointError, match=rf"config\.json: {'.'.join((*place, key))} is missing"):
            ModelConfig.load(folder)


def section_of(content: Json, place: tuple[str, ...]) -> Json:
    for key in place:
        content = content[key]
    return content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(model_type="qwen3"), "model_type is 'qwen3', and only 'qwen3_tts'"),
        (lambda c: c.update(tokenizer_type="25hz"), "tokenizer_type is '25hz'"),
        (lambda c: c.update(tts_model_type="singer"), "tts_model_type is 'singer'"),
        (lambda c: c.update(tts_model_size="7b"), "tts_model_size is '7b'"),
        (lambda c: c.update(im_end_token_id=275), r"im_end_token_id is 275, outside its table of 275 rows"),
        (lambda c: c.update(talker_config=[]), "talker_config must be of type dict"),
        (
            lambda c: c["talker_config"].update(hidden_size="64"),
            r"talker_config\.hidden_size must be of type int, not '64'",
        ),
        (lambda c: c["talker_config"].update(hidden_size=True), r"talker_config\.hidden_size must be of type int"),
        (lambda c: c["talker_config"].update(num_code_groups=32), r"talker_config\.num_code_groups is 32"),
        (lambda c: c["talker_config"].update(attention_bias=True), r"talker_config\.attention_bias is True"),
        (lambda c: c["talker_config"].update(codec_bos_id=-1), r"talker_config\.codec_bos_id is -1"),
        (lambda c: c["talker_config"].update(num_attention_heads=3), r"num_attention_heads is no multiple"),
        (lambda c: c["talker_config"]["rope_scaling"].update(rope_type="yarn"), r"rope_scaling\.rope_type is 'yarn'"),
        (lambda c: c["talker_config"]["spk_id"].update(ann=9999), r"talker_config\.spk_id\.ann is 9999"),
        (lambda c: c["talker_config"]["spk_is_dialect"].update(eric="wu"), r"eric names 'wu'"),
        (
            lambda c: c["talker_config"]["code_predictor_config"].update(hidden_act="relu"),
            r"predictor_config\.hidden_act",
        ),
    ],
)
def test_what_cannot_be_computed_is_refused(tmp_path: Path, change: Change, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        ModelConfig.load(changed(tmp_path, "custom", change))


def test_sampling_defaults_are_the_directorys(tmp_path: Path) -> None:
    folder = changed(tmp_path, "base", lambda c: None)
    file = folder / "generation_config.json"
    file.write_text(json.dumps({"temperature": 1, "subtalker_top_k": 7, "do_sample": False, "max_new_tokens": 100}))
    sampling = ModelConfig.load(folder).sampling
    assert sampling.talker == Draw(sample=False, temperature=1.0)
    assert sampling.predictor == Draw(top_k=7)
    assert sampling.max_frames == 99
    file.unlink()
    assert ModelConfig.load(folder).sampling == Sampling()


def test_files_that_are_no_json_are_named(tmp_path: Path) -> None:
    folder = changed(tmp_path, "base", lambda c: None)
    (folder / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"config\.json is not JSON"):
        ModelConfig.load(folder)
    (folder / "config.json").write_text("[]", encoding="utf-8")
    with pytest.raises(CheckpointError, match="must hold a JSON object"):
        ModelConfig.load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        ModelConfig.load(folder)
