"""Routers that are killed under load: every request that was answered is in the ledger, and counts once."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from loadtests.crash.run import crash
from router.base.loops import run_loop


@pytest.mark.timed
@pytest.mark.parametrize("durable", [False, True])
def test_kills_lose_no_answered_request_and_count_none_twice(tmp_path: Path, durable: bool) -> None:
    told: list[int] = []
    result = run_loop(crash(tmp_path, 5, random.randrange(1 << 30), {"durable": durable}, told.append))

    assert told == [1, 2, 3, 4, 5]
    assert result.answered > 100
    assert (result.missing, result.doubled, result.gaps, result.repeated, result.refused) == ([], 0, 0, 0, 0)
    assert result.kept
