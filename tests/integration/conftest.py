"""What tests of Realtime begin with: a server with a place for one session, whose fakes they can tell what to do."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.integration.openai_client import Talk, talking_alone
from tests.unit.conversation import Fakes


@pytest.fixture
def fakes() -> Fakes:
    return Fakes()


@pytest_asyncio.fixture
async def talk(tmp_path: Path, fakes: Fakes) -> AsyncIterator[Talk]:
    async with talking_alone(tmp_path, fakes) as talk:
        yield talk
