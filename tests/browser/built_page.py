"""Builds the page from its sources, so that what is tested is what the working tree says now."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

WEB = Path(__file__).resolve().parents[2] / "web"


def build(folder: Path) -> Path:
    """Build into `folder` and give it back. Raises `FileNotFoundError` when set-up has not been run."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # set-up may have put Node into the venv
    npm = shutil.which("npm", path=path)
    if not npm or not (WEB / "node_modules").is_dir():
        raise FileNotFoundError("The page cannot be built: run `make setup` first.")
    command = [npm, "run", "build", "--", "--outDir", str(folder), "--emptyOutDir"]
    built = subprocess.run(command, cwd=WEB, env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder
