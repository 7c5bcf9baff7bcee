"""A Kokoro of no size: an ONNX graph with the real one's inputs and outputs, voices and alphabet, that hums.

It hums 62.5 ms a sound at a pitch that depends on the voice, after 0.1 s of silence.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

ALPHABET = (
    ';:,.!?—…"()“” \u0303ʣʥʦʨᵝꭧAIOQSTWYᵊabcdefhijklmnopqrstuvwxy'
    "zɑɐɒæβɔɕçɖðʤəɚɛɜɟɡɥɨɪʝɯɰŋɳɲɴøɸθœɹɾɻʁɽʂʃʈʧʊʋʌɣɤχʎʒʔˈˌːʰʲ↓→↗↘ᵻ"
)
"""The sounds that Kokoro 1.0 knows."""

VOICES = ("af_heart", "am_michael", "bf_emma", "zf_xiaoxiao", "ff_siwis", "jf_alpha")
SAMPLES_PER_SOUND = 1500


def make_weights(folder: Path) -> Path:
    """Fill `folder` as the hub would."""
    (folder / "onnx").mkdir(parents=True)
    (folder / "voices").mkdir()
    vocabulary = {sound: token for token, sound in enumerate(ALPHABET, 1)}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}), "utf-8")
    (folder / "config.json").write_text("{}")
    for number, voice in enumerate(VOICES):
        np.full((510, 1, 256), 0.05 * number, "<f4").tofile(folder / "voices" / f"{voice}.bin")
    save(_model(), folder / "onnx" / "model_quantized.onnx")
    return folder


def _model() -> Any:
    def constant(name: str, value: object, dtype: type) -> object:
        return numpy_helper.from_array(np.array(value, dtype), name)

    constants = [
        constant("one", 1, np.int64),
        constant("zero_f", 0, np.float32),
        constant("one_f", 1, np.float32),
        constant("per_sound", SAMPLES_PER_SOUND, np.float32),
        constant("step", 2 * np.pi * 220 / 24_000, np.float32),
        constant("lead", 2400, np.float32),
        constant("loudness", 0.3, np.float32),
        constant("first", [0], np.int64),
    ]
    nodes = [
        helper.make_node("Shape", ["input_ids"], ["shape"]),
        helper.make_node("Gather", ["shape", "one"], ["count"]),
        helper.make_node("Cast", ["count"], ["count_f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["count_f", "per_sound"], ["samples"]),
        helper.make_node("Squeeze", ["speed"], ["speed_scalar"]),
        helper.make_node("Div", ["samples", "speed_scalar"], ["length"]),
        helper.make_node("Range", ["zero_f", "length", "one_f"], ["time"]),
        helper.make_node("ReduceMean", ["style"], ["mean"], keepdims=0),
        helper.make_node("Add", ["mean", "one_f"], ["pitch"]),
        helper.make_node("Mul", ["time", "step"], ["phase"]),
        helper.make_node("Mul", ["phase", "pitch"], ["voiced"]),
        helper.make_node("Sin", ["voiced"], ["tone"]),
        helper.make_node("Mul", ["tone", "loudness"], ["hum"]),
        helper.make_node("Less", ["time", "lead"], ["is_lead"]),
        helper.make_node("Where", ["is_lead", "zero_f", "hum"], ["mono"]),
        helper.make_node("Unsqueeze", ["mono", "first"], ["waveform"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny kokoro",
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "n"]),
            helper.make_tensor_value_info("style", TensorProto.FLOAT, [1, 256]),
            helper.make_tensor_value_info("speed", TensorProto.FLOAT, [1]),
        ],
        [helper.make_tensor_value_info("waveform", TensorProto.FLOAT, [1, "samples"])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    checker.check_model(model)
    return model
