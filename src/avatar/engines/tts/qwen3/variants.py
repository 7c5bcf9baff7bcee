"""What could be faster, tried on one model and device: kernels, CUDA graphs, the codec's precision, weights in 8 bits.

Every row says what it found or why it failed; none ends the others. Speed does not depend on the weights' values, and
neither do the errors on random weights say what a voice sounds like.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from avatar.engines.tts.qwen3.attention import KVCache
from avatar.engines.tts.qwen3.backends import Form, candidates, distance, frame_ms
from avatar.engines.tts.qwen3.checkpoint import Checkpoint
from avatar.engines.tts.qwen3.codec import DecoderState
from avatar.engines.tts.qwen3.config import CODE_GROUPS
from avatar.engines.tts.qwen3.graphs import Runner, process_settings
from avatar.engines.tts.qwen3.kernels import PLAIN, Kernels
from avatar.engines.tts.qwen3.operations import Operations, compiled

Row = dict[str, float | int | str]


@dataclass(frozen=True)
class Scope:
    """How much is tried."""

    batches: tuple[int, ...] = (1, 8, 32, 64)
    frames: tuple[int, ...] = (1, 8)
    """Decoded at once."""
    reach: int = 256
    repeats: int = 20
    compared_frames: int = 24


ON_CPU = Scope(batches=(1, 4), repeats=3, compared_frames=16)
SMALL = Scope(batches=(1, 2), frames=(1,), reach=64, repeats=2, compared_frames=2)


def speaking(checkpoint: Checkpoint, scope: Scope, form: Form) -> Iterator[Row]:
    """A frame on one form of the small operations and each of attention, with CUDA graphs where there are any."""
    table = checkpoint.talker.codec_embedding
    if form == "torch" and table.device.type == "cuda":
        yield from _timed("torch with SDPA, eagerly", checkpoint, PLAIN, scope, graphs=False)
    for candidate in candidates(table.device, table.dtype, form, "auto"):
        if candidate.kernels is None:
            yield {"kernels": candidate.name, "not here": candidate.why_not}
        else:
            yield from _timed(candidate.name, checkpoint, candidate.kernels, scope, graphs=True)


def _timed(name: str, checkpoint: Checkpoint, kernels: Kernels, scope: Scope, *, graphs: bool) -> Iterator[Row]:
    row: Row = {"kernels": name}
    try:
        began_s = time.perf_counter()
        row["off"] = f"{distance(checkpoint, kernels):.2g}"
        row["first use s"] = round(time.perf_counter() - began_s, 1)
        for batch in scope.batches:
            ms = frame_ms(checkpoint, kernels, graphs=graphs, batch=batch, reach=scope.reach, repeats=scope.repeats)
            row[f"ms, {batch}"] = round(ms, 2)
    except Exception as error:  # anything that a compiler, a driver or a library can do; it is the finding
        row["failed"] = said(error)
    yield row


def said(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def decoding(checkpoint: Checkpoint, scope: Scope) -> Iterator[Row]:
    """The codec's decoder in float32: plain, compiled, and on a GPU with TF32 convolutions; and how far from plain."""
    device = checkpoint.talker.codec_embedding.device
    exact = _decoded(checkpoint, None)
    for tf32 in (False, True) if device.type == "cuda" else (False,):
        for name, operations in (("plain", None), ("compiled", compiled())):
            row: Row = {"decoder": f"{name}{', TF32' if tf32 else ''}"}
            try:
                with process_settings(device, tf32=tf32):
                    made = _decoded(checkpoint, operations)
                    row["dB from plain"] = round(_snr_db(made, exact), 1)
                    for batch in scope.batches:
                        for frames in scope.frames:
                            ms = _decode_ms(checkpoint, operations, batch, frames, scope.repeats)
                            row[f"ms, {batch} × {frames}"] = round(ms, 2)
            except Exception as error:  # as above
                row["failed"] = said(error)
            yield row


def _codes(checkpoint: Checkpoint, batch: int, frames: int) -> Tensor:
    device, chance = checkpoint.talker.codec_embedding.device, torch.Generator().manual_seed(0)
    return torch.randint(checkpoint.config.code_vocab, (batch, CODE_GROUPS, frames), generator=chance).to(device)


