"""Runs targets over inputs without end in sight, and makes what breaks one small enough to be read."""

import contextlib
import random
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import monotonic, perf_counter
from typing import Final

from tests.fuzz.targets import TARGETS, Target

SLOW_S: Final = 2.0  # one input: as good as a hang
_TRIES: Final = 2000  # to make a defect smaller


@dataclass(frozen=True)
class Defect:
    """`reads`: the smallest that were found to break it. `why`: where it broke at first."""

    target: str
    reads: list[bytes]
    why: str

    def __str__(self) -> str:
        return f"{self.target}: {self.reads!r}\n{self.why}"


def run(seed: int, inputs: int, until: float, targets: Sequence[Target] = TARGETS) -> Iterator[Defect | int]:
    """Yields how many inputs are done, now and then, and a defect where one is found. `until`: monotonic seconds."""
    rng = random.Random(seed)
    drawn = [(target, target.mutator(rng)) for target in targets]
    cheap = [each for each in drawn if each[0].one_in == 1]
    for number in range(inputs):
        target, mutator = cheap[number % len(cheap)]
        for dear in drawn:
            if dear[0].one_in > 1 and number % dear[0].one_in == 0:
                target, mutator = dear
        reads = mutator.reads(mutator.draw())
        why = _broken(target, reads)
        if why:
            yield Defect(target.name, smaller(target, reads), why)
        if number % 256 == 255:
            yield number + 1
            if monotonic() > until:
                return
    yield inputs


def smaller(target: Target, reads: list[bytes]) -> list[bytes]:
    """Reads that break it still, after as much was taken away as could be."""
    for _ in range(_TRIES):
        for shorter in _shorter(reads):
            if _broken(target, shorter):
                reads = shorter
                break
        else:
            return reads
    return reads


def _shorter(reads: list[bytes]) -> Iterator[list[bytes]]:
    if len(reads) > 1:
        yield [b"".join(reads)]
        for at in range(len(reads) - 1):
            yield [*reads[:at], reads[at] + reads[at + 1], *reads[at + 2 :]]
    for at, data in enumerate(reads):
        size = len(data)
        while size:
            for begin in range(0, len(data), size):
                left = data[:begin] + data[begin + size :]
                yield [*reads[:at], *([left] if left else []), *reads[at + 1 :]]
            size //= 2


def _broken(target: Target, reads: list[bytes]) -> str:
    """Why, or nothing."""
    began = perf_counter()
    with contextlib.redirect_stderr(None):
        try:
            target.check(reads)
        except Exception:
            return traceback.format_exc(limit=-4)
    took = perf_counter() - began
    return f"it took {took:.1f} s" if took > SLOW_S else ""
