"""All that a GPU would run, on a made-up device: nothing is left on the host, no value is looked at."""

import subprocess
import sys
from pathlib import Path


def elsewhere(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """In a process of its own: a device is registered for good."""
    script = Path(__file__).with_name("on_a_device.py")
    return subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, check=False)


def test_everything_runs_on_the_device_and_looks_at_no_value() -> None:
    ran = elsewhere()
    assert ran.stdout == "done\n", ran.stderr


def test_a_table_left_on_the_host_is_found() -> None:
    ran = elsewhere("spoil")
    assert ran.returncode != 0
    assert "device" in ran.stderr.splitlines()[-1]
