"""Timed text as files: SubRip (`srt`) and WebVTT (`vtt`). Pure."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Caption:
    """What is said from `start_s` to `end_s`."""

    start_s: float
    end_s: float
    text: str


def srt(captions: Iterable[Caption]) -> str:
    """As SubRip: numbered, with a comma before the milliseconds."""
    return "".join(
        f"{number}\n{_clock(caption.start_s, ',')} --> {_clock(caption.end_s, ',')}\n{_lines(caption.text)}\n\n"
        for number, caption in enumerate(captions, 1)
    )


def vtt(captions: Iterable[Caption]) -> str:
    """As WebVTT."""
    cues = (
        f"{_clock(caption.start_s, '.')} --> {_clock(caption.end_s, '.')}\n{_escaped(_lines(caption.text))}\n\n"
        for caption in captions
    )
    return "WEBVTT\n\n" + "".join(cues)


def _clock(seconds: float, point: str) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{point}{ms % 1000:03}"


def _lines(text: str) -> str:
    """An empty line would end the cue, and an arrow begin another."""
    return " ".join(text.split()).replace("-->", "->")


def _escaped(text: str) -> str:
    """As WebVTT, section 4.1: what would begin a tag or an escape."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
