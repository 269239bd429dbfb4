"""What a load test came to: a table for the terminal, a page with plots beside Locust's reports, and a small JSON."""

import csv
import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any, Final

import orjson
from rich.console import Console
from rich.table import Table

from loadtests.bench.subjects import ROOT
from loadtests.drills.report import RESULTS, versions
from loadtests.locust.generator import Run
from loadtests.locust.limits import Verdict
from loadtests.locust.summary import as_json, as_table
from loadtests.plots.lines import Panel, drawn

# Outside git: a report is half a megabyte of Locust's page.
REPORTS: Final = ROOT / "run" / "locust"
METHOD: Final = (
    "emulated clouds, router, Locust and all else share this machine's cores. Users ask one after another and think "
    "in between, so beyond the knee less is asked than would be, and times are too good; `make bench` has the open "
    "loop. Locust keeps times of 100 ms and more to two digits."
)
_STYLE: Final = (
    "body{font-family:sans-serif;margin:2em;max-width:72em}td,th{padding:.25em 1em .25em 0;text-align:left}"
    "svg{max-width:100%;height:auto}"
)


def new_folder(parent: Path, now: datetime) -> Path:
    folder = parent / f"{now:%Y-%m-%d-%H%M%S}"
    folder.mkdir(parents=True)
    return folder


def print_verdicts(console: Console, title: str, verdicts: Sequence[Verdict]) -> None:
    table = Table(box=None, padding=(0, 2), title=title, title_justify="left", title_style="bold")
    for heading in ("what", "limit", "measured", ""):
        table.add_column(heading, justify="right" if heading in {"limit", "measured"} else "left")
    for each in verdicts:
        table.add_row(each.what, each.limit, each.figure, "[green]kept[/green]" if each.kept else "[red]BROKEN[/red]")
    console.print(table)


def notes(run: Run) -> list[str]:
    """What the figures must be read with."""
    found = run.figures
    taken = ", ".join(f"{name} {cores:g}" for name, cores in found["cores"].items())
    lines = [f"cores taken: {taken} of {os.cpu_count()} at the mean; Locust {found['generator_cpu_max']:g} at most"]
    if found["ended_because"]:
        lines.append(f"the ramp ended since {found['ended_because']}")
    worst = sorted(found["errors"].items(), key=lambda item: -item[1])[:5]
    return lines + [f"{count} × {text}" for text, count in worst]


def write(runs: Sequence[Run], fleet: Sequence[Verdict], now: datetime, folder: Path) -> Path:
    """The page with everything, and the JSON. Returns the page."""
    (folder / "summary.json").write_bytes(orjson.dumps(document(runs, fleet, now), option=orjson.OPT_INDENT_2))
    page = folder / "index.html"
    page.write_text("".join(_page(runs, fleet, now, folder)), "utf-8")
    return page


def publish(runs: Sequence[Run], fleet: Sequence[Verdict], now: datetime, folder: Path = RESULTS) -> Path:
    """The JSON where results are kept."""
    path = folder / f"locust-{now:%Y-%m-%d-%H%M%S}.json"
    path.write_bytes(orjson.dumps(document(runs, fleet, now), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    return path


def document(runs: Sequence[Run], fleet: Sequence[Verdict], now: datetime) -> dict[str, Any]:
    return {
        "date": now.isoformat(timespec="seconds"),
        "method": METHOD,
        "versions": versions("locust", "gevent"),
        "fleet": [as_json(each) for each in fleet],
        "runs": [
            {
                **run.figures,
                "users": run.phase.users,
                "seconds": run.phase.seconds,
                "kept": run.kept,
                "verdicts": [as_json(each) for each in run.verdicts],
            }
            for run in runs
        ],
    }


def _page(runs: Sequence[Run], fleet: Sequence[Verdict], now: datetime, folder: Path) -> Iterator[str]:
    yield f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Load test</title><style>{_STYLE}</style>'
    yield f"</head><body><h1>Load test of {now:%Y-%m-%d %H:%M} UTC</h1><p>{escape(METHOD)}</p>"
    for run in runs:
        name = run.phase.shape
        yield f"<h2>{name}: at most {run.phase.users} users, {run.phase.seconds:.0f} s</h2>"
        yield as_table(run.verdicts)
        yield "".join(f"<p>{escape(line)}</p>" for line in notes(run))
        yield f'<p><a href="{name}.html">Locust\'s report</a>, <a href="{name}_stats.csv">its table</a></p>'
        if panels := plots(folder / f"{name}_stats_history.csv"):
            yield drawn(panels)
    yield f"<h2>The fleet, when all was over</h2>{as_table(fleet)}</body></html>"


def plots(history: Path) -> list[Panel]:
    """Of Locust's history, a row a second; none where there is not enough for a line."""
    if not history.exists():
        return []
    with history.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["Name"] == "Aggregated"]
    if len(rows) < 2:
        return []

    def line(column: str) -> list[float]:
        return [0.0 if row[column] == "N/A" else float(row[column]) for row in rows]

    return [
        Panel("users, and requests a second", {"users": line("User Count"), "requests/s": line("Requests/s")}),
        Panel(
            "time of a whole request, ms, over the last 10 s", {share: line(share) for share in ("50%", "95%", "99%")}
        ),
        Panel("failures a second", {"failures/s": line("Failures/s")}),
    ]
