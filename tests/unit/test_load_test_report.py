"""The load test's options, limits and reports, from answers made up here."""

import argparse
import json
import re
from typing import Any

import pytest
from scripts import load_test_report as report
from scripts.load_test import is_loopback, parse

from tests.load.caller import Answer
from tests.load.server import Usage


def answer(latency_ms: float, **metrics: float | None) -> Answer:
    return Answer(asked_s=100.0, heard_s=100.0 + latency_ms / 1000, status="completed", metrics=metrics)


def made(*arguments: str, answers: int = 20, errors: dict[str, int] | None = None) -> dict[str, Any]:
    run = report.Run("talk", engines={"llm": "<b>fake</b>"})
    for number in range(answers):
        run.answered(number % 2, answer(500.0 + 10 * number, llm_ttft_ms=40.0 + number, stt_ms=None))
    run.errors.update(errors or {})
    run.lateness_s = [0.001] * 100
    samples = [Usage(0.5 * number, 10**8 + number * 10**6, 20.0 + number) for number in range(10)]
    return report.result(run, parse(list(arguments)), samples)


def test_latencies_are_the_answers() -> None:
    latency_ms = made()["latency_ms"]

    assert latency_ms["voice_to_voice"]["n"] == 20
    assert latency_ms["voice_to_voice"]["p50"] == pytest.approx(595)
    assert latency_ms["voice_to_voice"]["p95"] == pytest.approx(680.5)
    assert latency_ms["llm_ttft"]["p50"] == pytest.approx(49.5)
    assert latency_ms["stt"] == {"n": 0}


@pytest.mark.parametrize(
    ("arguments", "passed"),
    [
        ((), True),
        (("--max-v2v-p50-ms", "595.1", "--max-v2v-p95-ms", "680.6"), True),
        (("--max-v2v-p50-ms", "594"), False),
        (("--max-v2v-p95-ms", "680"), False),
    ],
)
def test_latency_limits(arguments: tuple[str, ...], passed: bool) -> None:
    assert made(*arguments)["passed"] is passed


@pytest.mark.parametrize(("limit", "passed"), [("0", False), ("2", False), ("3", True)])
def test_error_limit_counts_all_kinds(limit: str, passed: bool) -> None:
    assert made("--max-errors", limit, errors={"TIMEOUT": 2, "NO_SPEECH": 1})["passed"] is passed


def test_no_answer_is_no_success() -> None:
    found = made("--max-v2v-p50-ms", "1000", answers=0)

    assert found["failures"] == [
        "voice to voice p50 is unknown ms; the limit is 1000 ms",
        "no question was answered",
    ]


def test_an_answer_with_an_error_has_no_latency() -> None:
    late = answer(100.0)
    late.errors.append("CUT_IN")

    assert late.voice_to_voice_ms is None


def test_the_reports_hold_the_figures_and_stand_alone() -> None:
    found = made(errors={"TIMEOUT": 1})
    page, words = report.html(found), report.text(found)

    assert json.loads(report.json_text(found)) == found
    assert "p50 595 ms, p95 68" in page
    assert "p50 595 ms, p95 68" in words
    assert "TIMEOUT 1" in page
    assert "<b>fake" not in page
    links = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(links) == 1
    assert links[0].startswith("data:image/png;base64,iVBOR")


def test_a_report_of_nothing_can_be_made() -> None:
    found = report.result(report.Run("listen"), parse([]), [])

    assert "<img" in report.html(found)
    assert found["server"] == {}


def test_what_a_session_costs_and_leaves() -> None:
    cost = report.per_session(Usage(0, 100, 5.0), Usage(0, 300, 25.0), 10)

    assert cost == {"sessions": 10, "cpu_percent": 2.0, "rss_bytes": 20.0}
    assert report.growth([500, 100, 200, 400], 5)["rss_growth_bytes_per_session"] == pytest.approx(-100 / 15)
    assert report.mean_usage([Usage(0, 10, 1.0), Usage(2, 30, 2.0)]) == Usage(1, 20, 1.5)


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("ws://127.0.0.1:8000/ws/chat", True),
        ("ws://127.8.0.1/ws/chat", True),
        ("ws://[::1]:8000/ws/chat", True),
        ("ws://localhost:8000/ws/chat", True),
        ("wss://voice.example/ws/chat", False),
        ("ws://192.168.1.5:8000/ws/chat", False),
        ("ws://localhost.example/ws/chat", False),
        ("ws://127.0.0.1@voice.example/ws/chat", False),
        ("", False),
    ],
)
def test_only_this_machine_is_loopback(url: str, loopback: bool) -> None:
    assert is_loopback(url) is loopback


@pytest.mark.parametrize(
    "arguments",
    [["--url", "ws://192.168.1.5/ws/chat"], ["--listen"], ["--churn", "3"], ["--callers", "0"], ["--interval", "0"]],
)
def test_what_cannot_be_measured_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(arguments)
    assert "error:" in capsys.readouterr().err


def test_another_machine_takes_permission() -> None:
    options: argparse.Namespace = parse(["--url", "ws://192.168.1.5/ws/chat", "--allow-remote"])

    assert options.url == "ws://192.168.1.5/ws/chat"
