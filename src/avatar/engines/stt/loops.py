"""Greedy decoders get stuck and say a phrase for ever: how to see it, and what to keep."""


def surplus(tokens: list[int]) -> int:
    """How many tokens at the end only repeat a phrase: at least three of it in a row, 12 tokens in all; else 0."""
    for period in range(1, len(tokens) // 3 + 1):
        length = max(3 * period, 12)
        tail = tokens[-length:]
        if len(tail) == length and tail[period:] == tail[:-period]:
            return length - period
    return 0


def without_loop(tokens: list[int]) -> list[int]:
    """`tokens` with the phrase they end in said once."""
    while repeated := surplus(tokens):
        tokens = tokens[:-repeated]
    return tokens
