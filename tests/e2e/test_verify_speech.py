"""`avatar models verify` lets speech models speak and listens to them: real engines, through the real command."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.weights


@pytest.fixture
def models(tmp_path: Path, models_dir: Path) -> Path:
    """A folder with the transcriber alone, to put other models into."""
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "moonshine-tiny-en").symlink_to(models_dir / "moonshine-tiny-en")
    return folder


async def verify(models: Path, *arguments: str) -> tuple[int, str]:
    environment = {**os.environ, "AVATAR_MODELS_DIR": str(models), "AVATAR_STT__MODEL": "moonshine-tiny-en"}
    environment.pop("QWEN_TTS_MODELS_DIR", None)
    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).with_name("avatar")), "models", "verify", *arguments),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_speech_is_understood(models: Path) -> None:
    """The least human voice there is."""
    code, output = await verify(models, "espeak-ng")
    assert "espeak-ng: understood:" in output, output
    assert code == 0


@pytest.mark.parametrize(
    ("kind", "key", "folder"),
    [
        ("custom", "qwen3-tts-0.6b-custom", "Qwen/Qwen3-TTS-12Hz-0.6B-CustomVoice"),
        ("base", "qwen3-tts-1.7b-base", "Qwen/Qwen3-TTS-12Hz-1.7B-Base"),
    ],
)
async def test_a_model_that_hums_is_not_understood(models: Path, kind: str, key: str, folder: str) -> None:
    """All its files are what they should be; its weights are random. The base model clones first."""
    pytest.importorskip("torch", reason="the engine needs torch")
    from tests.tiny_qwen3 import make_weights

    (make_weights(models / folder, kind) / "preprocessor_config.json").write_text("{}", encoding="utf-8")
    code, output = await verify(models, key)
    assert f"{key}: copied by hand" in output, output
    assert f"{key}: not understood:" in output, output
    assert "of the words are wrong to moonshine" in output
    assert "said 'The weather is nice today" in output
    assert code == 1
    assert (await verify(models, key, "--no-listen"))[0] == 0


async def test_nobody_to_listen_says_nothing_of_the_model(models: Path) -> None:
    (models / "moonshine-tiny-en").unlink()
    code, output = await verify(models, "espeak-ng")
    assert "espeak-ng: not heard. " in output, output
    assert "avatar models fetch moonshine-tiny-en" in output
    assert code == 0


async def test_an_unknown_name_is_neither_model_nor_engine(models: Path) -> None:
    code, output = await verify(models, "espeak-nn")
    assert code == 1
    assert "espeak-nn" in output
