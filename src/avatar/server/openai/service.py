"""What the routes below `/v1` share. Knows no route."""

from collections.abc import Callable
from dataclasses import dataclass

from avatar.conversation.admission import SessionManager
from avatar.conversation.opening import House


@dataclass(frozen=True)
class Service:
    """`house` raises while engines load; `requests` bounds how many are at work at once."""

    house: Callable[[], House]
    requests: SessionManager
    send_timeout_s: float
    max_body_bytes: int
    max_upload_s: float
