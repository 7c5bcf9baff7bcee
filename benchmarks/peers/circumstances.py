"""Under which circumstances a comparison was made: day, commit, machine, versions, load."""

import datetime
import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("onnxruntime", "xllamacpp", "numpy", "fastapi", "starlette", "uvicorn", "websockets")
"""What both stand on."""
_ASK_VERSIONS = "import json, sys; from importlib.metadata import version; " + (
    "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
)


_GIT = ("git", "-C", str(Path(__file__).resolve().parents[2]))


def load_average() -> list[float]:
    """Of the last 1, 5 and 15 minutes."""
    return [round(load, 2) for load in os.getloadavg()]


def describe(python: Path) -> dict[str, Any]:
    """The circumstances; `python` is Pipecat's interpreter."""
    asked = subprocess.run(
        [python, "-c", _ASK_VERSIONS, "pipecat-ai", *PACKAGES], check=True, capture_output=True, text=True
    )
    return {
        "date": datetime.date.today().isoformat(),
        "commit": _commit(),
        "machine": _machine(),
        "versions": {
            "AVATAR": {name: metadata.version(name) for name in ("avatar-voice", *PACKAGES)},
            "Pipecat": json.loads(asked.stdout),
        },
    }


def _commit() -> str:
    """The last one, marked if what was measured or the measuring differs from it."""
    commit = subprocess.run([*_GIT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    changed = subprocess.run([*_GIT, "diff", "--quiet", "HEAD", "--", "src", "benchmarks/peers", "tests/load"])
    return f"{commit or 'unknown'}{'-dirty' if commit and changed.returncode else ''}"


def _machine() -> str:
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return f"{_processor()}, {os.cpu_count()} cores, {memory_gib:.0f} GiB, Python {platform.python_version()}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
