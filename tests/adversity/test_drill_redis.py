"""The measurement of limits that four routers share through Redis, at a small scale."""

import os
import shutil

import pytest

from loadtests.drills.outcome import Scale
from loadtests.limits import redis

pytestmark = [
    pytest.mark.timed,
    pytest.mark.skipif(shutil.which("redis-server") is None and "CI" not in os.environ, reason="no redis-server"),
]


async def test_four_routers_pass_no_limit_together_and_use_it() -> None:
    outcome = await redis.accuracy(Scale(rate=240, before_s=0, fault_s=5))

    used, most, above, others = outcome.bars
    assert float(used.figure) >= 0.9, outcome.figures  # a part of the burst is still in stock after so short a time
    assert (most.kept, above.kept, others.kept) == (True, True, True), outcome.figures


async def test_redis_dies_under_them_and_nobody_within_his_limit_notices() -> None:
    outcome = await redis.killed(Scale(rate=240, before_s=2, fault_s=3, after_s=4))

    unanswered, others, above, _, *found = outcome.bars
    assert (unanswered.kept, others.kept, above.kept) == (True, True, True), outcome.figures
    assert all(bar.kept for bar in found), outcome.bars
