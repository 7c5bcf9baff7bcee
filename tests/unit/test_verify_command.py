"""`avatar models verify` where an engine fails in a way of its own; with real engines it is tested in `tests/e2e`."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from avatar import scoring
from avatar.cli import models
from avatar.core.errors import EngineError, EngineFailed, EngineTimeout
from avatar.scoring import RoundTrip


@pytest.mark.parametrize("failure", [EngineTimeout("It took too long."), EngineFailed("It broke.")])
def test_one_engine_that_does_not_speak_is_told_of_and_ends_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: EngineError
) -> None:
    asked: list[str] = []

    async def round_trip(settings: object, engine: str, model: str | None = None) -> RoundTrip:
        asked.append(engine)
        raise failure

    monkeypatch.setattr(scoring, "round_trip", round_trip)
    monkeypatch.setenv("AVATAR_MODELS_DIR", str(tmp_path))
    result = CliRunner().invoke(models.app, ["verify", "espeak-ng", "openai-speech"])
    assert result.exit_code == 1
    assert asked == ["espeak-ng", "openai-speech"]
    assert f"openai-speech: openai-speech does not speak. {failure}" in result.output
