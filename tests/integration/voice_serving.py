"""A voice server in a process of its own, for what is measured of it: `python -m … FOLDER MODELS`.

Prints its address, and serves until its input is closed.
"""

import asyncio
import sys
from pathlib import Path

from tests.integration.voices import voice_server


async def main(folder: Path, models_dir: Path) -> None:
    async with voice_server(folder, models_dir) as client:
        print(client.server.url, flush=True)  # noqa: T201  (whoever started it reads that)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
