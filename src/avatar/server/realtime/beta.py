"""The beta's names, for clients that know no others: applied to what comes in and to what goes out.

Everything else works on the protocol as it is. Pure.
"""

from typing import Any

from avatar.server.realtime.server_events import Event

_RENAMED = {
    "response.output_text.delta": "response.text.delta",
    "response.output_text.done": "response.text.done",
    "response.output_audio.delta": "response.audio.delta",
    "response.output_audio.done": "response.audio.done",
    "response.output_audio_transcript.delta": "response.audio_transcript.delta",
    "response.output_audio_transcript.done": "response.audio_transcript.done",
    "conversation.item.added": "conversation.item.created",
}
_DROPPED = frozenset({"conversation.item.done"})
"""The beta had one event for an item."""

TRANSCRIPTION_UPDATE = "transcription_session.update"

_PARTS = {"output_text": "text", "output_audio": "audio"}
_FORMATS: dict[str, dict[str, Any]] = {
    "pcm16": {"type": "audio/pcm", "rate": 24_000},
    "g711_ulaw": {"type": "audio/pcmu"},
    "g711_alaw": {"type": "audio/pcma"},
}
_FORMAT_NAMES = {form["type"]: name for name, form in _FORMATS.items()}
_FLAT_INPUT = {
    "turn_detection": "turn_detection",
    "input_audio_transcription": "transcription",
    "input_audio_noise_reduction": "noise_reduction",
}


def from_server(event: Event) -> Event | None:
    """One of our events as the beta had it; None: the beta had none like it."""
    if event["type"] in _DROPPED:
        return None
    told = dict(event, type=_RENAMED.get(event["type"], event["type"]))
    if "item" in told:
        told["item"] = _item(told["item"], _PARTS)
    if "session" in told:
        if told["session"]["type"] == "transcription":
            told["type"] = f"transcription_{told['type']}"
        told["session"] = _flat(told["session"])
    if "response" in told:
        told["response"] = _flat_response(told["response"])
    return told


def from_client(event: Any) -> Any:
    """A client's event of the beta as it is now; what is nothing of the kind stays as it is, to be refused."""
    if not isinstance(event, dict):
        return event
    told = dict(event)
    if told.get("type") == TRANSCRIPTION_UPDATE:
        told["type"] = "session.update"
        if isinstance(told.get("session"), dict):
            told["session"] = transcription(told["session"])
    elif isinstance(told.get("session"), dict) and "audio" not in told["session"]:
        told["session"] = {"type": "realtime"} | _nested(told["session"])
    if isinstance(told.get("response"), dict):
        told["response"] = _nested(told["response"])
    if isinstance(told.get("item"), dict):
        assistant = told["item"].get("role") == "assistant"
        told["item"] = _item(told["item"], {"text": "output_text" if assistant else "input_text"})
    return told


def transcription(flat: dict[str, Any]) -> dict[str, Any]:
    """A session that only writes down, as it is now."""
    return {"type": "transcription"} | _nested({name: value for name, value in flat.items() if name != "modalities"})


def _item(item: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    content = item.get("content")
    if not isinstance(content, list):
        return item
    return item | {"content": [_part(part, names) for part in content]}


def _part(part: Any, names: dict[str, str]) -> Any:
    kind = part.get("type") if isinstance(part, dict) else None
    return part | {"type": names.get(kind, kind)} if isinstance(kind, str) else part


def _modalities(ours: list[str]) -> list[str]:
    return ["text", "audio"] if "audio" in ours else ["text"]


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    """A flat session, or response, with its audio where it is now. `temperature` is the server's affair."""
    told = {name: value for name, value in flat.items() if name not in ("temperature", "speed")}
    heard: dict[str, Any] = {}
    said: dict[str, Any] = {}
    for name, now in _FLAT_INPUT.items():
        if name in told:
            heard[now] = told.pop(name)
    for name, side in (("input_audio_format", heard), ("output_audio_format", said)):
        if name in told:
            form = told.pop(name)
            side["format"] = _FORMATS.get(form, {"type": "unknown"}) if isinstance(form, str) else form
    if "voice" in told:
        said["voice"] = told.pop("voice")
    if "speed" in flat:
        said["speed"] = flat["speed"]
    if "modalities" in told:
        modes = told.pop("modalities")
        told["output_modalities"] = (["audio"] if "audio" in modes else ["text"]) if isinstance(modes, list) else modes
    if "max_response_output_tokens" in told:
        told["max_output_tokens"] = told.pop("max_response_output_tokens")
    if heard or said:
        told["audio"] = ({"input": heard} if heard else {}) | ({"output": said} if said else {})
    return told


def _flat_response(response: dict[str, Any]) -> dict[str, Any]:
    told = {name: value for name, value in response.items() if name not in ("audio", "output_modalities")}
    sound = response["audio"]["output"]
    return told | {
        "output": [_item(item, _PARTS) for item in response["output"]],
        "modalities": _modalities(response["output_modalities"]),
        "voice": sound["voice"],
        "output_audio_format": _FORMAT_NAMES[sound["format"]["type"]],
    }


def _flat(session: dict[str, Any]) -> dict[str, Any]:
    told = {name: value for name, value in session.items() if name not in ("audio", "output_modalities", "type")}
    audio = session["audio"]
    for name, now in _FLAT_INPUT.items():
        told[name] = audio["input"][now]
    told["input_audio_format"] = _FORMAT_NAMES[audio["input"]["format"]["type"]]
    if "output" in audio:
        told["output_audio_format"] = _FORMAT_NAMES[audio["output"]["format"]["type"]]
        told["voice"], told["speed"] = audio["output"]["voice"], audio["output"]["speed"]
        told["modalities"] = _modalities(session["output_modalities"])
        told["max_response_output_tokens"] = told.pop("max_output_tokens")
    return told
