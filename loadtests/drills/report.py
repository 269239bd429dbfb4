"""The result of drills as people read it, and as a file that says how it came about."""

import importlib.metadata
import math
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import orjson
from rich.console import Console
from rich.table import Table

from loadtests.bench.subjects import ROOT
from loadtests.drills.outcome import LATE_MS_MAX, Drill, Outcome, Scale

RESULTS: Final = ROOT / "loadtests" / "results"
METHOD: Final = (
    "clouds, router and load are processes of one machine, on the cores that are there; requests leave at a constant "
    "rate whatever the answers do, and every time counts from when its request was due; clouds note each request by "
    "the marker in its body. Rates are small, so that none of the programs is at its limit. A run that measures times "
    f"is void, and run again, where the load itself left over {LATE_MS_MAX:g} ms late at its p99."
)
PACKAGES: Final = ("uvloop", "httptools", "msgspec")


@dataclass(frozen=True, slots=True)
class Run:
    """One drill that has been run."""

    drill: Drill
    scale: Scale
    outcome: Outcome
    took_s: float
    void_runs: int  # of this drill, all told; the last one is what is shown


def print_table(console: Console, runs: Sequence[Run]) -> None:
    table = Table(box=None, padding=(0, 2))
    for heading in ("what", "bar", "figure", ""):
        table.add_column(heading, justify="right" if heading in {"bar", "figure"} else "left")
    for run in runs:
        for bar in run.outcome.bars:
            verdict = "[green]kept[/green]" if bar.kept else "[red]not kept[/red]"
            table.add_row(f"{run.drill.name}: {bar.what}", bar.bar, bar.figure, verdict)
    console.print(table)


def write_json(
    runs: Sequence[Run], now: datetime, *, quick: bool, folder: Path = RESULTS, name: str = "drills"
) -> Path:
    """Writes everything that was measured; named by the minute."""
    document = {
        "date": now.isoformat(timespec="seconds"),
        "method": METHOD,
        "quick": quick,
        "versions": versions(*PACKAGES),
        "drills": [
            {
                "name": run.drill.name,
                "method": run.drill.method,
                "scale": asdict(run.scale),
                "took_s": round(run.took_s, 1),
                "void_runs": run.void_runs,
                "void": run.outcome.void,
                "bars": [asdict(bar) for bar in run.outcome.bars],
                "figures": _finite(run.outcome.figures),
            }
            for run in runs
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{now:%Y-%m-%d-%H%M%S}.json"
    path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    return path


def _finite(value: object) -> object:
    """JSON has no infinity: what never came is null."""
    match value:
        case float():
            return round(value, 4) if math.isfinite(value) else None
        case dict():
            return {str(key): _finite(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_finite(inner) for inner in value]
        case _:
            return value


def versions(*packages: str) -> dict[str, str]:
    """Of what a figure may depend on."""
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "kernel": platform.release(),
        "cores": str(len(os.sched_getaffinity(0))),
        "python": platform.python_version(),
        "commit": commit or "unknown",
    } | {package: importlib.metadata.version(package) for package in packages}
