"""A real MCP server to talk to: how to start it over stdio, and one that serves HTTP."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from avatar.tools.mcp_servers import McpServer

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "tests.mcp_server")
ENV = {"PYTHONPATH": str(ROOT)}


def stdio(**more: object) -> McpServer:
    return McpServer("tests", command=COMMAND, env=ENV, **{"timeout_s": 20.0, **more})  # type: ignore[arg-type]


@asynccontextmanager
async def served() -> AsyncIterator[McpServer]:
    """Over HTTP, on a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "http", str(port), cwd=ROOT, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(30):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    break
                except OSError:
                    await asyncio.sleep(0.05)
        writer.close()
        yield McpServer("tests", url=f"http://127.0.0.1:{port}/mcp", timeout_s=20)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
