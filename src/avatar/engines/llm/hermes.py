"""Tools as Qwen and the Hermes models know them: told in the prompt, called in the text.

`<tool_call>{"name": …, "arguments": {…}}</tool_call>`, as many as there are calls, after what is said. It is also the
way for models whose own template knows no tools, and, by a schema or the beginning of a call, to have one for certain.
"""

import json
from collections.abc import Sequence
from typing import Any

from avatar.engines.base import Message, Tool, ToolCall
from avatar.engines.llm import wire

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"

_TOLD = """# Tools

You may call one or more functions to help with the user's question. Their signatures:
<tools>
{tools}
</tools>

For each call write a JSON object with the function's name and arguments:
<tool_call>
{{"name": <name>, "arguments": <arguments>}}
</tool_call>"""


def in_text(messages: Sequence[Message], tools: Sequence[Tool]) -> list[Message]:
    """The same conversation for a template without tools: they are told in the system message, calls and results in
    what assistant and user say."""
    told = [Message(*_as_text(message)) for message in messages]
    if not tools:
        return told
    offer = _TOLD.format(tools="\n".join(json.dumps(tool) for tool in wire.tool_dicts(tools)))
    if told and told[0].role == "system":
        return [Message("system", f"{told[0].content}\n\n{offer}"), *told[1:]]
    return [Message("system", offer), *told]


def _as_text(message: Message) -> tuple[Any, str]:
    if message.role == "tool":
        return "user", f"<tool_response>\n{message.content}\n</tool_response>"
    return message.role, "\n".join(filter(None, (message.content, *map(_written, message.tool_calls))))


def _written(call: ToolCall) -> str:
    return f'{_OPEN}\n{{"name": {json.dumps(call.name)}, "arguments": {call.arguments or "{}"}}}\n{_CLOSE}'


def call_schema(tools: Sequence[Tool], choice: str) -> dict[str, Any]:
    """JSON schema of one call: of the tool that is chosen, or (`required`) of any."""
    schemas = [
        {
            "type": "object",
            "properties": {"name": {"const": tool.name}, "arguments": tool.parameters},
            "required": ["name", "arguments"],
        }
        for tool in tools
        if choice in ("required", tool.name)
    ]
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def begun_call(choice: str) -> str:
    """How an answer begins that is a call for certain; the model goes on from there."""
    named = "" if choice == "required" else f'{choice}", "arguments": '
    return f'{_OPEN}\n{{"name": "{named}'


class HermesFilter:
    """Feed it the text as it comes; it gives back what is to be said and keeps the calls. `begun`: what of the answer
    was given to the model, and does not come from it."""

    def __init__(self, begun: str = "") -> None:
        self._held = begun

    def read(self, chunk: dict[str, Any]) -> dict[str, Any]:
        """A chunk as a server would have sent it that knows of tools; what one has found is left as it is."""
        choice = next(iter(chunk.get("choices") or ()), None)
        if choice is None:
            return chunk
        delta = dict(choice.get("delta") or {})
        delta["content"] = self.push(delta.get("content") or "")
        if choice.get("finish_reason"):
            rest, calls = self.finish()
            delta["content"] += rest
            delta["tool_calls"] = delta.get("tool_calls") or calls
        return chunk | {"choices": [choice | {"delta": delta}]}

    def push(self, text: str) -> str:
        """What of `text` is certainly no part of a call."""
        self._held += text
        start = self._held.find(_OPEN)
        if start < 0:
            possible = range(max(len(self._held) - len(_OPEN), 0), len(self._held))
            start = next((at for at in possible if _OPEN.startswith(self._held[at:])), len(self._held))
        said, self._held = self._held[:start], self._held[start:]
        return said

    def finish(self) -> tuple[str, list[dict[str, Any]]]:
        """What is left to be said, and the calls as a server would write them into its last chunk.

        A call that is no JSON is dropped: nobody wants to hear it.
        """
        if not self._held.startswith(_OPEN):
            return self._held, []
        blocks = (block.partition(_CLOSE)[0] for block in self._held.split(_OPEN)[1:])
        return "", [call for index, block in enumerate(blocks) if (call := _call(index, block))]


def _call(index: int, block: str) -> dict[str, Any] | None:
    try:
        written = json.loads(block)
        arguments = json.dumps(written.get("arguments") or {}, ensure_ascii=False)
        return {"index": index, "function": {"name": str(written["name"]), "arguments": arguments}}
    except (ValueError, KeyError, AttributeError):
        return None
