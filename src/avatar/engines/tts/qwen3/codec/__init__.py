"""The 12 Hz speech codec: 24 kHz audio to 16 codes every 80 ms, and codes back to audio as they come."""

from .config import CodecConfig, DecoderConfig, EncoderConfig
from .decoder import CodecDecoder
from .encoder import CodecEncoder
from .loading import load_codec
from .state import DecoderSnapshot, DecoderState

__all__ = [
    "CodecConfig",
    "CodecDecoder",
    "CodecEncoder",
    "DecoderConfig",
    "DecoderSnapshot",
    "DecoderState",
    "EncoderConfig",
    "load_codec",
]
