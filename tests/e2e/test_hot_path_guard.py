"""The regression guard: the hot path costs what `loadtests/baselines/hot-path.json` says, or somebody hears of it."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from loadtests.bench.subjects import ROOT
from loadtests.guard import baseline
from loadtests.guard.baseline import Finding
from loadtests.guard.counting import Instructions, Method, Opcodes
from loadtests.guard.scenes import measure

HOW_TO_LOOK = """
What to do: `python -m loadtests.guard --tree . --against FOLDER` names the functions that changed since the checkout in
FOLDER. Where growth is worth its price, `make guard ARGS=--update` writes the baseline anew; so it does after a gain.
"""

HALF_A_MICROSECOND = """

_unburdened = serve


def serve(*arguments):
    total = 0
    for number in range(14):
        total += number
    return _unburdened(*arguments)
"""


@pytest.mark.parametrize("method", [Opcodes(), Instructions()], ids=lambda method: method.name)
def test_the_hot_path_costs_no_more_than_its_baseline(method: Method) -> None:
    """Growth is a failure, and so is a baseline so far above that growth could hide below it."""
    comparable(method)

    wrong = [found for found in held_to_baseline(method, ROOT) if found.verdict]

    assert not wrong, "\n".join(["", *(line for found in wrong for line in found.lines()), HOW_TO_LOOK])


def test_half_a_microsecond_more_is_noticed_and_named(tmp_path: Path) -> None:
    """Some 100 opcodes, or 0.5 µs, once a request: found against the same tree without them."""
    for folder in ("router", "config"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    before = measure(Opcodes(), tmp_path)
    with (tmp_path / "router" / "proxy" / "lifecycle.py").open("a", encoding="utf-8") as source:
        source.write(HALF_A_MICROSECOND)

    found = {f.scene: f for f in baseline.compared(Opcodes(), before, measure(Opcodes(), tmp_path))}

    assert found["json-1k"].grown
    assert found["json-16k"].grown
    assert not found["stream-chunk"].grown
    assert found["json-1k"].changes()[0] == ("router/proxy/lifecycle.py:serve", pytest.approx(110, abs=20))


def held_to_baseline(method: Method, tree: Path) -> Sequence[Finding]:
    return baseline.compared(method, baseline.read()[method.name], measure(method, tree))


def comparable(method: Method) -> None:
    """Skips with the reason; in CI that is a failure."""
    missing = baseline.differing(method)
    if isinstance(method, Instructions) and shutil.which("valgrind") is None:
        missing = "there is no valgrind"
    if missing and os.environ.get("CI"):
        pytest.fail(f"{missing}, and in CI the guard must run")
    if missing:
        pytest.skip(missing)
