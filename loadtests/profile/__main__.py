"""`python -m loadtests.profile`: measure, sample, and write a table of what a request's time goes to."""

import contextlib
import linecache
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
import orjson

from loadtests.bench import wrk
from loadtests.bench.document import RESULTS, versions
from loadtests.bench.mode import events_of, named, new_site
from loadtests.bench.modes import JSON, STREAM
from loadtests.bench.processes import BenchError, Cores, pinned
from loadtests.bench.procfs import main_thread_s
from loadtests.bench.subjects import ROOT, Target, stand
from loadtests.profile.stacks import THREADS, by_function, by_phase, parse, parse_objects

RATE_HZ: Final = 200  # a sample stops the process for some 0.3 ms
FUNCTIONS: Final = 30
RUNS: Final = 3
PERF_HZ: Final = 1999
_OBJECTS: Final = ("--no-children", "--stdio", "-g", "none", "--sort", "dso")


@dataclass(frozen=True, slots=True)
class Profile:
    """Microseconds of CPU of one unit: a request, or a chunk."""

    unit: str
    cpu_us: float
    samples: int
    phases_us: dict[str, float]
    functions_us: dict[str, float]
    objects_us: dict[str, float]  # programs and libraries, by perf; empty where there is none


def find_sampler() -> str:
    beside = Path(sys.executable).with_name("py-spy")
    path = str(beside) if beside.exists() else shutil.which("py-spy")
    if path is None:
        raise BenchError("py-spy is not installed: pip install py-spy")
    return path


def source_line(file: str, line: int) -> str:
    return linecache.getline(str(ROOT / file), line)


def measure(seconds: float, *, streams: bool) -> Profile:
    """Runs the router under load and samples it. Raises BenchError when a part of that cannot be done."""
    cores = Cores.of_this_machine()
    os.sched_setaffinity(0, {int(cores.load)})
    body = STREAM if streams else JSON
    with new_site(cores, streaming=streams) as site, stand(site, named(["router"]), 0.0) as here:
        target, file = here.targets["router"], site.folder / "body.json"
        file.write_bytes(body)
        units = len(events_of(here.direct, body)) if streams else 1
        wrk.run(target, file, 2, cores.load)  # warm
        main_s = main_thread_s(target.pid)
        runs = [wrk.run(target, file, 3, cores.load) for _ in range(RUNS)]
        main_share = (main_thread_s(target.pid) - main_s) / sum(run.cpu_s for run in runs)
        cpu_us = statistics.median(run.cpu_s / run.requests / units * 1e6 for run in runs)
        output = site.folder / "stacks.txt"
        sampler = [
            find_sampler(),
            "record",
            "--pid",
            str(target.pid),
            "--rate",
            str(RATE_HZ),
            "--format",
            "raw",
            "--threads",
        ]
        with _beside([*sampler, "--duration", f"{seconds:.0f}", "--output", str(output)], cores):
            wrk.run(target, file, seconds + 2, cores.load)
        stacks = parse(output.read_text("utf-8"))
        objects = _objects(target, file, site.folder / "perf.data", cores)
    phases = _times(by_phase(stacks, source_line), cpu_us * main_share)
    phases[THREADS] = cpu_us * (1 - main_share)
    functions = _times(by_function(stacks), cpu_us * main_share)
    unit = "chunk" if streams else "request"
    return Profile(unit, cpu_us, stacks.total(), phases, functions, _times(objects, cpu_us))


def _times(shares: Mapping[str, float], cpu_us: float) -> dict[str, float]:
    return {name: share * cpu_us for name, share in shares.items()}


def _objects(target: Target, body: Path, data: Path, cores: Cores) -> dict[str, float]:
    """Shares by program and library, from perf's sampling by the clock; nothing where perf is not there."""
    perf = shutil.which("perf")
    if perf is None:
        return {}
    record = [perf, "record", "-q", "-e", "cpu-clock", "-F", str(PERF_HZ), "-p", str(target.pid), "-o", str(data)]
    with _beside([*record, "--", "sleep", "3"], cores):
        wrk.run(target, body, 4, cores.load)
    report = subprocess.run([perf, "report", "-i", str(data), *_OBJECTS], capture_output=True, text=True, check=False)
    return parse_objects(report.stdout)


@contextlib.contextmanager
def _beside(command: list[str], cores: Cores) -> Iterator[None]:
    """Runs a program on the load's core meanwhile. Raises BenchError when it fails."""
    process = subprocess.Popen(
        pinned(command, cores.load), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        yield
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise BenchError(f"{Path(command[0]).name} failed: {errors[-500:]}")


def table(profile: Profile, about: dict[str, str], now: datetime) -> str:
    """The profile as a page."""
    cpu_us = profile.cpu_us
    lines = [
        f"# What a {profile.unit} costs the router, {now:%Y-%m-%d}",
        "",
        f"{cpu_us:.1f} µs of CPU a {profile.unit}, {profile.samples:,} samples. Commit `{about['commit']}`, "
        f"Python {about['python']}, uvloop {about['uvloop']}, {about['cpu']}.",
        "How it is measured: `make profile`, and `loadtests/profile/__init__.py`.",
        "",
        *_rows("phase", profile.phases_us, cpu_us),
        "",
        f"## The {FUNCTIONS} functions that take most, with the C code and the system calls that they call",
        "",
        *_rows("function", dict(list(profile.functions_us.items())[:FUNCTIONS]), cpu_us, code=True),
    ]
    if profile.objects_us:
        lines += ["", "## Whose instructions these are", "", *_rows("program or library", profile.objects_us, cpu_us)]
    return "\n".join([*lines, ""])


def _rows(what: str, times_us: Mapping[str, float], cpu_us: float, *, code: bool = False) -> list[str]:
    mark = "`" if code else ""
    head = [f"| {what} | µs | share |", "|---|---:|---:|"]
    return [*head, *(f"| {mark}{name}{mark} | {us:.2f} | {us / cpu_us:.1%} |" for name, us in times_us.items())]


def write(profile: Profile, folder: Path, now: datetime) -> Path:
    """Writes the page, and the same as JSON; returns the page's path."""
    about = versions()
    page = folder / f"profile-{profile.unit}-{now:%Y-%m-%d-%H%M%S}.md"
    page.write_text(table(profile, about, now), "utf-8")
    document = {"date": now.isoformat(timespec="seconds"), "versions": about, "profile": profile}
    page.with_suffix(".json").write_bytes(
        orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    )
    return page


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--streams", is_flag=True, help="Profile the chunks of streams, not whole answers.")
@click.option("--seconds", type=click.IntRange(1, 600), default=30, help="Of sampling.")
@click.option("--write/--no-write", "keep", default=True, help="Write the tables to loadtests/results/.")
def main(streams: bool, seconds: int, keep: bool) -> None:
    """Tells what each microsecond of a request is spent on. Needs py-spy and the right to look into a process."""
    now = datetime.now(UTC)
    try:
        profile = measure(seconds, streams=streams)
    except BenchError as error:
        click.echo(re.sub(r"\s+", " ", str(error)), err=True)
        sys.exit(1)
    click.echo(table(profile, versions(), now))
    if keep:
        click.echo(f"written: {write(profile, RESULTS, now).relative_to(ROOT)}")


if __name__ == "__main__":
    main()
