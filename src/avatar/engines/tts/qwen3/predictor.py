"""The code predictor: the fifteen codes of a frame after its first, each drawn from what the ones before it say.

Its projection of the talker's width to its own is folded into its tables at load. Knows one frame and no past.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (its usual name)

from avatar.engines.tts.qwen3.config import CODE_GROUPS, ModelConfig
from avatar.engines.tts.qwen3.kernels import PLAIN, Kernels
from avatar.engines.tts.qwen3.layers import Transformer
from avatar.engines.tts.qwen3.matrices import Product
from avatar.engines.tts.weights import Weights

DrawCode = Callable[[int, Tensor], Tensor]
"""(n from 0, logits[B, code_vocab] of the code after the n-th) -> codes[B]."""


class Predictor:
    """Weights `talker.code_predictor.*`. `codec_embedding` is the talker's table of first codes."""

    def __init__(self, weights: Weights, config: ModelConfig, codec_embedding: Tensor) -> None:
        others, model = CODE_GROUPS - 1, weights.under("model.")
        outer, inner, codes = config.talker.hidden, config.predictor.hidden, config.code_vocab
        self.transformer = Transformer(model, config.predictor, CODE_GROUPS)
        self.heads = [weights.take(f"lm_head.{n}.weight", codes, inner) for n in range(others)]
        self._tables = torch.stack(
            [model.take(f"codec_embedding.{n}.weight", codes, outer) for n in range(others)]
        ).flatten(0, 1)
        self._offsets = torch.arange(others, device=codec_embedding.device) * codes
        self._first_table = codec_embedding
        self._project: Callable[[Tensor], Tensor] = lambda x: x
        if outer != inner:
            projection = weights.under("small_to_mtp_projection.")
            weight, bias = projection.take("weight", inner, outer), projection.take("bias", inner)
            self._project = lambda x: F.linear(x, weight, bias)
        self._first_inputs = self._project(codec_embedding)
        self._inputs = self._project(self._tables)
        self._positions = torch.arange(CODE_GROUPS, device=codec_embedding.device)
        self._kernels = PLAIN

    def using(self, kernels: Kernels) -> "Predictor":
        """The same weights, worked with by other kernels."""
        made = copy.copy(self)
        made.transformer, made._kernels = self.transformer.using(kernels.operations), kernels
        return made

    def in_8_bits(self, product: Product) -> "Predictor":
        """A copy whose layers' matrices are rounded to 8 bits; the tables and the heads stay as they are."""
        made = copy.copy(self)
        made.transformer = self.transformer.in_8_bits(product)
        return made

    def embed(self, codes: Tensor) -> Tensor:
        """Whole frames as the talker sees them: codes[..., 16] -> [..., hidden], the sum over the codebooks."""
        rows = self._tables[codes[..., 1:] + self._offsets]
        return torch.cat([self._first_table[codes[..., :1]], rows], dim=-2).sum(-2)

    def frame(self, hidden: Tensor, first: Tensor, draw: DrawCode) -> Tensor:
        """The frame of the talker's hidden[B, H] that begins with the codes first[B] -> codes[B, 16]."""
        attention = self._kernels.within(self.transformer.config, len(first), self._positions, hidden)
        x = torch.stack([self._project(hidden), self._first_inputs[first]], dim=1)
        codes = [first]
        for n, head in enumerate(self.heads):
            end = attention.start + x.shape[1]
            out = self.transformer(x, self._positions[attention.start : end], attention)
            attention.start = end
            code = draw(n, F.linear(out[:, -1], head))
            codes.append(code)
            x = self._inputs[code + self._offsets[n]].unsqueeze(1)
        return torch.stack(codes, dim=1)
