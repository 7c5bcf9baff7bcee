"""The documents say what the code does: generated parts are fresh, nothing is left out, examples and links work."""

import ast
import asyncio
import json
import re
import sys
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import TypeAdapter
from scripts import docs

from avatar.core.errors import AvatarError, SetupError
from avatar.core.turn_events import Action
from avatar.core.turns import Phase
from avatar.media.opus import encode_ogg_opus
from avatar.server.wire import client, server
from avatar.settings import Section, Settings, load
from tests.integration.serving import fake_engines, serving, settings_for
from tests.unit.conversation import tone

ROOT = docs.DOCS.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(docs.DOCS.rglob("*.md"))]
TALK = docs.DOCS / "examples" / "talk.py"
EXCHANGED = [line for line in docs.PROTOCOL.read_text().splitlines() if re.match(r"[→←] \{", line)]


def blocks(language: str) -> Iterator[tuple[Path, str]]:
    """Every fenced block in that language, with its page."""
    for page in PAGES:
        for block in re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL):
            yield page, block


def tree(error: type[AvatarError]) -> Iterator[type[AvatarError]]:
    """`error` and all that derive from it, less what never reaches a client."""
    if error is not SetupError:
        yield error
        for derived in error.__subclasses__():
            yield from tree(derived)


# --- nothing is stale, nothing is missing --------------------------------------------------------


def test_generated_parts_are_fresh() -> None:
    stale = "run python scripts/docs.py"
    assert docs.CONFIGURATION.read_text() == docs.configuration(), stale
    assert docs.PROTOCOL.read_text() == docs.protocol(docs.PROTOCOL.read_text()), stale


def test_a_page_without_its_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="client messages"):
        docs.protocol("nothing here")


def test_every_setting_is_documented() -> None:
    text = docs.CONFIGURATION.read_text()
    for name, field in Settings.model_fields.items():
        section = field.annotation
        inside = section.model_fields if isinstance(section, type) and issubclass(section, Section) else {"": None}
        for key in inside:
            variable = f"AVATAR_{name}__{key}".strip("_").upper()
            assert f"| `{key or name}` | `{variable}` |" in text


def test_no_default_is_a_path_of_this_machine() -> None:
    assert str(Path.home()) + "/" not in docs.CONFIGURATION.read_text()
    assert str(ROOT) not in docs.CONFIGURATION.read_text()


@pytest.mark.parametrize(("messages", "side"), [(client.ClientMessage, "client"), (server.ServerMessage, "server")])
def test_every_message_and_field_is_documented(messages: Any, side: str) -> None:
    text = docs.PROTOCOL.read_text().partition(f"<!-- generated: {side} messages -->")[2].partition("<!-- end -->")[0]
    for model in get_args(get_args(messages)[0]):
        title = f"#### `{get_args(model.model_fields['type'].annotation)[0]}`\n"
        assert text.count(title) == 1
        part = text.partition(title)[2].partition("####")[0]
        for name in set(model.model_fields) - {"type", "session_id"}:
            assert f"| `{name}` |" in part


@pytest.mark.parametrize("error", [error for error in tree(AvatarError) if "code" in vars(error)])
def test_every_error_code_is_documented_with_its_status(error: type[AvatarError]) -> None:
    row = re.search(rf"^\| `{error.code}` \| ([\d, ]+) \| (.+) \|$", docs.PROTOCOL.read_text(), re.MULTILINE)
    assert row is not None
    assert str(error.http_status) in row[1].split(", ")
    assert error.fatal <= ("fatal" in row[2].lower())


def test_every_state_and_action_of_turn_taking_is_in_its_table() -> None:
    text = (docs.DOCS / "TURN_TAKING.md").read_text()
    for name in [phase.name for phase in Phase] + [action.__name__ for action in get_args(Action)]:
        assert len(re.findall(rf"\b{name}\b", text)) >= 2, name


# --- what is shown works --------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()) + re.findall(r'src="([^"]+)"', page.read_text()):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        found = page.parent / path if path else page
        assert found.exists(), f"{page.name} -> {target}"
        if anchor:
            assert anchor in anchors(found), f"{page.name} -> {target}"


def anchors(page: Path) -> set[str]:
    """Those that hosts of Markdown make of headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_tests_named_as_proof_exist() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", "".join(page.read_text() for page in PAGES))
    assert named
    for file, test in named:
        functions = {
            node.name for node in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(node, _FUNCTION)
        }
        assert not test or test in functions, f"{file}::{test}"


_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


@pytest.mark.parametrize(
    ("page", "block"), [(page, block) for page, block in blocks("toml") if "project." not in block]
)
def test_example_settings_load(page: Path, block: str, tmp_path: Path) -> None:
    file = tmp_path / "avatar.toml"
    file.write_text(block)
    assert load(file) != load(), page


@pytest.mark.parametrize("line", EXCHANGED)
def test_messages_of_the_example_exchanges_are_of_the_wire(line: str) -> None:
    if line.startswith("→"):
        client.parse(line[2:])
    else:
        message = TypeAdapter[server.ServerBase](server.ServerMessage).validate_python(json.loads(line[2:]))
        assert json.loads(server.encode(message)) == json.loads(line[2:])


def test_the_readme_shows_the_example_client_as_it_is() -> None:
    assert TALK.read_text().partition("def ask")[2].strip() in (ROOT / "README.md").read_text()


def test_the_example_client_talks(tmp_path: Path) -> None:
    """Typed and with a recording, against a real server with fakes for models; on real time, in a thread of its own."""
    question = tmp_path / "question.ogg"
    question.write_bytes(encode_ogg_opus(tone(0.3, 800), 16_000))
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, _talk(tmp_path, ["How are you?", str(question)])).result()


async def _talk(folder: Path, questions: list[str]) -> None:
    async with serving(fake_engines(), settings_for(folder)) as server:
        for question in questions:
            running = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", _RUN.format(url=server.url.replace("http", "ws") + "/ws/chat")),
                *(str(TALK.parent), question),
                cwd=folder,
                stdout=asyncio.subprocess.PIPE,
            )
            output, _ = await running.communicate()
            assert output.decode().strip() == "I am fine. How are you?"
            with wave.open(str(folder / "answer.wav")) as answer:
                assert answer.getframerate() == 24_000
                assert answer.getnframes() > 24_000
            (folder / "answer.wav").unlink()


_RUN = "import sys; sys.path.insert(0, sys.argv[1]); import talk; print(talk.ask(sys.argv[2], url='{url}'))"


@pytest.mark.parametrize("package", ["server", "conversation"])
def test_the_map_shows_each_file(package: str) -> None:
    table = (docs.DOCS / "ARCHITECTURE.md").read_text().partition(f"### {package}/\n")[2].partition("\n#")[0]
    below = ROOT / "src" / "avatar" / package
    names = [f"{path.name}/" if path.is_dir() else path.name for path in below.iterdir()]
    known = [name for name in names if not name.startswith("_") and name != "ui/"]
    assert [name for name in known if f"`{name}`" not in table] == []
