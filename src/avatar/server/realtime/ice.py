"""Servers that help a call through a NAT."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class IceServer:
    """A STUN or TURN server, e.g. `stun:host:3478`, `turn:host?transport=udp`."""

    url: str
    username: str = ""
    credential: str = field(default="", repr=False)
