"""The heap keeps what is used again and again, and gives a burst back."""

import ctypes
import subprocess
import sys
from collections.abc import Callable

import pytest

from router.base import heap
from router.base.heap import CALM_BYTES, CROWDED_BYTES, MAPPED_BYTES, Heap

SWEPT = 0  # in the place of an option

BURST = """
import ctypes, sys
from router.base.heap import Heap
def resident_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 >> 20
heap = Heap()
if sys.argv[1] == "crowd":
    heap.crowd()
before = resident_mib()
bodies, between = [], []
for _ in range(400):
    bodies.append(bytearray(150_000))
    between.append(bytes(2_000))  # what lives longer, and would hold the heap's end up
most = resident_mib()
del bodies
print(most - before, resident_mib() - before)
"""

needs_glibc = pytest.mark.skipif(
    not sys.platform.startswith("linux") or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"),
    reason="glibc's heap is what it is about",
)


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What is set, instead of setting it in the process that runs the tests."""
    found: list[tuple[int, int]] = []

    def note(option: int, value: int) -> int:
        found.append((option, value))
        return 1

    def sweep(spare: int) -> int:
        found.append((SWEPT, spare))
        return 1

    def stand_in() -> tuple[Callable[[int, int], int], Callable[[int], int]]:
        return note, sweep

    monkeypatch.setattr(heap, "_glibc", stand_in)
    return found


def test_a_crowd_is_told_once_and_over_when_most_of_it_is_gone(options: list[tuple[int, int]]) -> None:
    memory = Heap()
    calm = options.copy()
    options.clear()
    memory.crowd()
    told = len(options)
    assert options[-1][1] == MAPPED_BYTES
    memory.crowd()
    memory.look(CROWDED_BYTES, idle=False)
    memory.look(CALM_BYTES, idle=False)  # not yet: one body more or less must not turn it back and forth
    assert len(options) == told
    assert memory.crowded
    memory.look(CALM_BYTES - 1, idle=False)
    assert options[told:] == calm
    assert not memory.crowded


def test_a_look_notices_a_crowd_too(options: list[tuple[int, int]]) -> None:
    memory = Heap()
    options.clear()
    memory.look(CROWDED_BYTES, idle=False)
    assert not options
    memory.look(CROWDED_BYTES + 1, idle=False)
    assert memory.crowded
    assert options[-1][1] == MAPPED_BYTES


def test_it_is_swept_up_once_after_a_crowd_and_while_nobody_waits(options: list[tuple[int, int]]) -> None:
    memory = Heap()
    memory.look(0, idle=True)
    memory.crowd()
    memory.look(CALM_BYTES, idle=True)  # still a crowd
    memory.look(0, idle=False)
    assert (SWEPT, 0) not in options
    memory.look(0, idle=True)
    memory.look(0, idle=True)
    assert options.count((SWEPT, 0)) == 1


@needs_glibc
def test_bodies_of_a_crowd_go_back_to_the_kernel() -> None:
    most, kept = _burst("crowd")
    assert most > 50
    assert kept < 5


@needs_glibc
def test_a_few_bodies_stay_for_the_next_ones() -> None:
    most, kept = _burst("calm")
    assert kept > most // 2


def _burst(how: str) -> tuple[int, int]:
    """MiB that a burst took at most, and after it."""
    run = subprocess.run([sys.executable, "-c", BURST, how], check=True, capture_output=True, text=True, timeout=30)
    most, kept = map(int, run.stdout.split())
    return most, kept
