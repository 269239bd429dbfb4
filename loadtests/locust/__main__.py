"""`python -m loadtests.locust`: starts clouds and a router, loads them in several shapes, and says what held."""

import asyncio
import signal
import sys
from collections.abc import Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import orjson
from rich.console import Console

from loadtests.bench.__main__ import chosen
from loadtests.bench.processes import BenchError
from loadtests.drills.site import site
from loadtests.locust import outage, soak, witness
from loadtests.locust.fleet import WORKERS, fleet
from loadtests.locust.generator import Beside, Phase, Run, run
from loadtests.locust.report import REPORTS, new_folder, notes, print_verdicts, publish, write
from router.base.loops import new_loop

# Together with the starts of all programs three minutes.
PHASES: Final = (Phase("steady", 40, 30), Phase("ramp", 400, 45), Phase("spike", 120, 24), Phase("outage", 40, 42))
SOAK: Final = Phase("soak", 60, 600)
BESIDE: Final[Mapping[str, Beside]] = {"outage": outage.drill, "soak": soak.watch}
BROKEN, NOT_RUN, STOPPED = 1, 2, 130
_NAMES: Final = [phase.shape for phase in PHASES]

_common = [
    click.option("--workers", default=WORKERS, help="Processes of the router."),
    click.option("--limits", default="", help="In place of the shapes' own: 'errors=0.01 TTFT.p99=2000'."),
    click.option("--fault", default="", help="Scripts every cloud with this (JSON), to see that the verdict notices."),
    click.option("--out", type=click.Path(path_type=Path), default=REPORTS, help="Where the reports go."),
    click.option("--publish", "published", is_flag=True, help="Keep the summary in loadtests/results/ as well."),
]


def _with_common(command: Any) -> Any:
    for option in reversed(_common):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def main() -> None:
    """Loads emulated clouds through the router as users do.

    Exit: 0 when every limit was kept, 1 when one was not, 2 when something could not be run, 130 on Ctrl-C.
    """


@main.command(name="run")
@click.option("--only", default="", help=f"Comma-separated: {', '.join(_NAMES)}. Empty: all.")
@click.option("--users", type=click.IntRange(1, 2000), help="At most so many, in place of each shape's own.")
@click.option("--seconds", type=click.FloatRange(3), help="For so long, in place of each shape's own.")
@_with_common
def run_shapes(only: str, users: int | None, seconds: float | None, **options: Any) -> None:
    """Steady, a ramp to the knee, a spike, an outage."""
    wanted = chosen(only, _NAMES, "shape")
    phases = [Phase(one.shape, users or one.users, seconds or one.seconds) for one in PHASES if one.shape in wanted]
    _exit(_test(phases, Console(), **options))


@main.command(name="soak")
@click.option("--minutes", type=click.FloatRange(0.2), default=SOAK.seconds / 60, help="For so long.")
@click.option("--users", type=click.IntRange(1, 2000), default=SOAK.users, help="So many.")
@_with_common
def run_soak(minutes: float, users: int, **options: Any) -> None:
    """A steady load for long: nothing may grow."""
    _exit(_test([Phase(SOAK.shape, users, minutes * 60)], Console(), **options))


async def _test(
    phases: Sequence[Phase], console: Console, workers: int, limits: str, fault: str, out: Path, published: bool
) -> bool:
    """Whether every limit was kept. Raises BenchError where it could not be run to its end."""
    now = datetime.now(UTC)
    folder = new_folder(out, now)
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    console.width = max(console.width, 110)  # a table whose words are cut says nothing
    runs: list[Run] = []
    async with site(fleet(workers)) as running:
        for name in running.fleet.endpoints if fault else ():
            await running.script(name, orjson.loads(fault))
        for phase in phases:
            say = _live_line(console, phase)
            runs.append(await run(running, phase, folder, say, BESIDE.get(phase.shape), limits))
            print_verdicts(
                console, f"{phase.shape}, at most {phase.users} users, {phase.seconds:g} s", runs[-1].verdicts
            )
            for line in notes(runs[-1]):
                console.print(line, style="dim", highlight=False, markup=False)
        judged = await witness.judged(running)
    print_verdicts(console, "the fleet, when all was over", judged)
    page = write(runs, judged, now, folder)
    console.print(f"report: {page}", highlight=False, soft_wrap=True)
    if published:
        console.print(f"summary: {publish(runs, judged, now)}", highlight=False, soft_wrap=True)
    return all(each.kept for each in judged) and all(each.kept for each in runs)


def _live_line(console: Console, phase: Phase) -> Any:
    """Says how it goes: on a terminal in one line that is written over, else in the first of five."""
    count = 0

    def say(text: str) -> None:
        nonlocal count
        count += 1
        line = f"{phase.shape} {count:3}/{phase.seconds:.0f} s  {text}"
        if console.is_terminal:
            print(f"\r\033[K{line[: console.width - 1]}", end="\r", flush=True)
        elif count % 5 == 1:
            print(line, flush=True)

    return say


def _exit(test: Coroutine[Any, Any, bool]) -> None:
    """Runs it and ends the program: whatever was started has ended by then."""
    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            kept = runner.run(test)
    except BenchError as error:
        click.echo(str(error), err=True)
        sys.exit(NOT_RUN)
    except (KeyboardInterrupt, asyncio.CancelledError):
        click.echo("stopped", err=True)
        sys.exit(STOPPED)
    sys.exit(0 if kept else BROKEN)


if __name__ == "__main__":
    main()
