"""Write `web/src/wire.ts`, the page's message types, from the models in `avatar.server.wire`.

`--check` writes nothing and fails when the file is out of date. Knows JSON schema as pydantic makes it, no more.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from avatar.server.wire import client, server

TARGET = Path(__file__).resolve().parents[1] / "web" / "src" / "wire.ts"
HEADER = """// The messages of `/ws/chat`.
// Generated from `src/avatar/server/wire/` by `scripts/wire_types.py`: do not edit.
"""
SCALARS = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}

Schema = dict[str, Any]


def ts_type(schema: Schema) -> str:
    """The TypeScript type of a JSON schema. Raises `ValueError` for a construct the wire does not use."""
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    if variants := schema.get("anyOf") or schema.get("oneOf"):
        return " | ".join(ts_type(variant) for variant in variants)
    kind = schema.get("type")
    if kind == "object":
        values = schema["additionalProperties"]
        return f"Record<string, {'unknown' if values is True else ts_type(values)}>"
    if kind == "array":
        return f"({ts_type(schema['items'])})[]"
    if kind in SCALARS:
        return SCALARS[kind]
    raise ValueError(f"No TypeScript for {schema}")


def comment(text: str | None, indent: str = "") -> str:
    return f"{indent}/** {text} */\n" if text else ""


def interface(name: str, schema: Schema, *, from_server: bool) -> str:
    """One model. The client may leave out what has a default; the server leaves out what is null."""
    lines = [comment(schema.get("description")) + f"export interface {name} {{\n"]
    for field, of in schema.get("properties", {}).items():
        kind = ts_type(of)
        absent = kind.endswith("null") if from_server else field not in schema.get("required", [])
        lines.append(comment(of.get("description"), "  ") + f"  {field}{'?' if absent else ''}: {kind};\n")
    return "".join(lines) + "}\n"


def union(name: str, models: Any, *, from_server: bool) -> str:
    schema = TypeAdapter(models).json_schema()
    parts = [interface(title, model, from_server=from_server) for title, model in schema["$defs"].items()]
    return "\n".join([*parts, f"export type {name} = {ts_type(schema)};\n"])


def render() -> str:
    """The whole text of `wire.ts`."""
    return "\n".join(
        [
            HEADER,
            union("ClientMessage", client.ClientMessage, from_server=False),
            union("ServerMessage", server.ServerMessage, from_server=True),
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail when the file is out of date, write nothing")
    check = parser.parse_args().check
    text = render()
    if check and (not TARGET.exists() or TARGET.read_text(encoding="utf-8") != text):
        print(f"{TARGET.name} is out of date: run python scripts/wire_types.py", file=sys.stderr)
        return 1
    if not check:
        TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
