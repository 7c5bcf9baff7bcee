"""Settings: precedence, refusal of what is unknown, frozen."""

from pathlib import Path

import pytest
from aiortc.rtcicetransport import parse_stun_turn_uri
from pydantic import ValidationError

from avatar.conversation.terms import SessionPolicy
from avatar.core.errors import SetupError
from avatar.core.turns import TurnPolicy
from avatar.settings import Section, Settings, load


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No avatar.toml and no AVATAR_ variable of whoever runs the tests."""
    import os

    for name in [name for name in os.environ if name.startswith("AVATAR_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def write(text: str) -> Path:
    path = Path("avatar.toml")
    path.write_text(text)
    return path


def test_the_file_is_weaker_than_the_environment_and_that_than_the_command_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write('[server]\nhost = "a"\nport = 1\nsend_timeout_s = 3')
    monkeypatch.setenv("AVATAR_SERVER__HOST", "b")
    monkeypatch.setenv("AVATAR_SERVER__PORT", "2")
    server = load(overrides={"server": {"port": 3}}).server
    assert (server.host, server.port, server.send_timeout_s) == ("b", 3, 3.0)


@pytest.mark.parametrize("text", ["[server]\nprt = 1", "colour = 1", "[sever]\nport = 1", "[server]\nport = 'x'"])
def test_a_wrong_file_is_refused_by_name(text: str) -> None:
    write(text)
    with pytest.raises(SetupError, match=r"server|colour|sever"):
        load()


def test_a_file_that_is_not_toml_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot be read"):
        load(write("= ="))
    with pytest.raises(SetupError, match="does not exist"):
        load(tmp_path / "none.toml")


@pytest.mark.parametrize("name", ["AVATAR_SERVER__PRT", "AVATAR_SEVER__PORT", "AVATAR_MODEL_DIR"])
def test_an_unknown_variable_is_refused_by_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(SetupError, match=name):
        load()


def test_lists_come_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVATAR_MODELS__SOURCES", '["package"]')
    assert load().models.sources == ("package",)
    monkeypatch.setenv("AVATAR_MODELS__SOURCES", "package")
    with pytest.raises(SetupError, match=r'"models".*JSON'):
        load()


def test_the_models_folder_has_a_variable_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AVATAR_MODELS_DIR", str(tmp_path))
    assert load().models_dir == tmp_path


def test_turn_taking_has_one_set_of_defaults() -> None:
    defaults = load().turn_taking.model_dump()
    policy = TurnPolicy()
    for name in ("eagerness", "backchannels"):
        assert defaults.pop(name) == getattr(SessionPolicy(), name)
    assert {name: getattr(policy, name) for name in defaults} == defaults


def test_an_answer_must_leave_room_for_the_question() -> None:
    with pytest.raises(SetupError, match="context_tokens"):
        load(overrides={"llm": {"context_tokens": 1024}, "conversation": {"max_reply_tokens": 1000}})


def test_nothing_changes_after_start() -> None:
    settings = load()
    with pytest.raises(ValidationError):
        settings.server = settings.server  # type: ignore[misc]
    with pytest.raises(ValidationError):
        settings.server.port = 1  # type: ignore[misc]


def test_every_field_says_what_it_is_for() -> None:
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            assert section.__doc__
            assert all(inner.description for inner in section.model_fields.values()), name
        else:
            assert field.description, name


def test_an_mcp_server_is_somewhere(tmp_path: Path) -> None:
    file = tmp_path / "avatar.toml"
    file.write_text('[[tools.mcp_servers]]\nlabel = "files"\ncommand = ["files"]\nheaders = { key = "secret" }\n')
    (server,) = load(file).tools.mcp_servers
    assert (server.label, server.command) == ("files", ("files",))
    assert "secret" not in repr(server)
    file.write_text('[[tools.mcp_servers]]\nlabel = "files"\n')
    with pytest.raises(SetupError, match="either a command or a url"):
        load(file)


@pytest.mark.parametrize(
    "url",
    ["stun:a.example", "stun:a.example:3478", "turn:a.example", "turn:1.2.3.4:99?transport=tcp", "turns:a.example"],
)
def test_ice_servers_that_are_taken_can_be_used(url: str) -> None:
    [server] = load(overrides={"webrtc": {"ice_servers": [{"url": url, "credential": "secret"}]}}).webrtc.ice_servers
    assert parse_stun_turn_uri(server.url)["host"] in url
    assert "secret" not in repr(server)


@pytest.mark.parametrize(
    "url",
    ["", "a.example", "http://a.example", "stun:", "stun:a.example?transport=udp", "turn:a:b", "turn:a?transport=x"],
)
def test_ice_servers_that_cannot_be_used_are_refused(url: str) -> None:
    with pytest.raises(SetupError, match=r"webrtc\.ice_servers"):
        load(overrides={"webrtc": {"ice_servers": [{"url": url}]}})


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("https://home.example", "https://home.example"),
        ("https://Home.Example/", "https://home.example"),
        ("https://home.example:443", "https://home.example"),
        ("http://home.example:8080", "http://home.example:8080"),
        ("http://[::1]:80", "http://[::1]"),
        ("capacitor://localhost", "capacitor://localhost"),
    ],
)
def test_an_origin_is_kept_as_browsers_send_it(written: str, sent: str) -> None:
    assert load(overrides={"server": {"allowed_origins": [written]}}).server.allowed_origins == (sent,)


@pytest.mark.parametrize(
    "origin", ["home.example", "*", "https://*.home.example", "https://home.example/page", "null", ""]
)
def test_an_origin_that_can_never_match_is_refused(origin: str) -> None:
    with pytest.raises(SetupError, match=r"is no web origin: write scheme, host .* as in https://home\.example"):
        load(overrides={"server": {"allowed_origins": [origin]}})
