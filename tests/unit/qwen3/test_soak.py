"""The soak of `benchmarks/qwen3_soak.py`, cut short: all slots come back, memory stays."""

import asyncio

from benchmarks.qwen3_soak import GROWTH_MIB, soak

from tests.unit.qwen3.models import checkpoint


def test_hundreds_of_sessions_leave_nothing_behind() -> None:
    soaked = asyncio.run(soak(checkpoint("custom"), 300))
    assert soaked.is_clean, soaked.stats
    assert soaked.stats["opened"] == 300
    assert min(soaked.stats["finished"], soaked.stats["cancelled"], soaked.stats["failed"]) > 3
    assert soaked.growth_mib < GROWTH_MIB
