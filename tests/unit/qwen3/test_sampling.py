"""Drawing: the processed scores of Hugging Face's `generate`, fair draws, and no influence of the company."""

import numpy as np
import numpy.typing as npt
import pytest
import torch

from avatar.engines.tts.qwen3.config import Draw, Sampling
from avatar.engines.tts.qwen3.sampling import Sampler, gumbel_noise, kept_by
from tests.unit.qwen3.models import checkpoint

EOS = 2150
VOCAB = 3072
LIKELIEST = Sampling(talker=Draw(sample=False), predictor=Draw(sample=False), repetition_penalty=1.0)


def sampler(*wishes: tuple[Sampling, int]) -> Sampler:
    made = Sampler(checkpoint("custom").config, len(wishes))
    for slot, (sampling, seed) in enumerate(wishes):
        made.open(slot, sampling, seed)
    return made


def scores(count: int, width: int = VOCAB, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def hugging_face(row: npt.NDArray[np.float32], top_k: int, top_p: float) -> npt.NDArray[np.float32]:
    """`TopKLogitsWarper`, then `TopPLogitsWarper`, in NumPy."""
    row = np.where(row < np.sort(row)[-top_k], -np.inf, row).astype(np.float32)
    if top_p < 1:
        order = np.argsort(row, kind="stable")
        chances = np.exp(row[order] - row.max())
        removed = np.cumsum(chances / chances.sum()) <= 1 - top_p
        removed[-1] = False
        row[order[removed]] = -np.inf
    return row


@pytest.mark.parametrize(("top_k", "top_p"), [(1, 1.0), (50, 1.0), (50, 0.7), (7, 0.999), (64, 0.01)])
def test_what_is_kept_is_what_hugging_face_keeps(top_k: int, top_p: float) -> None:
    given = scores(4)
    kept = kept_by(given, torch.full((4,), top_k), torch.full((4,), top_p), cap=64)
    for ours, row in zip(kept.numpy(), given.numpy(), strict=True):
        np.testing.assert_array_equal(ours, hugging_face(row, top_k, top_p))


def test_ties_with_the_last_one_kept_stay() -> None:
    given = torch.tensor([[3.0, 1.0, 1.0, 1.0, 0.0]])
    kept = kept_by(given, torch.tensor([2]), torch.tensor([2.0]), cap=2)
    assert kept.isfinite().tolist() == [[True, True, True, True, False]]


def test_rows_of_one_batch_have_their_own_parameters() -> None:
    given = scores(1).expand(2, -1)
    kept = kept_by(given, torch.tensor([3, 50]), torch.tensor([2.0, 2.0]), cap=64)
    assert kept.isfinite().sum(-1).tolist() == [3, 50]


def test_draws_are_fair() -> None:
    """Chi-square of 20,000 draws over 40 kept codes against their softmax: 39 degrees, 1e-4 bound 81.0."""
    draws, row = 20_000, scores(1, 200, seed=4)
    kept = kept_by(row / 0.9, torch.tensor([40]), torch.tensor([2.0]), cap=64)
    noise = gumbel_noise(torch.full((draws,), 12345), torch.arange(draws), 200)
    counts = (kept + noise).argmax(-1).bincount(minlength=200)
    expected = kept[0].double().softmax(-1) * draws
    assert counts[expected == 0].sum() == 0
    alive = expected > 0
    statistic = ((counts - expected)[alive] ** 2 / expected[alive]).sum()
    assert 15 < statistic < 81.0


def test_noise_is_standard_gumbel_and_unrelated_across_seeds_frames_and_columns() -> None:
    noise = gumbel_noise(torch.arange(64), torch.arange(64) % 8, 4096).double()
    assert noise.isfinite().all()
    assert abs(noise.mean() - 0.5772) < 0.01
    assert abs(noise.std() - np.pi / np.sqrt(6)) < 0.01
    assert torch.corrcoef(noise).fill_diagonal_(0).abs().max() < 0.09
    assert abs(torch.corrcoef(torch.stack([noise[:, 1:].flatten(), noise[:, :-1].flatten()]))[0, 1]) < 0.01


def test_a_session_draws_the_same_in_any_company() -> None:
    other, seed = Sampling(talker=Draw(temperature=1.5, top_k=10)), 7
    many, one = sampler((other, 1), (Sampling(), seed), (LIKELIEST, 2)), sampler((Sampling(), seed))
    for frame in range(6):
        given, codes = scores(3, seed=frame), scores(3, 2048, seed=50 + frame)
        together, alone = many.frame(torch.tensor([2, 1, 0])), one.frame(torch.tensor([0]))
        assert together.first(given)[1] == alone.first(given[1:2])[0]
        assert together.other(3, codes)[1] == alone.other(3, codes[1:2])[0]


def test_seeds_frames_and_codebooks_draw_apart() -> None:
    made, given = sampler(*((Sampling(), seed) for seed in range(8))), scores(1, 2048).expand(8, -1) / 20
    drawing = made.frame(torch.arange(8))
    drawn = torch.stack([drawing.other(n, given) for n in range(15)])
    assert len(set(drawn[0].tolist())) > 5
    assert len(set(drawn[:, 0].tolist())) > 10
    drawing.first(scores(8))
    assert not torch.equal(made.frame(torch.arange(8)).other(0, given), drawn[0])


def test_the_end_cannot_come_before_the_third_frame_and_controls_never() -> None:
    given = scores(1)
    given[0, EOS], given[0, 2148], given[0, 3071] = 50.0, 60.0, 70.0
    made = sampler((LIKELIEST, 0))
    drawn = [int(made.frame(torch.tensor([0])).first(given)) for _ in range(3)]
    assert drawn[:2] == [int(given[0, :2048].argmax())] * 2
    assert drawn[2] == EOS
    made.open(0, LIKELIEST, 0)
    assert int(made.frame(torch.tensor([0])).first(given)) == drawn[0]


def test_codes_that_were_drawn_are_penalised_in_their_slot_until_it_is_opened_again() -> None:
    penalised = Sampling(talker=Draw(sample=False), predictor=Draw(sample=False), repetition_penalty=2.0)
    given = torch.full((2, VOCAB), -9.0)
    given[:, 5], given[:, 6], given[:, 7] = 1.0, 0.6, -0.1
    made, slots = sampler((penalised, 0), (LIKELIEST, 0)), torch.tensor([0, 1])
    drawn = [made.frame(slots).first(given).tolist() for _ in range(3)]
    assert drawn == [[5, 5], [6, 5], [5, 5]]  # 0.6 beats 1.0 / 2, and 1.0 / 2 beats 0.6 / 2
    given[:, 7] = 0.7  # not seen yet: beats 1.0 / 2
    made.open(0, penalised, 0)
    assert made.frame(slots).first(given).tolist() == [5, 5]


def test_a_negative_score_is_penalised_downwards() -> None:
    penalised = Sampling(talker=Draw(sample=False), predictor=Draw(sample=False), repetition_penalty=1.5)
    given = torch.full((1, VOCAB), -9.0)
    given[0, 5], given[0, 6] = -1.0, -1.2
    made = sampler((penalised, 0))
    assert [int(made.frame(torch.tensor([0])).first(given)) for _ in range(2)] == [5, 6]


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (Draw(temperature=0.0), "temperature must be above 0"),
        (Draw(top_k=0), "top_k must be 1 to 64"),
        (Draw(top_k=65), "top_k must be 1 to 64"),
        (Draw(top_p=0.0), "top_p must be above 0"),
        (Draw(top_p=1.1), "top_p must be above 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw: Draw, message: str) -> None:
    for sampling in (Sampling(talker=draw), Sampling(predictor=draw)):
        with pytest.raises(ValueError, match=message):
            sampler((sampling, 0))
