"""Greedy decoders get stuck and say a phrase for ever: how to see it, and what to keep."""


def loop_period(tokens: list[int]) -> int:
    """Length of the phrase that `tokens` end in at least three times and for at least 12 tokens; 0 if there is none."""
    for period in range(1, len(tokens) // 3 + 1):
        length = max(3 * period, 12)
        tail = tokens[-length:]
        if len(tail) == length and tail[period:] == tail[:-period]:
            return period
    return 0


def without_loop(tokens: list[int]) -> list[int]:
    """`tokens` with the phrase they loop in said once."""
    period = loop_period(tokens)
    while period and tokens[-period:] == tokens[-2 * period : -period]:
        tokens = tokens[:-period]
    return tokens
