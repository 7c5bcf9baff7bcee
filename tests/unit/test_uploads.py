"""Bounds of a request's body."""

import pytest
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from avatar.server.uploads import LimitedBodies

LIMITS = {"/": 10, "/api/large": 1000}


async def read(path: str, parts: list[bytes], claimed: str = "") -> int:
    """Bytes an application gets to read; a refusal is raised, and what was spared is left in `parts`."""
    taken = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal taken
        more = True
        while more:
            message = await receive()
            taken += len(message["body"])
            more = message["more_body"]

    async def receive() -> Message:
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: Message) -> None:
        raise AssertionError

    headers = [(b"content-length", claimed.encode())] if claimed else []
    await LimitedBodies(app, LIMITS)({"type": "http", "path": path, "headers": headers}, receive, send)
    return taken


async def test_the_longest_prefix_counts() -> None:
    assert await read("/v1/x", [b"12345", b"67890"]) == 10
    assert await read("/api/large/x", [b"x" * 1000], claimed="1000") == 1000


@pytest.mark.parametrize(("claimed", "left"), [("11", 3), ("", 1), ("5", 1), ("nonsense", 1)])
async def test_more_is_refused_and_unread_if_it_says_so_before(claimed: str, left: int) -> None:
    parts = [b"12345", b"678901", b"rest"]
    with pytest.raises(HTTPException, match="A request may have 10 bytes here") as refusal:
        await read("/v1/x", parts, claimed)
    assert (refusal.value.status_code, len(parts)) == (413, left)
