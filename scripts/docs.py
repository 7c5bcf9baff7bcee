"""Write the parts of `docs/` that the code already says: every setting, every message of the wire.

`docs/CONFIGURATION.md` comes whole from `avatar.settings`; the tables of `docs/PROTOCOL.md` come from
`avatar.server.wire`, between markers, and the prose around them is left alone. `--check` writes nothing and fails when
a file is out of date. Knows JSON schema as pydantic makes it, no more.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from avatar.server.wire import client, server
from avatar.settings import ENV_PREFIX, Settings

DOCS = Path(__file__).resolve().parents[1] / "docs"
CONFIGURATION = DOCS / "CONFIGURATION.md"
PROTOCOL = DOCS / "PROTOCOL.md"

Schema = dict[str, Any]

NUMBERS = {"integer": "whole number", "number": "number", "boolean": "true or false"}

MACHINE_DEFAULTS = {
    "models_dir": "`models` in the platform's folder for user data, e.g. `~/.local/share/avatar/models` on Linux",
    "data_dir": "`data/` in a checkout, else the platform's folder for user data",
}
"""Defaults that depend on the machine, in words."""

INTRODUCTION = """\
# Configuration

<!-- Generated from `src/avatar/settings.py` by `scripts/docs.py`: do not edit. -->

Everything has a default: AVATAR runs without any configuration. A setting is looked for in this order, the first that
has it wins:

1. the command line: `avatar serve --host … --port …`;
2. the environment: `AVATAR_` and the name, with `__` between section and field: `AVATAR_SERVER__PORT=9000`;
   a list is written as JSON: `AVATAR_SERVER__ALLOWED_ORIGINS='["https://home.example"]'`;
3. `avatar.toml` in the folder the command runs in (for `make run` the checkout), or the file that `--config` of
   `avatar serve` and `avatar doctor` names;
4. the default.

They are read once, at the start. An unknown key or a value out of bounds stops the start with a message that names it.

```toml
# avatar.toml
log_level = "warning"

[server]
port = 9000

[llm]
base_url = "http://localhost:11434/v1"
model = "qwen3:8b"

[conversation]
instructions = "You are a patient teacher of Chinese. Answer in one or two short sentences."
```

