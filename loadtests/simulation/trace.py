"""What requests ask for and how long they take: drawn, or as it was recorded."""

import csv
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_FIELDS: Final = ("prompt_tokens", "completion_tokens", "first_byte_s", "total_s")
_FIXED_S: Final = 0.25
_PREFILL_TOKENS_A_S: Final = 8000.0
_TOKENS_A_S: Final = 60.0
_SIGMA: Final = 0.35  # of the time to the first byte, log-normal


@dataclass(frozen=True, slots=True)
class Sample:
    """A request on an idle deployment of usual speed. Times run from the moment at which it is taken up."""

    prompt_tokens: int
    completion_tokens: int
    first_byte_s: float
    total_s: float


def drawn(rng: random.Random) -> Iterator[Sample]:
    """Without end: prompts of 600 tokens and answers of 200 in the median, both with a long tail."""
    while True:
        prompt = int(min(rng.lognormvariate(6.4, 1.0), 100_000.0)) + 1
        completion = int(min(rng.lognormvariate(5.3, 0.8), 4000.0)) + 1
        first_byte_s = (_FIXED_S + prompt / _PREFILL_TOKENS_A_S) * rng.lognormvariate(0.0, _SIGMA)
        yield Sample(prompt, completion, first_byte_s, first_byte_s + completion / _TOKENS_A_S)


def recorded(samples: list[Sample], rng: random.Random) -> Iterator[Sample]:
    """Without end: any of the recorded ones, as often as it was recorded."""
    while True:
        yield rng.choice(samples)


def read(path: Path) -> list[Sample]:
    """Reads a list of objects (.json) or lines below a heading (.csv). Raises ValueError that names what is missing."""
    text = path.read_text("utf-8")
    rows = json.loads(text) if path.suffix == ".json" else list(csv.DictReader(text.splitlines()))
    samples = []
    for number, row in enumerate(rows, 1):
        missing = [field for field in _FIELDS if field not in row]
        if missing:
            raise ValueError(f"{path.name}: entry {number} has no {', '.join(missing)}")
        sample = Sample(
            int(row["prompt_tokens"]), int(row["completion_tokens"]), float(row["first_byte_s"]), float(row["total_s"])
        )
        if not 0 < sample.first_byte_s <= sample.total_s:
            raise ValueError(f"{path.name}: entry {number} must have 0 < first_byte_s <= total_s")
        samples.append(sample)
    if not samples:
        raise ValueError(f"{path.name} has no entry")
    return samples
