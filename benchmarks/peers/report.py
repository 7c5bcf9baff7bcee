"""What the comparison says: ratios, and a page of Markdown. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

OURS = "AVATAR"
CALLERS_WORDS = {"1": "one caller", "3": "three callers"}


def ratios(peers: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Ours divided by theirs, for each other peer; what was not measured has none."""
    return {name: dict(_ratios(peers[OURS], theirs)) for name, theirs in peers.items() if name != OURS}


def _ratios(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for callers, words in CALLERS_WORDS.items():
        mine, other = (peer["talking"][callers]["voice_to_voice_ms"] for peer in (ours, theirs))
        yield from (
            (f"{rank}, {words}", mine[rank] / other[rank]) for rank in ("p50", "p95") if mine["n"] and other["n"]
        )
    if theirs["listening"]:
        yield "CPU, listening", ours["listening"]["cpu_percent"] / theirs["listening"]["cpu_percent"]
        yield "memory, listening", ours["listening"]["rss_bytes"] / theirs["listening"]["rss_bytes"]


def markdown(result: Mapping[str, Any]) -> str:
    """The page."""
    names = list(result["peers"])
    before, after = (result["load_average"][when] for when in ("before", "after"))
    return "\n".join(
        (
            f"# AVATAR beside Pipecat ({result['date']})",
            "",
            "One run of `benchmarks/peers/run.py`; what is compared, and how, is in `benchmarks/peers/README.md`.",
            "",
            f"Machine: {result['machine']}. Load average over 1, 5, 15 minutes: {_list(before)} before,"
            f" {_list(after)} after. Commit {result['commit']}.",
            "",
            *(f"{name}: {_versions(versions)}." for name, versions in result["versions"].items()),
            "",
            _row("", *names),
            _row("---", *("---:" for _ in names)),
            *_rows(result["peers"].values()),
            "",
            "Ours divided by theirs:",
            "",
            *_ratio_table(result["ratios"]),
            "",
        )
    )


def _rows(peers: Any) -> Iterator[str]:
    for callers, words in CALLERS_WORDS.items():
        talks = [peer["talking"][callers] for peer in peers]
        latencies = [talk["voice_to_voice_ms"] for talk in talks]
        for rank in ("p50", "p95"):
            yield _row(f"voice to voice, {words}, {rank}", *(_ms(latency.get(rank)) for latency in latencies))
        answered = (f"{talk['voice_to_voice_ms']['n']} of {talk['asked']}" for talk in talks)
        yield _row(f"answered, {words}", *answered)
    costs = [peer["listening"] for peer in peers]
    yield _row(
        "a listening session, CPU", *(f"{cost['cpu_percent']:.2f} % of a core" if cost else "" for cost in costs)
    )
    yield _row("a listening session, memory", *(f"{cost['rss_bytes'] / 1e6:.1f} MB" if cost else "" for cost in costs))


def _ratio_table(ratios: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    yield _row("", *ratios)
    yield _row("---", *("---:" for _ in ratios))
    for what in next(iter(ratios.values())):
        yield _row(what, *(f"{found[what]:.2f}" if what in found else "" for found in ratios.values()))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _ms(value: float | None) -> str:
    return "none" if value is None else f"{value:.0f} ms"


def _list(values: list[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