Some variables that do not begin with `AVATAR_` count too, because the libraries that fetch and run models read them:
`HF_ENDPOINT` (a mirror of Hugging Face) and `HF_TOKEN` (for repositories that want an account) by huggingface_hub,
`MODELSCOPE_DOMAIN` as ModelScope's own client does, `VLLM_…` by vLLM, and whatever configures pip, uv and npm when
weights come out of packages. `QWEN_TTS_MODELS_DIR` is of earlier systems: the folder that holds `Qwen/`, where that is
not the models folder.
"""


# --- JSON schema in words -----------------------------------------------------------------------


def words(schema: Schema) -> str:
    """The values a schema admits. Raises `ValueError` for a construct that is not used here."""
    if "const" in schema:
        return f'`"{schema["const"]}"`'
    if "enum" in schema:
        return ", ".join(f'`"{value}"`' for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(words(variant) for variant in schema["anyOf"] if variant.get("type") != "null")
    if "$ref" in schema:
        return "tables"
    kind = schema.get("type")
    if kind in NUMBERS:
        return NUMBERS[kind] + _bounds(schema)
    if kind == "string":
        return _text(schema)
    if kind == "array":
        return f"list of {words(schema['items'])}"
    if kind == "object":
        values = schema["additionalProperties"]
        return "object" if values is True else f"object, name to {words(values)}"
    raise ValueError(f"No words for {schema}")


def _bounds(schema: Schema) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    found = [f"{sign} {schema[key]:,}" for key, sign in signs.items() if key in schema]
    return " " * bool(found) + ", ".join(found)


def _text(schema: Schema) -> str:
    if schema.get("format") == "path":
        return "path"
    least, most = schema.get("minLength"), schema.get("maxLength")
    length = "" if most is None else f", {least} to {most:,} characters" if least else f", at most {most:,} characters"
    return "text" + length + (f", `{schema['pattern']}`" if "pattern" in schema else "")


def _default(schema: Schema) -> str:
    value = schema["default"]
    if value is None:
        return "unset"
    if value in ("", []):
        return "empty"
    return f'`"{value}"`' if isinstance(value, str) else f"`{str(value).lower()}`"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|").replace("\n", " ") for cell in cells) + " |\n"


# --- settings -----------------------------------------------------------------------------------


def configuration() -> str:
    """The whole text of `CONFIGURATION.md`."""
    schema = Settings.model_json_schema()
    sections = {name: of for name, of in schema["properties"].items() if "$ref" in of}
    top = {name: of for name, of in schema["properties"].items() if name not in sections}
    parts = [INTRODUCTION, "## Top level\n\n" + _settings_table("", top)]
    for name, of in sections.items():
        section = schema["$defs"][of["$ref"].rsplit("/", 1)[-1]]
        parts.append(f"## `[{name}]`\n\n{section['description']}\n\n" + _settings_table(name, section["properties"]))
    return "\n".join(parts)


def _settings_table(section: str, fields: dict[str, Schema]) -> str:
    lines = [_row("key", "environment", "value", "default", "what it does"), "|---|---|---|---|---|\n"]
    for name, of in fields.items():
        variable = ENV_PREFIX + "__".join(part.upper() for part in (section, name) if part)
        default = _default(of) if "default" in of else MACHINE_DEFAULTS[name]
        lines.append(_row(f"`{name}`", f"`{variable}`", words(of), default, of["description"]))
    return "".join(lines)


# --- the wire -----------------------------------------------------------------------------------


def protocol(text: str) -> str:
    """`text` of `PROTOCOL.md` with fresh tables between its markers. Raises `ValueError` when a marker is missing."""
    for name, models, from_server in (
        ("client messages", client.ClientMessage, False),
        ("server messages", server.ServerMessage, True),
    ):
        begin, end = f"<!-- generated: {name} -->\n", "<!-- end -->"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise ValueError(f"PROTOCOL.md must hold the markers of `{name}` once.")
        tables = begin + "\n" + "\n".join(_messages(models, from_server=from_server)) + "\n" + end
        text = pattern.sub(lambda _, tables=tables: tables, text)  # type: ignore[misc]
    return text


def _messages(models: Any, *, from_server: bool) -> Iterator[str]:
    schema = TypeAdapter(models).json_schema()
    defs = schema["$defs"]
    for reference in schema["oneOf"]:
        model = defs[reference["$ref"].rsplit("/", 1)[-1]]
        lines = [f"#### `{model['properties']['type']['const']}`\n\n{model['description']}\n"]
        rows = list(_fields(model, defs, from_server=from_server))
        if rows:
            lines += ["\n", _row("field", "value", "what it is"), "|---|---|---|\n", *rows]
        yield "".join(lines)


def _fields(model: Schema, defs: dict[str, Schema], *, from_server: bool, prefix: str = "") -> Iterator[str]:
    """A row for each field, those of nested objects under dotted names. What every message carries is left out."""
    for name, of in model["properties"].items():
        if not prefix and name in ("type", "session_id"):
            continue
        nested = _nested(of, defs)
        presence = _presence(name, of, model, from_server=from_server, inside=bool(prefix))
        many = of.get("type") == "array"
        value = ("list of objects" if nested and many else "object" if nested else words(of)) + presence
        about = of.get("description") or (nested or {}).get("description", "")
        yield _row(f"`{prefix}{name}`", value, about)
        if nested:
            inner = f"{prefix}{name}{'[]' * many}."
            yield from _fields(nested, defs, from_server=from_server, prefix=inner)


def _nested(of: Schema, defs: dict[str, Schema]) -> Schema | None:
    for variant in (of, of.get("items", {}), *of.get("anyOf", ())):
        if "$ref" in variant:
            return defs[variant["$ref"].rsplit("/", 1)[-1]]
    return None


def _presence(name: str, of: Schema, model: Schema, *, from_server: bool, inside: bool) -> str:
    """Whether the field may be missing: the server leaves out what is null (inside an object it says null)."""
    nullable = any(variant.get("type") == "null" for variant in of.get("anyOf", ()))
    if from_server:
        return ("; may be null" if inside else "; may be absent") if nullable else ""
    if name in model.get("required", ()):
        return "; required"
    default = of.get("default")
    return "; optional" if default is None or isinstance(default, dict) else f"; default {_default(of)}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail when a file is out of date, write nothing")
    check = parser.parse_args().check
    stale = []
    for path, text in (
        (CONFIGURATION, configuration()),
        (PROTOCOL, protocol(PROTOCOL.read_text(encoding="utf-8"))),
    ):
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path.name)
        if not check:
            path.write_text(text, encoding="utf-8")
    if check and stale:
        print(f"Out of date: {', '.join(stale)}. Run python scripts/docs.py", file=sys.stderr)
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
