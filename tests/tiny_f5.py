"""A small F5-TTS as a folder of files, as the official one comes; it hums."""

import json
from pathlib import Path

from avatar.engines.tts.f5.dit import Shape
from avatar.engines.tts.f5.made import make_model
from avatar.engines.tts.f5.vocos import VocosShape

GOLDEN_DIR = Path(__file__).parent / "data" / "f5"
SHAPE = Shape(symbols=125, width=128, layers=2, inner=256, text_width=32, text_layers=2, text_inner=64)
VOCOS_SHAPE = VocosShape(width=32, inner=64, layers=2)


def make_weights(folder: Path) -> Path:
    """Fill `folder` with the model the golden numbers are of."""
    vocabulary = json.loads((GOLDEN_DIR / "texts.json").read_text("utf-8"))["vocabulary"]
    return make_model(folder, SHAPE, VOCOS_SHAPE, vocabulary)
