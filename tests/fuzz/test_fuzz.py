"""Some seconds of fuzzing with every run of the tests; `python -m loadtests.lasting fuzz` goes on for millions."""

import random
from time import monotonic

import pytest

from tests.fuzz.running import Defect, run, smaller
from tests.fuzz.targets import TARGETS, Target

SECONDS = 3.0  # of each target


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_nothing_breaks_for_some_seconds(target: Target) -> None:
    """Other inputs each time. What is found: keep it in tests/corpus/, then mend it."""
    seed = random.randrange(1 << 32)
    for found in run(seed, 1 << 30, monotonic() + SECONDS, [Target(target.name, target.seeds, target.check)]):
        assert not isinstance(found, Defect), f"seed {seed}: {found}"


def test_the_same_seed_gives_the_same_inputs() -> None:
    first, again = (TARGETS[0].mutator(random.Random(7)) for _ in range(2))
    assert [first.reads(first.draw()) for _ in range(200)] == [again.reads(again.draw()) for _ in range(200)]


def test_what_breaks_is_made_small() -> None:
    def check(reads: list[bytes]) -> None:
        assert b"\0" not in b"".join(reads)

    target = Target("nul", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 4], check)
    defects = [found for found in run(1, 2000, monotonic() + 10, [target]) if isinstance(found, Defect)]
    assert defects
    assert all(defect.reads == [b"\0"] for defect in defects)
    assert smaller(target, [b"abc", b"d\0e"]) == [b"\0"]
