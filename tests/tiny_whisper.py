"""A Whisper model of random weights, two megabytes, in the format faster-whisper loads.

It writes gibberish, but through the whole real library: language detection, prompts, beams, tokens, text.
"""

import json
from pathlib import Path

import numpy as np
from ctranslate2.specs.model_spec import visit_spec
from ctranslate2.specs.whisper_spec import WhisperSpec
from faster_whisper.tokenizer import _LANGUAGE_CODES
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

_WIDTH = 16
_HEADS = 2
_MELS = 80
_WORDS = 10_000
_LANGUAGES = [f"<|{code}|>" for code in _LANGUAGE_CODES]


def make_tiny_whisper(folder: Path, seed: int = 4) -> Path:
    """Write the model into `folder`; the same seed gives the same model (4 gives a talkative one)."""
    vocabulary = _vocabulary()
    spec = WhisperSpec(1, _HEADS, 1, _HEADS)
    _fill(spec, len(vocabulary), np.random.default_rng(seed))
    spec.register_vocabulary(vocabulary)
    spec.config.lang_ids = [vocabulary.index(token) for token in _LANGUAGES]
    spec.config.suppress_ids = []
    spec.config.suppress_ids_begin = []
    spec.config.alignment_heads = [(0, 0)]
    spec.validate()
    spec.optimize()
    spec.save(str(folder))
    ids = {token: index for index, token in enumerate(vocabulary)}
    Tokenizer(WordLevel(ids, unk_token=vocabulary[0])).save(str(folder / "tokenizer.json"))
    (folder / "preprocessor_config.json").write_text(json.dumps({"feature_size": _MELS}))
    return folder


def _vocabulary() -> list[str]:
    task_tokens = ["translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps"]
    return [
        *(f"word{index}" for index in range(_WORDS)),
        "",  # an empty token is what CTranslate2 knows a multilingual model by
        "<|endoftext|>",
        "<|startoftranscript|>",
        *_LANGUAGES,
        *(f"<|{name}|>" for name in task_tokens),
        *(f"<|{index * 0.02:.2f}|>" for index in range(1501)),
    ]


def _fill(spec: WhisperSpec, vocabulary_size: int, random: np.random.Generator) -> None:
    """Give every required weight its shape and random numbers."""
    square = (_WIDTH, _WIDTH)
    shapes = {
        "conv1/weight": (_WIDTH, _MELS, 3),
        "conv2/weight": (_WIDTH, _WIDTH, 3),
        "self_attention/linear_0/weight": (3 * _WIDTH, _WIDTH),  # queries, keys and values
        "attention/linear_1/weight": (2 * _WIDTH, _WIDTH),  # keys and values of what was heard
        "ffn/linear_0/weight": (4 * _WIDTH, _WIDTH),
        "ffn/linear_1/weight": (_WIDTH, 4 * _WIDTH),
        "embeddings/weight": (vocabulary_size, _WIDTH),
        "projection/weight": (vocabulary_size, _WIDTH),
        "gamma": (_WIDTH,),
        "beta": (_WIDTH,),
        "weight": square,
    }

    def fill(layer: object, name: str, value: object) -> None:
        if value is None:
            shape = next(shape for suffix, shape in shapes.items() if name.endswith(suffix))
            setattr(layer, name.rpartition("/")[2], random.standard_normal(shape, dtype=np.float32))

    visit_spec(spec, fill)
    for side, length in ((spec.encoder, 1500), (spec.decoder, 448)):
        side.position_encodings.encodings = random.standard_normal((length, _WIDTH), dtype=np.float32)
    for convolution in (spec.encoder.conv1, spec.encoder.conv2):
        convolution.bias = np.zeros(_WIDTH, dtype=np.float32)
