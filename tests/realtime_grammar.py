"""The grammar of the Realtime protocol: what may follow what in a stream of server events.

Feed a recorded stream to `check`. Each event must have the official SDK's shape and an id of its own. It knows the
documentation and no implementation; where that leaves the order open (of `response.output_item.*` and its
`conversation.item.*`; of transcriptions, which come when they come) so does this.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter

_SERVER_EVENT: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)

TRANSCRIPTION = "conversation.item.input_audio_transcription."


class Ungrammatical(AssertionError):
    """An event where it cannot be."""


@dataclass
class _Item:
    """An item of a response: what of it is open, and what was said."""

    id: str
    kind: str
    part: str | None = None
    parts_done: int = 0
    text: str = ""
    audio_done: bool = False
    text_done: bool = False
    arguments: str = ""
    call_done: bool = False
    done: bool = False


@dataclass
class _Response:
    id: str
    in_conversation: bool
    modality: str
    items: list[_Item] = field(default_factory=list)
    done: bool = False
    playing: str | None = None
    """What was last told of its sound, where the server plays it."""


@dataclass
class _McpCall:
    """A call to an MCP server: it outlives its response."""

    output_index: int
    response_id: str
    state: str = "new"


@dataclass
class Grammar:
    """The state of a stream; `accept` raises `Ungrammatical`."""

    started: bool = False
    event_ids: set[str] = field(default_factory=set)
    responses: dict[str, _Response] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    added: set[str] = field(default_factory=set)
    finished: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    committed: set[str] = field(default_factory=set)
    heard: dict[str, str] = field(default_factory=dict)
    transcribed: set[str] = field(default_factory=set)
    speech: str | None = None
    listings: dict[str, str] = field(default_factory=dict)
    mcp_calls: dict[str, "_McpCall"] = field(default_factory=dict)

    def accept(self, event: dict[str, Any]) -> None:
        """The next event."""
        _SERVER_EVENT.validate_python(event)
        kind = event["type"]
        self._must(event["event_id"] not in self.event_ids, event, "its id was used before")
        self.event_ids.add(event["event_id"])
        self._must(self.started or kind in ("session.created", "error"), event, "session.created comes first")
        self._must(not self.started or kind != "session.created", event, "the session was created already")
        self.started = self.started or kind == "session.created"
        if kind.startswith(TRANSCRIPTION):
            self._transcription(event, kind.removeprefix(TRANSCRIPTION))
        elif kind.startswith("mcp_list_tools."):
            self._listing(event, kind.removeprefix("mcp_list_tools."))
        elif kind.startswith("response.mcp_call."):
            self._mcp_call(event, kind.removeprefix("response.mcp_call."))
        elif kind.startswith("response.") and "response_id" in event:
            self._of_response(event, kind.removeprefix("response."))
        elif kind.startswith("output_audio_buffer."):
            self._output(event, kind.removeprefix("output_audio_buffer."))
        elif kind in _HANDLERS:
            getattr(self, _HANDLERS[kind])(event)

    def end(self) -> None:
        """The stream is over, and nothing is open."""
        open_ = [response.id for response in self.responses.values() if not response.done]
        if open_:
            raise Ungrammatical(f"responses without an end: {open_}")
        asked = {item for item, call in self.mcp_calls.items() if call.state == "new"}  # for the client's leave
        unfinished = self.added - self.finished - self.deleted - asked
        if unfinished:
            raise Ungrammatical(f"items without an end: {unfinished}")

    def _must(self, holds: bool, event: dict[str, Any], why: str) -> None:
        if not holds:
            raise Ungrammatical(f"{event['type']}: {why}: {event}")

    # --- what is heard --------------------------------------------------------------------------

    def _speech_started(self, event: dict[str, Any]) -> None:
        self._must(self.speech is None, event, "speech had begun already")
        self.speech = event["item_id"]

    def _speech_stopped(self, event: dict[str, Any]) -> None:
        self._must(self.speech == event["item_id"], event, "of other speech than the one that began")
        self.speech = None

    def _committed(self, event: dict[str, Any]) -> None:
        self._must(event["item_id"] not in self.committed, event, "committed twice")
        self._must(event.get("previous_item_id") == self._last(), event, "previous_item_id is not the last item")
        self.committed.add(event["item_id"])

    def _transcription(self, event: dict[str, Any], what: str) -> None:
        item = event["item_id"]
        self._must(item in self.committed, event, "of an item that was not committed")
        self._must(item not in self.transcribed, event, "the transcription had ended")
        if what == "delta":
            self.heard[item] = self.heard.get(item, "") + event["delta"]
            return
        self.transcribed.add(item)
        if what == "completed" and item in self.heard:
            self._must(self.heard[item] == event["transcript"], event, "the deltas say something else")

    # --- items ----------------------------------------------------------------------------------

    def _last(self) -> str | None:
        return self.order[-1] if self.order else None

    def _item_added(self, event: dict[str, Any]) -> None:
        item, before = event["item"], event.get("previous_item_id")
        gone = item["id"] in self.deleted  # its id is free again
        self._must(item["id"] not in self.added or gone, event, "added twice")
        self.deleted.discard(item["id"])
        self.finished.discard(item["id"])
        self._must(before is None or before in self.order, event, "previous_item_id is unknown")
        self.order.insert(0 if before is None else self.order.index(before) + 1, item["id"])
        self.added.add(item["id"])

    def _item_done(self, event: dict[str, Any]) -> None:
        item = event["item"]
        self._must(item["id"] in self.added and item["id"] not in self.finished, event, "not added, or done twice")
        self._must(item.get("status") != "in_progress", event, "done, and in progress")
        if item["type"] == "mcp_call":
            state = self.mcp_calls[item["id"]].state
            self._must(state in ("completed", "failed"), event, "the call has not ended")
            self._must((state == "failed") == (item["error"] is not None), event, "it ended otherwise")
            self._must((state == "completed") == (item["output"] is not None), event, "it has no result")
        if item["type"] == "mcp_list_tools":
            self._must(self.listings[item["id"]] in ("completed", "failed"), event, "it is being listed")
        self.finished.add(item["id"])

    def _item_deleted(self, event: dict[str, Any]) -> None:
        self._must(event["item_id"] in self.order, event, "it is not there")
        self.order.remove(event["item_id"])
        self.deleted.add(event["item_id"])

    def _item_known(self, event: dict[str, Any]) -> None:
        item_id = event.get("item_id") or event["item"]["id"]
        self._must(item_id in self.order, event, "it is not there")

    # --- MCP servers ----------------------------------------------------------------------------

    def _listing(self, event: dict[str, Any], state: str) -> None:
        item = event["item_id"]
        self._must(item in self.added, event, "its item was not added")
        before = self.listings.get(item)
        self._must((before is None) == (state == "in_progress"), event, "begun twice, or not begun")
        self._must(before in (None, "in_progress"), event, "it had ended")
        self.listings[item] = state

    def _mcp_call(self, event: dict[str, Any], state: str) -> None:
        call = self.mcp_calls.get(event["item_id"])
        self._must(call is not None, event, "no such call")
        assert call is not None
        self._must(call.output_index == event["output_index"], event, "output_index of another")
        if state == "in_progress":
            self._must(call.state == "new", event, "begun twice")
        else:
            self._must(
                call.state == "in_progress" or (call.state, state) == ("new", "failed"), event, "not in progress"
            )
            self._must(self.responses[call.response_id].done, event, "its response is not over")
        call.state = state

    # --- responses ------------------------------------------------------------------------------

    def _response_created(self, event: dict[str, Any]) -> None:
        response = event["response"]
        self._must(response["id"] not in self.responses, event, "created twice")
        self._must((response["status"], response["output"]) == ("in_progress", []), event, "it is not new")
        in_conversation = response.get("conversation_id") is not None
        live = [r for r in self.responses.values() if r.in_conversation and not r.done]
        self._must(not (in_conversation and live), event, "another one is live")
        self.responses[response["id"]] = _Response(response["id"], in_conversation, response["output_modalities"][0])

    def _response_done(self, event: dict[str, Any]) -> None:
        told = event["response"]
        response = self.responses.get(told["id"])
        self._must(response is not None and not response.done, event, "not created, or done twice")
        assert response is not None
        self._must(all(item.done for item in response.items), event, "an item of it is open")
        self._must([item["id"] for item in told["output"]] == [i.id for i in response.items], event, "other items")
        self._must(told["status"] != "in_progress" and told.get("usage") is not None, event, "it has no end")
        response.done = True

    def _of_response(self, event: dict[str, Any], kind: str) -> None:
        response = self.responses.get(event["response_id"])
        self._must(response is not None and not response.done, event, "its response is not live")
        assert response is not None
        if kind == "output_item.added":
            self._must(event["output_index"] == len(response.items), event, "output_index is not the next")
            self._must(all(item.done for item in response.items), event, "the item before it is open")
            response.items.append(_Item(event["item"]["id"], event["item"]["type"]))
            if event["item"]["type"] == "mcp_call":
                self.mcp_calls[event["item"]["id"]] = _McpCall(event["output_index"], response.id)
            return
        self._must(event["output_index"] < len(response.items), event, "no such item")
        item = response.items[event["output_index"]]
        self._must(item.id == event.get("item_id", (event.get("item") or {}).get("id")), event, "another item's id")
        self._must(not item.done, event, "the item is done")
        if kind == "output_item.done":
            self._must(item.part is None, event, "a part is open")
            is_call = item.kind in ("function_call", "mcp_call")
            self._must(not is_call or item.call_done, event, "the arguments are not done")
            item.done = True
        elif kind.startswith(("function_call_arguments", "mcp_call_arguments")):
            self._call(item, event, kind)
        else:
            self._part(response, item, event, kind)

    def _call(self, item: _Item, event: dict[str, Any], kind: str) -> None:
        is_kind = kind.startswith(item.kind) and item.kind.endswith("_call")
        self._must(is_kind and not item.call_done, event, "no such call, or its arguments are done")
        if kind.endswith("delta"):
            item.arguments += event["delta"]
            return
        self._must(item.arguments == event["arguments"], event, "the deltas say something else")
        item.call_done = True

    def _part(self, response: _Response, item: _Item, event: dict[str, Any], kind: str) -> None:
        if kind == "content_part.added":
            self._must(item.part is None and event["content_index"] == item.parts_done, event, "a part is open")
            item.part, item.text, item.text_done, item.audio_done = event["part"]["type"], "", False, False
            return
        self._must(item.part is not None, event, "no part is open")
        spoken = item.part == "audio"
        if kind == "content_part.done":
            self._must(item.text_done and (item.audio_done or not spoken), event, "its text or sound is not done")
            item.part, item.parts_done = None, item.parts_done + 1
            return
        what, _, state = kind.rpartition(".")
        self._must(spoken == (what != "output_text"), event, "of the other modality")
        self._must((response.modality == "audio") == spoken, event, "the response is not of that modality")
        if what == "output_audio":
            self._must(not item.audio_done, event, "the sound is done")
            item.audio_done = state == "done"
        elif state == "delta":
            self._must(not item.text_done, event, "the text is done")
            item.text += event["delta"]
        else:
            said = event.get("transcript", event.get("text"))
            self._must(item.text == said and not item.text_done, event, "the deltas say something else")
            item.text_done = True

    # --- what is played (WebRTC) ----------------------------------------------------------------

    def _output(self, event: dict[str, Any], change: str) -> None:
        response = self.responses.get(event["response_id"])
        self._must(response is not None and response.modality == "audio", event, "no spoken response")
        assert response is not None
        if change == "started":
            self._must(response.playing is None, event, "it had started already")
            self._must(any(item.kind == "message" for item in response.items), event, "there is no part to play")
            others = [one for one in self.responses.values() if one.playing == "started"]
            self._must(not others, event, "another one is playing")
        else:
            self._must(response.playing == "started", event, "it is not playing")
            self._must(change != "stopped" or response.done, event, "more of it may come")
        response.playing = change


_HANDLERS = {
    "input_audio_buffer.speech_started": "_speech_started",
    "input_audio_buffer.speech_stopped": "_speech_stopped",
    "input_audio_buffer.committed": "_committed",
    "conversation.item.added": "_item_added",
    "conversation.item.done": "_item_done",
    "conversation.item.deleted": "_item_deleted",
    "conversation.item.retrieved": "_item_known",
    "conversation.item.truncated": "_item_known",
    "response.created": "_response_created",
    "response.done": "_response_done",
}


def check(events: Iterable[dict[str, Any]], *, ended: bool = True) -> None:
    """Raise `Ungrammatical` at the first event that is out of place; `ended`: nothing may be left open."""
    grammar = Grammar()
    for event in events:
        grammar.accept(event)
    if ended:
        grammar.end()
