"""The switch of the metrics' cost: blocks in turn, a pair a line, and the median of the pairs."""

import io
from typing import Any

import pytest

from loadtests.bench import on_off
from loadtests.bench.on_off import BLOCK, Alternation, difference_us
from loadtests.bench.processes import BenchError


def test_blocks_take_turns_and_each_pair_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes on by 3 µs with each record that is counted, and by 1 µs with each other one."""
    now_ns = 0
    counted: list[int] = []
    monkeypatch.setattr(on_off.time, "thread_time_ns", lambda: now_ns)

    def record(_metrics: Any, number: Any) -> None:
        nonlocal now_ns
        now_ns += 2000
        counted.append(number)

    pairs = io.StringIO()
    alternation = Alternation(record, pairs)
    for number in range(4 * BLOCK):
        now_ns += 1000
        alternation.take(None, number)  # type: ignore[arg-type]

    assert counted == [*range(BLOCK), *range(2 * BLOCK, 3 * BLOCK)]
    assert pairs.getvalue().splitlines() == [f"{BLOCK * 3000} {BLOCK * 1000}"] * 2


def test_the_median_pair_is_the_figure() -> None:
    lines = [
        f"{BLOCK * 12_000} {BLOCK * 10_000}",
        f"{BLOCK * 90_000} {BLOCK * 10_000}",
        f"{BLOCK * 11_000} {BLOCK * 10_000}",
    ]
    assert difference_us(lines) == pytest.approx(2.0)
    with pytest.raises(BenchError, match="2 pairs"):
        difference_us(lines[:2])
