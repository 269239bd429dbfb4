"""The result as people read it, and as a file that says how it came about."""

import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Final

import orjson
from rich.console import Console
from rich.table import Table

from loadtests.bench import wrk
from loadtests.bench.figures import BASELINE, DIRECT, Round, Spread, differences, ratios, spreads
from loadtests.bench.modes import IDLE_GAP_MS, PACED_GAP_MS, PACED_STREAMS, Options
from loadtests.bench.processes import find_program
from loadtests.bench.rounds import Result
from loadtests.bench.subjects import ANSWER_BYTES, ROOT, STREAM_EVENTS

RESULTS: Final = ROOT / "loadtests" / "results"
FOREIGN_QUIET: Final = 0.10  # interrupts of the benchmark itself come to half of it
HEADINGS: Final = ("mode", "subject", "figure", "÷ or − nginx", "bar", "p50 ms", "p99 ms", "a second", "rounds")
PACKAGES: Final = ("uvloop", "httptools", "msgspec", "orjson", "aiohttp")


def proxies(result: Result) -> list[str]:
    return [name for name in result.subjects if name != DIRECT]


def compared(result: Result) -> dict[str, Spread]:
    """Differences where the figure is already one (added latency), ratios elsewhere."""
    compare = differences if DIRECT in result.subjects else ratios
    return compare(result.valid, proxies(result))


def print_round(console: Console, result: Result) -> None:
    """One line as soon as a round is over."""
    last = result.rounds[-1]
    figures = "  ".join(f"{name} {last.samples[name].value:.2f}" for name in result.subjects)
    counted = f"{len(result.valid)}/{result.wanted}"
    void = f"  [red]void: {last.void}[/red]" if last.void else ""
    gauge = f"gauge {last.gauge:.1f}, steal {last.steal:.1%}, others {last.foreign:.0%}"
    console.print(f"[bold]{result.mode.name}[/bold] {counted}  {figures}  [dim]{gauge}[/dim]{void}", highlight=False)


def print_table(console: Console, results: Sequence[Result]) -> None:
    table = Table(title="Median of the rounds that count (lowest to highest)")
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in {"mode", "subject"} else "right", no_wrap=True)
    for result in results:
        if result.valid:
            _add_rows(table, result)
    console.print(table)
    for result in results:
        if not result.complete:
            console.print(f"[red]{result.mode.name}: only {len(result.valid)} of {result.wanted} rounds count[/red]")
        if (busiest := max((r.foreign for r in result.valid), default=0.0)) > FOREIGN_QUIET:
            console.print(
                f"[yellow]{result.mode.name}: other programs took up to {busiest:.0%} of the machine[/yellow]"
            )


def _add_rows(table: Table, result: Result) -> None:
    """A row a subject; the first two say beside them what was measured, and in which unit."""
    names, figures, against = proxies(result), spreads(result.valid, proxies(result)), compared(result)
    beside = [f"[bold]{result.mode.name}[/bold]", f"[dim]{result.mode.unit}[/dim]"]
    for index in range(max(len(names), len(beside))):
        label = beside[index] if index < len(beside) else ""
        if index >= len(names):
            table.add_row(label)
            continue
        name = names[index]
        table.add_row(
            label,
            name,
            _shown(figures[name]),
            _shown(against[name]) if name in against else "",
            result.mode.bar if name == "router" else "",
            _median_of(result.valid, name, "p50_ms"),
            _median_of(result.valid, name, "p99_ms"),
            _median_of(result.valid, name, "rate", "{:,.0f}"),
            f"{len(result.valid)} of {len(result.rounds)}" if index == 0 else "",
        )
    table.add_section()


def _shown(spread: Spread) -> str:
    return f"{spread.median:.2f} ({spread.low:.2f}-{spread.high:.2f})"


def _median_of(rounds: Sequence[Round], name: str, attribute: str, form: str = "{:.2f}") -> str:
    found = [value for r in rounds if (value := getattr(r.samples[name], attribute)) is not None]
    return form.format(Spread.of(found).median) if found else ""


def write_json(results: Sequence[Result], options: Options, now: datetime, folder: Path = RESULTS) -> Path:
    """Writes everything that was measured; named by the mode, or `all`, and the minute."""
    name = results[0].mode.name if len(results) == 1 else "all"
    path = folder / f"{name}-{now:%Y-%m-%d-%H%M%S}.json"
    document = {
        "date": now.isoformat(timespec="seconds"),
        "method": method(options),
        "versions": versions(),
        "modes": [_mode_json(result) for result in results],
    }
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    return path


def _mode_json(result: Result) -> dict[str, object]:
    rounds = [{**asdict(r), "void": r.void} for r in result.rounds]
    return {
        "name": result.mode.name,
        "unit": result.mode.unit,
        "bar": result.mode.bar,
        "rounds_wanted": result.wanted,
        "rounds_void": len(result.rounds) - len(result.valid),
        "median": {name: asdict(spread) for name, spread in spreads(result.valid, proxies(result)).items()},
        f"against_{BASELINE}": {name: asdict(spread) for name, spread in compared(result).items()},
        "rounds": rounds,
    }


def method(options: Options) -> Mapping[str, object]:
    return {
        "cpu": "user and system time of the proxy's whole process tree, over the units that were completed",
        "placing": "the proxy alone on one core; upstream and load on another",
        "closed_loop": f"wrk, 1 thread, {wrk.CONNECTIONS} keep-alive connections, {options.seconds:g} s a subject",
        "upstream": f"answers of {ANSWER_BYTES} bytes, streams of {STREAM_EVENTS} chunks",
        "paced": f"{PACED_STREAMS} streams, a chunk every {PACED_GAP_MS:g} ms",
        "idle": f"(PSS with {options.idle_streams} streams - PSS before) / {options.idle_streams}, "
        f"after their first event, the next one being {IDLE_GAP_MS / 1000:g} s away; a fresh proxy each round",
        "added_p99": f"open loop at half of the router's maximum, {options.latency_seconds:g} s a subject, latency "
        "from the moment at which a request was due; p99 through the proxy - p99 direct in the same round",
        "void": "a round with naive aiohttp outside 6 to 12 × nginx (1 KB requests) or steal over 2 % is run again",
    }


def versions() -> dict[str, str]:
    found = {
        "kernel": platform.release(),
        "cpu": _cpu_model(),
        "python": platform.python_version(),
        "nginx": _first_line([find_program("nginx"), "-v"]),
        "wrk": _first_line([find_program("wrk"), "-v"]),
        "commit": _first_line(["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]),
    }
    return found | {package: importlib.metadata.version(package) for package in PACKAGES}


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _first_line(command: Sequence[str]) -> str:
    """What a program says first, on either output: `nginx -v` uses the second, and `wrk -v` exits 1."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return "unknown"
    lines = (run.stdout + run.stderr).strip().splitlines()
    return lines[0] if lines else "unknown"
