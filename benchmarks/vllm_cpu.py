"""vLLM on a CPU behind AVATAR's own adapter: time to the first token, speed, and how fast a cancelled answer stops.

    python benchmarks/vllm_cpu.py convert SmolLM2-135M-Instruct.Q4_1.gguf FOLDER   # once; wants transformers, gguf
    VLLM_CPU_KVCACHE_SPACE=1 python benchmarks/vllm_cpu.py run FOLDER

Prints a Markdown table. The figures say that the adapter works and what it adds, nothing about vLLM on a GPU.
"""

import asyncio
import statistics
import sys
import time
from contextlib import aclosing
from importlib.metadata import version
from pathlib import Path

from avatar.engines.base import LanguageModel, Message, Sampling
from avatar.engines.llm.vllm import Vllm

_ROUNDS = 20
_TOKENS = 64


def convert(gguf: Path, folder: Path) -> None:
    """Unpack the weights of a GGUF file into safetensors, with its tokenizer and chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16)
    model.hf_quantizer = None  # the weights are unpacked, but the model still refuses to be saved as one that is packed
    del model.config.quantization_config
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)


def prompt(round_: int) -> list[Message]:
    """A short conversation that shares its system prompt, and no more, with the others."""
    return [
        Message("system", "You are a helpful AI assistant named AVATAR."),
        Message("user", f"Tell me a long story about {round_} dogs."),
    ]


async def timed(engine: LanguageModel, round_: int, deltas: int) -> tuple[float, float]:
    """Seconds to the first token, and from there to the last of `deltas`."""
    started = time.perf_counter()
    first = 0.0
    async with aclosing(engine.stream(prompt(round_), sampling=Sampling(max_tokens=deltas))) as stream:
        async for _ in stream:
            first = first or time.perf_counter()
    return first - started, time.perf_counter() - first


async def cancelled(engine: LanguageModel, round_: int) -> float:
    """Seconds it takes to close an answer in its middle."""
    stream = engine.stream(prompt(round_))
    for _ in range(5):
        await anext(stream)
    started = time.perf_counter()
    await stream.aclose()
    return time.perf_counter() - started


async def run(folder: Path) -> None:
    engine = Vllm(folder, context_tokens=1024, engine_args={"enforce_eager": True, "dtype": "bfloat16"})
    started = time.perf_counter()
    await engine.warm_up()
    rows = [("start, warm-up included", f"{time.perf_counter() - started:.1f} s")]
    alone = [await timed(engine, round_, _TOKENS) for round_ in range(_ROUNDS)]
    rows.append(("first token, one at a time", spread([first for first, _ in alone])))
    rows.append(("tokens/s, one at a time", f"{statistics.median((_TOKENS - 1) / rest for _, rest in alone):.0f}"))
    for sessions in (4, 8):
        started = time.perf_counter()
        together = await asyncio.gather(*(timed(engine, 100 * sessions + n, _TOKENS) for n in range(sessions)))
        rows.append((f"first token, {sessions} at once", spread([first for first, _ in together])))
        rate = sessions * _TOKENS / (time.perf_counter() - started)
        rows.append((f"tokens/s, {sessions} at once, together", f"{rate:.0f}"))
    rows.append(("closing an answer", spread([await cancelled(engine, 1000 + n) for n in range(_ROUNDS)])))
    after = [await timed(engine, 2000 + n, 2) for n in range(5) if await cancelled(engine, 3000 + n) is not None]
    rows.append(("first token of the next answer", spread([first for first, _ in after])))
    await engine.aclose()
    print(f"vllm {version('vllm-cpu')}, torch {version('torch')}, {folder.name}\n\n| what | value |\n|---|---|")
    print("\n".join(f"| {what} | {value} |" for what, value in rows))


def spread(seconds: list[float]) -> str:
    """Median and worst, in milliseconds."""
    return f"{1000 * statistics.median(seconds):.1f} ms (worst {1000 * max(seconds):.1f} ms)"


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["convert", gguf, folder]:
            convert(Path(gguf), Path(folder))
        case ["run", folder]:
            asyncio.run(run(Path(folder)))
        case _:
            sys.exit(__doc__)
