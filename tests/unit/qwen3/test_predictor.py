"""The code predictor, against itself read in one go from the unfolded weights."""

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F  # noqa: N812 (its usual name)

from avatar.engines.tts.qwen3.attention import frame_attention
from tests.unit.qwen3.conftest import GoldenSet
from tests.unit.qwen3.models import checkpoint, rows

PREFIX = "talker.code_predictor."


def forced(codes: torch.Tensor, kept: list[torch.Tensor]) -> Callable[[int, torch.Tensor], torch.Tensor]:
    """Draws `codes`[B, 16] whatever the logits, and keeps these."""

    def draw(n: int, logits: torch.Tensor) -> torch.Tensor:
        kept.append(logits)
        return codes[:, n + 1]

    return draw


@pytest.mark.parametrize("kind", ["base", "custom"])
def test_logits_are_those_of_one_causal_pass(kind: str, golden_set: Callable[[str], GoldenSet]) -> None:
    predictor, weights = checkpoint(kind).predictor, golden_set(kind).model_tensors
    width = checkpoint(kind).config.talker.hidden
    codes, hidden = torch.randint(0, 2048, (3, 16), generator=torch.Generator().manual_seed(2)), rows(3, width, seed=1)
    kept: list[torch.Tensor] = []
    assert torch.equal(predictor.frame(hidden, codes[:, 0], forced(codes, kept)), codes)

    inputs = [hidden, weights["talker.model.codec_embedding.weight"][codes[:, 0]]]
    inputs += [weights[f"{PREFIX}model.codec_embedding.{n}.weight"][codes[:, n + 1]] for n in range(14)]
    x = torch.stack(inputs, 1)
    if kind == "base":
        projection = f"{PREFIX}small_to_mtp_projection."
        x = F.linear(x, weights[f"{projection}weight"], weights[f"{projection}bias"])
    places = torch.arange(16)
    out = predictor.transformer(x, places, frame_attention(predictor.transformer.config, 3, places, x))
    for n, logits in enumerate(kept):
        expected = F.linear(out[:, n + 1], weights[f"{PREFIX}lm_head.{n}.weight"])
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)


def test_a_frame_is_embedded_as_the_sum_of_its_codebooks(golden_set: Callable[[str], GoldenSet]) -> None:
    weights = golden_set("base").model_tensors
    codes = torch.randint(0, 2048, (2, 5, 16), generator=torch.Generator().manual_seed(3))
    expected = weights["talker.model.codec_embedding.weight"][codes[..., 0]]
    for n in range(15):
        expected = expected + weights[f"{PREFIX}model.codec_embedding.{n}.weight"][codes[..., n + 1]]
    torch.testing.assert_close(checkpoint("base").predictor.embed(codes), expected, atol=1e-5, rtol=0)


def test_a_row_of_a_batch_is_that_row_alone() -> None:
    predictor, hidden = checkpoint("custom").predictor, rows(4, 32, seed=5)
    first = torch.tensor([1, 2047, 77, 3000])
    likeliest = lambda _, logits: logits.argmax(-1)  # noqa: E731
    together = predictor.frame(hidden, first, likeliest)
    for n in range(4):
        assert torch.equal(predictor.frame(hidden[n : n + 1], first[n : n + 1], likeliest)[0], together[n])
