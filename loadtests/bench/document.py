"""The result as a file that says how it came about."""

import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Final

import orjson

from loadtests.bench import wrk
from loadtests.bench.bars import Verdict, judged
from loadtests.bench.closed import PACED_GAP_MS, PACED_STREAMS
from loadtests.bench.figures import BASELINE
from loadtests.bench.frontier import ABOVE, BOUNDS_MS, STEPS
from loadtests.bench.memory import IDLE_GAP_MS, LOOK_S, OPEN_GAP_MS
from loadtests.bench.mode import Options
from loadtests.bench.on_off import BLOCK
from loadtests.bench.open_loop import CONNECTIONS, TICK_S
from loadtests.bench.plots import drawn
from loadtests.bench.processes import find_program
from loadtests.bench.rounds import Result, compared, figures
from loadtests.bench.subjects import ANSWER_BYTES, ROOT, STREAM_EVENTS

RESULTS: Final = ROOT / "loadtests" / "results"
PACKAGES: Final = ("uvloop", "httptools", "msgspec", "orjson", "aiohttp")


def write_json(results: Sequence[Result], options: Options, now: datetime, folder: Path = RESULTS) -> Path:
    """Writes everything that was measured, and pictures beside it; named by the mode, or `all`, and the second."""
    name = results[0].mode.name if len(results) == 1 else "all"
    path = folder / f"{name}-{now:%Y-%m-%d-%H%M%S}.json"
    document = {
        "date": now.isoformat(timespec="seconds"),
        "method": method(options),
        "versions": versions(),
        "bars": [_bar_json(verdict) for verdict in judged({result.mode.name: result.valid for result in results})],
        "modes": [_mode_json(result) for result in results],
    }
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    for picture, text in drawn(results).items():
        path.with_name(f"{path.stem}-{picture}.svg").write_text(text, "utf-8")
    return path


def _bar_json(verdict: Verdict) -> dict[str, object]:
    bar = verdict.bar
    found = asdict(verdict.found) if verdict.found else None
    text = {"what": bar.what, "mode": bar.mode, "unit": bar.unit}
    return {**text, "limit": bar.limit, "beyond": bar.beyond, "found": found, "verdict": verdict.words}


def _mode_json(result: Result) -> dict[str, object]:
    rounds = [{**asdict(r), "void": r.void} for r in result.rounds]
    return {
        "name": result.mode.name,
        "unit": result.mode.unit,
        "bar": result.mode.bar,
        "rounds_wanted": result.wanted,
        "rounds_void": len(result.rounds) - len(result.valid),
        "median": {name: asdict(spread) for name, spread in figures(result).items()},
        f"against_{BASELINE}": {name: asdict(spread) for name, spread in compared(result).items()},
        "rounds": rounds,
    }


def method(options: Options) -> Mapping[str, object]:
    return {
        "cpu": "user and system time of the proxy's whole process tree, over the units that were completed",
        "placing": "the proxy alone on one core; upstream and load on another",
        "closed_loop": f"wrk, 1 thread, {wrk.CONNECTIONS} keep-alive connections, {options.seconds:g} s a subject",
        "open_loop": f"bench/open_loop.py: {CONNECTIONS} keep-alive connections, one thread, epoll; what is due "
        f"is sent every {TICK_S * 1e6:g} µs; latency from the moment at which a request was due",
        "upstream": f"answers of {ANSWER_BYTES} bytes, streams of {STREAM_EVENTS} chunks",
        "paced": f"{PACED_STREAMS} streams, a chunk every {PACED_GAP_MS:g} ms",
        "idle": f"(PSS with {options.idle_streams} streams - PSS before) / {options.idle_streams}, "
        f"after their first event, the next one being {IDLE_GAP_MS / 1000:g} s away; a fresh proxy each round",
        "open_streams": f"{options.open_streams} streams, a frame every {OPEN_GAP_MS:g} ms, watched for "
        f"{options.stream_seconds:g} s; a fresh proxy each round",
        "burst": f"{options.burst} requests at once whose first event is {IDLE_GAP_MS / 1000:g} s away; memory is PSS, "
        f"looked at every {LOOK_S * 1000:g} ms, and again {options.recovery_s:g} s after the clients have gone",
        "frames": "each read is compared with the answer that must come; a gap is the time between two reads that "
        "brought events; TTFT from the request to the first event, which the upstream sends at once",
        "added_c1": f"one connection, one request at a time, {options.seconds:g} s a subject; "
        "p99 through the proxy - p99 direct in the same round",
        "added_p99": f"open loop at half of the router's maximum, {options.latency_seconds:g} s a subject; "
        "p99 through the proxy - p99 direct in the same round",
        "frontier": f"open loop, {options.frontier_seconds:g} s a rate; binary search for p99 below "
        f"{', '.join(f'{bound:g}' for bound in BOUNDS_MS)} ms over {STEPS} rates up to {ABOVE:g} × what wrk reached; "
        "`direct` is the load generator and the upstream on their one core",
        "metrics_onoff": f"inside one process metrics are counted for {BLOCK} requests and not for the next {BLOCK}; "
        "the median difference of such pairs",
        "workers_2": "all programs on both cores, one worker as well as two, as nothing can have a core for itself",
        "startup": "from the start of the process to the end of its first answer; its files are in the page cache",
        "memory": "of the processes that serve; the bookkeeper, which starts meanwhile, is not in it",
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
