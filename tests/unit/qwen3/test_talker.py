"""The talker's slots: a step is a row of a prefill, and a row of a batch is that row alone."""

import torch

from avatar.engines.tts.qwen3.attention import KVCache
from avatar.engines.tts.qwen3.talker import Talker
from tests.unit.qwen3.models import checkpoint, rows

SLOTS, POSITIONS = 5, 40


def talker() -> Talker:
    return checkpoint("base").talker


def cache() -> KVCache:
    return KVCache.allocate(checkpoint("base").config.talker, SLOTS, POSITIONS)


def alone(embeddings: torch.Tensor) -> torch.Tensor:
    """Hidden[T, H] after every position of embeddings[T, H], each from a prefill of its own."""
    found = [prefilled(embeddings[: n + 1], cache(), 0) for n in range(len(embeddings))]
    return torch.stack(found)


def prefilled(embeddings: torch.Tensor, into: KVCache, slot: int) -> torch.Tensor:
    return talker().prefill(embeddings[None], torch.tensor([len(embeddings)]), into, torch.tensor([slot]))[0]


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_steps_are_the_rows_of_a_prefill() -> None:
    embeddings, kept = rows(12, 64, seed=1), cache()
    hidden = [prefilled(embeddings[:4], kept, 2)]
    for n in range(4, 12):
        hidden.append(talker().step(embeddings[n : n + 1], kept, torch.tensor([2]), torch.tensor([n]))[0])
    close(torch.stack(hidden), alone(embeddings)[3:])


def test_rows_at_different_positions_do_not_see_each_other() -> None:
    texts = [rows(length, 64, seed=length) for length in (3, 9, 6)]
    slots, lengths, kept = torch.tensor([4, 0, 2]), torch.tensor([3, 9, 6]), cache()
    kept.keys.fill_(9.0)  # what an earlier session left behind
    kept.values.fill_(9.0)
    padded = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=5.0)
    close(talker().prefill(padded, lengths, kept, slots), torch.stack([alone(text)[-1] for text in texts]))
    for n in range(4):
        new = rows(3, 64, seed=100 + n)
        texts = [torch.cat([text, new[i : i + 1]]) for i, text in enumerate(texts)]
        hidden = talker().step(new, kept, slots, lengths + n, context=16)
        close(hidden, torch.stack([alone(text)[-1] for text in texts]))


def test_rows_that_share_the_scratch_slot_leave_the_others_alone() -> None:
    text, kept = rows(5, 64, seed=3), cache()
    prefilled(text[:4], kept, 1)
    batch = torch.cat([text[4:], rows(2, 64, seed=4)])
    hidden = talker().step(batch, kept, torch.tensor([1, 4, 4]), torch.tensor([4, 0, 0]))
    close(hidden[0], alone(text)[-1])


def test_a_restored_prefix_is_read_on_from() -> None:
    text, kept = rows(10, 64, seed=6), cache()
    prefilled(text[:7], kept, 0)
    prefix = kept.snapshot(0, 7)
    prefilled(rows(9, 64, seed=7), kept, 0)  # the slot moves on; the copy does not
    kept.restore(3, prefix)
    hidden = talker().prefill(text[None, 7:], torch.tensor([3]), kept, torch.tensor([3]), starts=torch.tensor([7]))
    close(hidden[0], alone(text)[-1])
