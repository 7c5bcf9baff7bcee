"""Residual vector quantization: a vector as one code for its nearest entry, then codes for what is still missing.

The official codebooks are stored as running sums and usage counts; here each is the table that they stand for.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from .folding import fold_at_load

# The official floor under a codebook entry's usage, so that a never-used entry divides by no zero.
MIN_USAGE = 1e-5


class ResidualQuantizer(nn.Module):
    """A stack of codebooks between two projections; encoding uses the one going in, decoding the one coming out.

    `outer` and `inner` are the dimensions on either side of the projections, `stored` the codebooks in the checkpoint
    and `kept` how many of them, from the first, are used. `names` are a codebook's sum and usage, with `{}` for its
    number, and `ignored` what else is stored of it.
    """

    def __init__(
        self,
        outer: int,
        inner: int,
        codebook_size: int,
        *,
        kept: int,
        stored: int,
        names: tuple[str, str],
        ignored: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.input_proj = nn.Conv1d(outer, inner, 1, bias=False)
        self.output_proj = nn.Conv1d(inner, outer, 1, bias=False)
        self.tables = nn.Parameter(torch.empty(kept, codebook_size, inner))
        sum_name, usage_name = names
        sums = {sum_name.format(i): (codebook_size, inner) for i in range(stored)}
        usages = {usage_name.format(i): (codebook_size,) for i in range(stored)}
        rest = {name.format(i): (1,) for name in ignored for i in range(stored)}

        def tables(tensors: list[Tensor]) -> Tensor:
            pairs = zip(tensors[:kept], tensors[stored : stored + kept], strict=True)
            return torch.stack([total / usage.clamp(min=MIN_USAGE)[:, None] for total, usage in pairs])

        fold_at_load(self, "tables", {**sums, **usages, **rest}, tables)

    def encode(self, vectors: Tensor) -> Tensor:
        """`vectors[B, outer, T]` as codes `[B, kept, T]`, int64."""
        rest = self.input_proj(vectors).transpose(1, 2)
        codes = []
        for table in self.tables:
            # The official formula: another one of the same distance may choose another of two near entries.
            distances = torch.cdist(rest.flatten(0, 1)[None], table[None])[0]
            codes.append(distances.argmin(-1).view(rest.shape[:2]))
            rest = rest - functional.embedding(codes[-1], table)
        return torch.stack(codes, 1)

    def decode(self, codes: Tensor) -> Tensor:
        """`codes[B, kept, T]` as vectors `[B, outer, T]`."""
        count, size, inner = self.tables.shape
        first_rows = torch.arange(0, count * size, size, device=codes.device)
        entries = functional.embedding(codes.transpose(1, 2) + first_rows, self.tables.view(-1, inner))
        vectors: Tensor = self.output_proj(entries.sum(2).transpose(1, 2))
        return vectors