def _decoded(checkpoint: Checkpoint, operations: Operations | None) -> Tensor:
    decoder = checkpoint.decoder if operations is None else checkpoint.decoder.using(operations)
    with process_settings(checkpoint.talker.codec_embedding.device, tf32=False):
        wav: Tensor = decoder(_codes(checkpoint, 1, 12))
    return wav


def _decode_ms(checkpoint: Checkpoint, operations: Operations | None, batch: int, frames: int, repeats: int) -> float:
    decoder = checkpoint.decoder if operations is None else checkpoint.decoder.using(operations)
    codes, device = _codes(checkpoint, batch, frames), checkpoint.talker.codec_embedding.device
    state = DecoderState.allocate(decoder.config, batch, device)

    def step(rows: Tensor) -> Tensor:
        return decoder.step(codes, state, rows[:, 0])

    return Runner(device).time_ms("decode", step, [[slot] for slot in range(batch)], repeats)


def _snr_db(made: Tensor, exact: Tensor) -> float:
    noise = (made - exact).double().square().sum().clamp(min=1e-30)
    return float(10 * torch.log10(exact.double().square().sum() / noise))


@torch.no_grad()
def in_8_bits(checkpoint: Checkpoint, scope: Scope) -> Row:
    """Layers in float8: memory, time, and how far the logits are off when both are given the same codes."""
    rounded = checkpoint.in_8_bits()
    stacks = [[one.talker.transformer, one.predictor.transformer] for one in (checkpoint, rounded)]
    before, after = (sum(stack.matrix_bytes for stack in pair) for pair in stacks)
    row: Row = {"weights": rounded.matrices, "MB before": round(before / 1e6, 1), "MB": round(after / 1e6, 1)}
    row |= _differences(checkpoint, rounded, scope.compared_frames)
    for batch in scope.batches[:2]:
        for name, one in (("as loaded", checkpoint), ("8 bits", rounded)):
            row[f"ms, {batch}, {name}"] = round(frame_ms(one, batch=batch, reach=scope.reach, repeats=scope.repeats), 2)
    return row


def _differences(exact: Checkpoint, rounded: Checkpoint, frames: int) -> Row:
    """Both are given what the exact one says, greedily, from a speaker's embedding on."""
    config, table = exact.config, exact.talker.codec_embedding
    caches = [KVCache.allocate(config.talker, 1, frames, device=table.device, dtype=table.dtype) for _ in range(2)]
    slot, x = torch.zeros(1, dtype=torch.int64, device=table.device), table[-1:]
    errors: dict[str, list[float]] = {"first": [], "other": []}
    same: dict[str, list[bool]] = {"first": [], "other": []}

    def compare(kind: str, ours: Tensor, theirs: Tensor) -> Tensor:
        spread = theirs.float() - theirs.float().mean()  # a constant changes no draw
        off = (ours.float() - theirs.float()) - (ours.float() - theirs.float()).mean()
        errors[kind].append(float(off.norm() / spread.norm()))
        same[kind].append(bool((ours.argmax(-1) == theirs.argmax(-1)).all()))
        return theirs.argmax(-1)

    for at in range(frames):
        theirs, ours = (
            one.talker.step(x, cache, slot, slot + at) for one, cache in zip((exact, rounded), caches, strict=True)
        )
        codes = config.code_vocab
        first = compare("first", *(m.talker.logits(h)[:, :codes] for m, h in ((rounded, ours), (exact, theirs))))
        kept: list[Tensor] = []

        def draw(n: int, logits: Tensor, kept: list[Tensor] = kept) -> Tensor:
            kept.append(logits)
            return logits.argmax(-1)

        frame = exact.predictor.frame(theirs, first, draw)

        def given(n: int, logits: Tensor, kept: list[Tensor] = kept, frame: Tensor = frame) -> Tensor:
            compare("other", logits, kept[n])
            return frame[:, n + 1]

        rounded.predictor.frame(ours, first, given)
        x = exact.predictor.embed(frame)
    row: Row = {}
    for kind in errors:
        row[f"{kind} codes' logits off"] = round(sum(errors[kind]) / len(errors[kind]), 4)
        row[f"{kind} codes the same"] = round(sum(same[kind]) / len(same[kind]), 3)
    return row
