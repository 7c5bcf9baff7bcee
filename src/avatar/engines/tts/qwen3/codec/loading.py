"""The codec from its tensors."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .config import CodecConfig
from .decoder import CodecDecoder
from .encoder import CodecEncoder
from .folding import load_exactly


def load_codec(
    tensors: Mapping[str, Tensor], config: CodecConfig, dtype: torch.dtype = torch.float32
) -> tuple[CodecEncoder, CodecDecoder]:
    """The encoder and the decoder, in `dtype`, from all tensors of `speech_tokenizer/model.safetensors`.

    They stay on the device the tensors are on. Raises ValueError that names each tensor that is missing, unknown or of
    another shape.
    """
    with torch.device("meta"):
        encoder, decoder = CodecEncoder(config), CodecDecoder(config)
    load_exactly(nn.ModuleDict({"encoder": encoder, "decoder": decoder}), tensors, dtype)
    return encoder, decoder
