"""Fetching from hubs, against a local server that speaks both protocols and fails on demand."""

import asyncio
import socket
from pathlib import Path

import pytest

from avatar.hub import catalog, presence
from avatar.hub.catalog import Model, ModelFile
from avatar.hub.fetch import Result, fetch
from avatar.hub.source import Progress
from avatar.hub.verify import verify
from tests.integration.hub_server import CONFIG, TINY, WEIGHTS, WHOLE, Fault, Hub, hub, set_hf_endpoint, sha256

__all__ = ["hub"]  # the fixture


class Run:
    """A fetch of `tiny`, with what it reported and how long it would have slept."""

    def __init__(self, models_dir: Path, free_bytes: int = 10**12) -> None:
        self.models_dir = models_dir
        self.folder = models_dir / "tiny"
        self.events: list[Progress] = []
        self.slept_s: list[float] = []
        self._free_bytes = free_bytes

    async def __call__(self, *keys: str, connect_timeout_s: float = 5.0) -> Result:
        results = await fetch(
            keys or ("tiny",),
            self.models_dir,
            ("huggingface", "modelscope", "package"),
            connect_timeout_s,
            self.events.append,
            free_bytes=lambda _: self._free_bytes,
            sleep=self._sleep,
        )
        return results[-1]

    async def _sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)

    def files(self) -> dict[str, bytes]:
        """What is in the model's folder, the manifest aside."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file() and path.name != presence.MANIFEST
        }


async def test_a_model_is_fetched_checked_and_recorded(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    run = Run(tmp_path)
    assert await run() == Result("tiny", run.folder, ("huggingface",))
    assert run.files() == WHOLE
    assert presence.locate(tmp_path, "tiny") == run.folder
    assert presence.read_manifest(run.folder)["sub/model.bin"] == presence.Recorded(
        len(WEIGHTS), sha256(WEIGHTS), "huggingface"
    )
    assert [file.state for file in (await verify(tmp_path, "tiny")).files] == ["ok", "ok"]
    assert hub.authorizations == {"Bearer hf_secret"}

    received = [event.received_bytes for event in run.events if event.file == "sub/model.bin"]
    assert received == sorted(received)
    assert run.events[-1] == Progress("tiny", "sub/model.bin", "huggingface", "done", len(WEIGHTS), len(WEIGHTS))


async def test_what_is_there_is_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    await Run(tmp_path)()
    hub.requests.clear()
    assert await Run(tmp_path)() == Result("tiny", tmp_path / "tiny")
    assert not hub.requests


async def test_a_broken_file_is_deleted_said_and_replaced(hub: Hub, tmp_path: Path) -> None:
    run = Run(tmp_path)
    await run()
    (run.folder / "sub/model.bin").write_bytes(WEIGHTS[::-1])
    result = await run()
    assert result.ok
    assert result.problems == ("sub/model.bin had the wrong hash and was deleted",)
    assert run.files() == WHOLE
    assert len(hub.ranges("config.json")) == 1


@pytest.mark.parametrize("cuts_bytes", [[300_000], [300_000, 200_000, 300_000], [0, 0, 500_000, 0]])
async def test_a_cut_connection_goes_on_where_it_stopped(hub: Hub, tmp_path: Path, cuts_bytes: list[int]) -> None:
    hub.faults["sub/model.bin"].extend(Fault(cut_after_bytes=cut) for cut in cuts_bytes)
    run = Run(tmp_path)
    assert (await run()).problems == ()
    assert run.files() == WHOLE
    begun = [int(asked.removeprefix("bytes=").removesuffix("-") or 0) for asked in hub.ranges("sub/model.bin")]
    # what the client had not yet read of a cut connection is lost, so it may begin a little earlier
    assert begun == sorted(begun)
    assert all(at <= sum(cuts_bytes[:count]) for count, at in enumerate(begun))
    assert len(begun) == len(cuts_bytes) + 1
    assert begun[-1] > 0


async def test_a_server_that_ignores_ranges_is_taken_from_the_start(hub: Hub, tmp_path: Path) -> None:
    hub.faults["sub/model.bin"].extend([Fault(cut_after_bytes=300_000), Fault(ignore_range=True)])
    run = Run(tmp_path)
    assert (await run()).ok
    assert run.files() == WHOLE


async def test_a_transfer_that_never_moves_is_given_up(hub: Hub, tmp_path: Path) -> None:
    hub.faults["sub/model.bin"].extend([Fault(cut_after_bytes=0)] * 100)
    run = Run(tmp_path)
    result = await run()
    assert result.folder is None
    assert "6 times in a row" in result.problems[0]
    assert run.slept_s == sorted(run.slept_s)
    assert len(run.slept_s) == 5
    assert run.files() == {"config.json": CONFIG, "sub/model.bin.part": b""}


async def test_a_busy_server_is_asked_again_when_it_says(hub: Hub, tmp_path: Path) -> None:
    hub.faults["config.json"].extend([Fault(503, {"Retry-After": "7"}), Fault(503)])
    run = Run(tmp_path)
    assert (await run()).ok
    assert run.slept_s[0] == 7.0
    assert 0 < run.slept_s[1] < 7
    assert [event.note for event in run.events if event.state == "retrying"] == ["the server answered HTTP 503"] * 2


async def test_a_file_with_another_hash_than_announced_is_deleted_and_said(hub: Hub, tmp_path: Path) -> None:
    hub.faults["sub/model.bin"].append(Fault(body=WEIGHTS[::-1]))
    run = Run(tmp_path)
    result = await run()
    assert result.folder is None
    assert "huggingface: sub/model.bin: wrong hash; it was deleted" in result.problems
    assert run.files() == {"config.json": CONFIG}


async def test_a_hub_with_another_version_than_the_catalog_is_not_even_asked(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = Model("tiny", "stt", "", "", (ModelFile("sub/model.bin", len(WEIGHTS), "0" * 64),), huggingface="org/tiny")
    monkeypatch.setitem(catalog.MODELS, "tiny", pinned)
    result = await Run(tmp_path)()
    assert "another version (wrong hash)" in result.problems[0]
    assert hub.ranges("sub/model.bin") == []


async def test_what_one_source_lacks_comes_from_the_next(hub: Hub, tmp_path: Path) -> None:
    hub.faults["sub/model.bin"].append(Fault(404))
    hub.repos["mirror/tiny"] = {"config.json": b"{}", "sub/model.bin": WEIGHTS}
    run = Run(tmp_path)
    assert await run() == Result(
        "tiny", run.folder, ("huggingface", "modelscope"), ("huggingface: sub/model.bin: it is not there (HTTP 404)",)
    )
    assert run.files() == WHOLE
    assert presence.read_manifest(run.folder)["sub/model.bin"].source == "modelscope"


@pytest.mark.parametrize(("status", "words"), [(404, "not there"), (401, "HF_TOKEN"), (403, "HF_TOKEN")])
async def test_a_repository_that_is_refused_is_explained(hub: Hub, tmp_path: Path, status: int, words: str) -> None:
    hub.metadata_status = status
    result = await Run(tmp_path)()
    assert words in result.problems[0]
    assert [problem.partition(":")[0] for problem in result.problems] == ["huggingface", "modelscope", "package"]


async def test_a_hub_that_is_down_is_passed_over_for_the_rest_of_the_run(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(catalog.MODELS, "other", Model("other", "stt", "", "", TINY.files, huggingface="org/tiny"))
    hub.metadata_status = 502
    result = await Run(tmp_path)("tiny", "other")
    assert "HTTP 502" in result.problems[0]
    assert len([url for url, _ in hub.requests if url.startswith("/api/models/")]) == 1


async def test_a_hub_whose_file_store_cannot_be_reached_is_passed_over(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(catalog.MODELS, "other", Model("other", "stt", "", "", TINY.files, huggingface="org/tiny"))
    hub.faults["sub/model.bin"].extend([Fault(302, {"Location": "http://127.0.0.1:9/"})] * 6)
    result = await Run(tmp_path)("tiny", "other")
    assert result.problems[0].startswith("huggingface: sub/model.bin: Cannot connect to host 127.0.0.1:9")
    assert len(hub.ranges("sub/model.bin")) == 6


async def test_hubs_that_do_not_answer_cost_little(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connects, never answers
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        set_hf_endpoint(monkeypatch, url)
        monkeypatch.setenv("MODELSCOPE_DOMAIN", url)
        async with asyncio.timeout(5):
            result = await Run(tmp_path)(connect_timeout_s=0.2)
    assert result.problems[0].startswith(f"huggingface: {url} cannot be reached")
    assert result.problems[1].startswith(f"modelscope: {url} cannot be reached")


async def test_a_full_disk_stops_before_the_first_byte_and_asks_no_other_source(hub: Hub, tmp_path: Path) -> None:
    hub.repos["mirror/tiny"] = WHOLE
    result = await Run(tmp_path, free_bytes=100_500_000)()
    assert result.folder is None
    assert len(result.problems) == 1
    assert "1 MB are needed and 0 MB" in result.problems[0].replace("(", "")
    assert hub.metadata_requests() == 1
    assert hub.ranges("sub/model.bin") == hub.ranges("config.json") == []


async def begun(hub: Hub, run: Run, kept_bytes: int) -> None:
    """Start a fetch and cancel it once `kept_bytes` of the weights have come."""
    hub.faults["sub/model.bin"].append(Fault(cut_after_bytes=kept_bytes, stall=True))
    fetching = asyncio.create_task(run())
    while not any(event.file == "sub/model.bin" and event.received_bytes == kept_bytes for event in run.events):
        await asyncio.sleep(0.01)
        assert not fetching.done()
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching


async def test_a_cancelled_fetch_leaves_a_part_and_the_next_goes_on(hub: Hub, tmp_path: Path) -> None:
    run = Run(tmp_path)
    await begun(hub, run, 400_000)
    assert run.files() == {"config.json": CONFIG, "sub/model.bin.part": WEIGHTS[:400_000]}
    assert (await run()).ok
    assert run.files() == WHOLE
    assert hub.ranges("sub/model.bin") == ["", "bytes=400000-"]


async def test_a_part_of_something_else_is_found_out_and_fetched_anew(hub: Hub, tmp_path: Path) -> None:
    run = Run(tmp_path)
    await begun(hub, run, 400_000)
    (run.folder / "sub/model.bin.part").write_bytes(b"x" * 400_000)
    assert (await run()).problems == ()
    assert run.files() == WHOLE
    assert hub.ranges("sub/model.bin") == ["", "bytes=400000-", ""]


async def test_a_part_without_a_hash_to_check_it_is_not_gone_on_with(hub: Hub, tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.folder.mkdir()
    (run.folder / "config.json.part").write_bytes(b"[")
    assert (await run()).ok
    assert hub.ranges("config.json") == [""]
    assert run.files() == WHOLE


async def test_two_fetches_at_once_fetch_once(hub: Hub, tmp_path: Path) -> None:
    first, second = Run(tmp_path), Run(tmp_path)
    results = await asyncio.gather(first(), second())
    assert [result.ok for result in results] == [True, True]
    assert sorted(len(result.sources) for result in results) == [0, 1]
    assert len(hub.ranges("sub/model.bin")) == 1
    assert first.files() == WHOLE
    assert "waiting" in {event.state for event in first.events + second.events}


async def test_a_folder_copied_by_hand_is_used_and_never_written_to(hub: Hub, tmp_path: Path) -> None:
    for name, data in WHOLE.items():
        (tmp_path / "org/tiny" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "org/tiny" / name).write_bytes(data)
    result = await Run(tmp_path)()
    assert result == Result("tiny", tmp_path / "org/tiny")
    assert not hub.requests
    assert {path.name for path in (tmp_path / "org/tiny").iterdir()} == {"config.json", "sub"}
