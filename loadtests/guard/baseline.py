"""The counts that are held, in `loadtests/baselines/hot-path.json`, and what is said of counts beside them."""

import importlib.metadata
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from loadtests.bench.subjects import ROOT
from loadtests.guard.counting import Method
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
        return self.growth > self.method.tolerance

    @property
    def stale(self) -> bool:
        return self.growth < -STALE

    def culprits(self) -> list[tuple[str, float]]:
        """The functions whose own counts changed most, and by how much."""
        names = {*self.before.by_function, *self.now.by_function}
        changes = {name: self.now.by_function.get(name, 0) - self.before.by_function.get(name, 0) for name in names}
        ordered = sorted(changes.items(), key=lambda item: -abs(item[1]))
        return [(name, change) for name, change in ordered[:CULPRITS] if abs(change) >= 0.5]


def read(file: Path = FILE) -> dict[str, dict[str, Cost]]:
    """Costs by method and scene. Raises OSError where there is no baseline."""
    document = orjson.loads(file.read_bytes())
    return {
        method: {scene: Cost(cost["total"], cost["by_function"]) for scene, cost in scenes.items()}
        for method, scenes in document["costs"].items()
    }


def write(costs: Mapping[Method, Mapping[str, Cost]], file: Path = FILE) -> None:
    document = {
        "made_with": versions(),
        "tolerances": {method.name: method.tolerance for method in costs},
        "costs": {
            method.name: {scene: _rounded(cost) for scene, cost in scenes.items()} for method, scenes in costs.items()
        },
    }
    file.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def _rounded(cost: Cost) -> dict[str, object]:
    """Functions below half a hundredth are left out: they are many, and seldom what grows."""
    least = cost.total / 200
    kept = {name: round(count, 1) for name, count in sorted(cost.by_function.items()) if abs(count) >= least}
    return {"total": round(cost.total, 1), "by_function": kept}


def differing(file: Path = FILE) -> dict[str, tuple[str, str]]:
    """What the baseline was made with and this machine has otherwise: its counts are not comparable then."""
    made_with: dict[str, str] = orjson.loads(file.read_bytes())["made_with"]
    here = versions()
    return {name: (was, here.get(name, "none")) for name, was in made_with.items() if here.get(name) != was}


def versions() -> dict[str, str]:
    """What decides how many opcodes and instructions the same source costs."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    found = {"python": python, "compiler": platform.python_compiler(), "machine": platform.machine()}
    return found | {package: importlib.metadata.version(package) for package in PACKAGES}


def compared(method: Method, before: Mapping[str, Cost], now: Mapping[str, Cost]) -> list[Finding]:
    return [Finding(method, scene, before[scene], cost) for scene, cost in now.items() if scene in before]
