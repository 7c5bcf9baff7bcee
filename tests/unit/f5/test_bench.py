"""The measuring measures: on a model of no size."""

from pathlib import Path

from avatar.engines.tts.f5.bench import measure


def test_each_text_is_timed(folder: Path, tmp_path: Path) -> None:
    told: list[str] = []
    measure(folder, tmp_path, ("Hello there.", "How are you today?"), 5, 2.0, "cpu", told.append)
    assert told[0].startswith("cpu, torch.float32, 5 steps; loaded in ")
    assert [line.partition(" s for ")[2].partition(": RTF ")[0] for line in told[1:]] == [
        "0.84 s of speech",
        "1.27 s of speech",
    ]
