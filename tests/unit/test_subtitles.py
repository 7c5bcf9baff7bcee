"""Subtitle files, as players read them."""

from avatar.core.subtitles import Caption, srt, vtt

TALK = [Caption(0, 1.5, " Hello there. "), Caption(3661.0004, 3662.9996, "A <b>\n\n--> & 今天")]


def test_srt() -> None:
    assert srt(TALK) == (
        "1\n00:00:00,000 --> 00:00:01,500\nHello there.\n\n2\n01:01:01,000 --> 01:01:03,000\nA <b> -> & 今天\n\n"
    )


def test_vtt() -> None:
    assert vtt(TALK) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nHello there.\n\n"
        "01:01:01.000 --> 01:01:03.000\nA &lt;b&gt; -&gt; &amp; 今天\n\n"
    )


def test_nothing() -> None:
    assert (srt([]), vtt([])) == ("", "WEBVTT\n\n")
