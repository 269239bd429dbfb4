"""The counts that are held, in `loadtests/baselines/hot-path.json`, and what is said of counts beside them."""

import importlib.metadata
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from loadtests.bench.subjects import ROOT
from loadtests.guard.counting import METHODS, Method
from loadtests.guard.scenes import Cost

FILE: Final = ROOT / "loadtests" / "baselines" / "hot-path.json"
PACKAGES: Final = ("uvloop", "httptools", "msgspec", "orjson")
STALE: Final = 0.10  # so far below the baseline, growth could hide: it has to be written anew
CULPRITS: Final = 8


@dataclass(frozen=True, slots=True)
class Finding:
    """One scene, counted now and before."""

    method: Method
    scene: str
    before: Cost
    now: Cost

    @property
    def growth(self) -> float:
        return self.now.total / self.before.total - 1

    @property
    def grown(self) -> bool:
        return self.now.total > self.before.total * (1 + self.method.tolerance) + self.method.slack

    @property
    def stale(self) -> bool:
        return self.growth < -STALE

    @property
    def verdict(self) -> str:
        """Empty where nothing is to be done."""
        if self.grown:
            return f"grew by more than {self.method.tolerance:.1%}"
        return f"fell by more than {STALE:.0%}: the baseline guards nothing now" if self.stale else ""

    def lines(self) -> list[str]:
        """What is said of it: the totals, and where there is a verdict the functions behind it."""
        totals = f"{self.before.total:>12,.1f} → {self.now.total:>12,.1f}  {self.growth:+7.2%}"
        line = f"{self.method.name:<13} {self.scene:<13} {totals}  {self.verdict}".rstrip()
        return [line, *(f"{change:+14,.1f}  {name}" for name, change in self.changes() if self.verdict)]

    def changes(self) -> list[tuple[str, float]]:
        """The functions whose own counts changed most, and by how much. C functions without a name have an address."""
        names = {*self.before.by_function, *self.now.by_function}
        changes = {name: self.now.by_function.get(name, 0) - self.before.by_function.get(name, 0) for name in names}
        ordered = sorted(changes.items(), key=lambda item: -abs(item[1]))
        return ordered[:CULPRITS]


def read(file: Path = FILE) -> dict[str, dict[str, Cost]]:
    """Costs by method and scene. Raises OSError where there is none."""
    document = orjson.loads(file.read_bytes())
    return {
        method: {scene: Cost(cost["total"], cost["by_function"]) for scene, cost in scenes.items()}
        for method, scenes in document["costs"].items()
    }


def write(costs: Mapping[Method, Mapping[str, Cost]], file: Path = FILE) -> None:
    """Writes these anew, and leaves what another method counted."""
    kept = orjson.loads(file.read_bytes())["costs"] if file.exists() else {}
    document = {
        "made_with": versions(),
        "tolerances": {method.name: {"share": method.tolerance, "counts": method.slack} for method in METHODS},
        "costs": kept
        | {method.name: {scene: _rounded(cost) for scene, cost in costs[method].items()} for method in costs},
    }
    file.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def _rounded(cost: Cost) -> dict[str, object]:
    """Functions below half a hundredth are left out: they are many, and seldom what grows."""
    least = cost.total / 200
    kept = {name: round(count, 1) for name, count in sorted(cost.by_function.items()) if abs(count) >= least}
    return {"total": round(cost.total, 1), "by_function": kept}


def differing(method: Method, file: Path = FILE) -> str:
    """What the baseline was made with and is otherwise here, in words: its counts are not comparable then."""
    made_with: dict[str, str] = orjson.loads(file.read_bytes())["made_with"]
    here = versions()
    names = [name for name in method.depends_on if made_with[name] != here[name]]
    return "; ".join(f"{name} was {made_with[name]} and is {here[name]} here" for name in names)


def versions() -> dict[str, str]:
    """What decides how many opcodes and instructions the same source costs."""
    major, minor, patch = platform.python_version_tuple()
    found = {
        "python": f"{platform.python_implementation()} {major}.{minor}",
        "build": f"{major}.{minor}.{patch}, {platform.python_compiler()}",
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
    }
    return found | {package: importlib.metadata.version(package) for package in PACKAGES}


def compared(method: Method, before: Mapping[str, Cost], now: Mapping[str, Cost]) -> list[Finding]:
    return [Finding(method, scene, before[scene], cost) for scene, cost in now.items() if scene in before]
