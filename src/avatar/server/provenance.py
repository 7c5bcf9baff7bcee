"""What a response with synthetic speech says of itself in its headers. Knows no route and no engine."""

from urllib.parse import quote

from avatar.conversation.voices import Choice

PROVENANCE = "X-Avatar-Provenance"
NOTICE = "X-Avatar-Notice"


def headers(engine: str, choice: Choice) -> dict[str, str]:
    """`X-Avatar-Provenance`: a structured field (RFC 9651) of the engine, the voice, and whether it is a clone's.

    `X-Avatar-Notice`, if there is something to tell: percent-encoded UTF-8.
    """
    told = {"engine": f'"{_ascii(engine)}"', "voice": f'"{_ascii(choice.voice or "default")}"'}
    flags = {"synthetic": "?1", "cloned": "?1" if choice.cloned else "?0"}
    found = {PROVENANCE: ", ".join(f"{name}={value}" for name, value in (flags | told).items())}
    return found | ({NOTICE: quote(choice.notice, safe=" ,.;:()")} if choice.notice else {})


def _ascii(text: str) -> str:
    return "".join(char if " " <= char <= "~" and char not in '"\\' else "?" for char in text)
