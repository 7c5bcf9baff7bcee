"""The talker: text and codes in, the hidden state of the next frame and its first code's logits out.

Knows one step and one prefill over slots; not what a prompt is made of, nor how codes are drawn.
"""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (its usual name)

from avatar.engines.tts.qwen3.attention import KVCache
from avatar.engines.tts.qwen3.config import ModelConfig
from avatar.engines.tts.qwen3.layers import Transformer
from avatar.engines.tts.qwen3.matrices import Product
from avatar.engines.tts.qwen3.operations import Operations
from avatar.engines.tts.weights import Weights


class Talker:
    """Weights `talker.*` but the predictor's. All calls are plain tensor functions; state lives in the `KVCache`."""

    def __init__(self, weights: Weights, config: ModelConfig, max_positions: int) -> None:
        hidden = config.talker.hidden
        model, projection = weights.under("model."), weights.under("text_projection.")
        self.transformer = Transformer(model, config.talker, max_positions)
        self.codec_embedding = model.take("codec_embedding.weight", config.codec_vocab, hidden)
        self.head = weights.take("codec_head.weight", config.codec_vocab, hidden)
        self._text_embedding = model.take("text_embedding.weight", config.text_vocab, config.text_hidden)
        self._fc1 = projection.take("linear_fc1.weight", config.text_hidden, config.text_hidden)
        self._fc1_bias = projection.take("linear_fc1.bias", config.text_hidden)
        self._fc2 = projection.take("linear_fc2.weight", hidden, config.text_hidden)
        self._fc2_bias = projection.take("linear_fc2.bias", hidden)

    def using(self, operations: Operations) -> "Talker":
        """The same weights, worked with in another form."""
        made = copy.copy(self)
        made.transformer = self.transformer.using(operations)
        return made

    def in_8_bits(self, product: Product) -> "Talker":
        """A copy whose layers' matrices are rounded to 8 bits; the tables and the head stay as they are."""
        made = copy.copy(self)
        made.transformer = self.transformer.in_8_bits(product)
        return made

    def text(self, ids: Tensor) -> Tensor:
        """Text tokens as the talker sees them: ids[...] -> [..., hidden]."""
        inner = F.silu(F.linear(self._text_embedding[ids], self._fc1, self._fc1_bias))
        return F.linear(inner, self._fc2, self._fc2_bias)

    def logits(self, hidden: Tensor) -> Tensor:
        """Of the first code, control codes included: hidden[B, H] -> [B, codec_vocab]."""
        return F.linear(hidden, self.head)

    def prefill(
        self, embeddings: Tensor, lengths: Tensor, cache: KVCache, slots: Tensor, starts: Tensor | None = None
    ) -> Tensor:
        """Read prompts of any lengths: embeddings[B, T, H], padded at the end, lengths[B] -> hidden[B, H] of the last.

        `starts`[B] is where a prompt goes on, if the slots already hold a prefix; T more positions must fit.
        """
        steps = torch.arange(embeddings.shape[1], device=embeddings.device)
        positions = steps.expand(embeddings.shape[0], -1) if starts is None else starts.unsqueeze(1) + steps
        context = embeddings.shape[1] if starts is None else cache.max_positions
        hidden = self.transformer(embeddings, positions, cache.attention(slots, positions, context))
        return hidden[torch.arange(len(lengths), device=lengths.device), lengths - 1]

    def step(
        self, embeddings: Tensor, cache: KVCache, slots: Tensor, positions: Tensor, context: int | None = None
    ) -> Tensor:
        """One frame on: embeddings[B, H], slots[B], positions[B] -> hidden[B, H].

        `context` bounds what is read of the cache; all positions must be below. Rows beyond the sessions may share a
        scratch slot.
        """
        at = positions.unsqueeze(1)
        attention = cache.attention(slots, at, context or cache.max_positions)
        return self.transformer(embeddings.unsqueeze(1), at, attention).squeeze(1)
