"""Tool calls as Qwen and the Hermes models write them into their text, where no server has taken them out of it.

`<tool_call>{"name": …, "arguments": {…}}</tool_call>`, as many as there are calls, after what is said.
"""

import json
from typing import Any

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"


class HermesFilter:
    """Feed it the text as it comes; it gives back what is to be said and keeps the calls."""

    def __init__(self) -> None:
        self._held = ""

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
