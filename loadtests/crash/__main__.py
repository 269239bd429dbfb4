"""`python -m loadtests.crash`: kill routers under load, and count what the ledger has lost or counted twice."""

import asyncio
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import orjson
from rich.console import Console
from rich.progress import Progress

from loadtests.bench.processes import BenchError
from loadtests.bench.subjects import ROOT
from loadtests.crash.clients import CLIENTS
from loadtests.crash.run import LIVES_S, Result, crash
from loadtests.drills.report import RESULTS, versions
from router.base.loops import new_loop

METHOD: Final = (
    f"{CLIENTS} clients ask without a pause, every fourth request for a stream, and note the x-request-id of each "
    "answer once its last byte has arrived. Routers of one or two workers with a ledger in SQLite are killed (SIGKILL) "
    f"{LIVES_S[0]:g} to {LIVES_S[1]:g} s after the last kill: a worker, the bookkeeper, or all processes at once; the "
    "next router starts in the same folder. At the end each noted id must be in the store or in a segment, the sums of "
    "the store must count each request once, and no writer's sequence may have a gap."
)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--times", default=200, type=click.IntRange(min=1), help="Kills.")
@click.option("--durable", is_flag=True, help="The ledger in durable mode.")
@click.option("--seed", default=5, help="Of the moments, and of who is killed.")
@click.option("--write/--no-write", default=True, help="Write the result to loadtests/results/.")
def main(times: int, durable: bool, seed: int, write: bool) -> None:
    """Kills routers under load and holds the ledger against what clients were answered.

    Exit: 0 when nothing is missing and nothing counts twice, 3 when something does, 1 when it could not be run.
    """
    console = Console()
    with tempfile.TemporaryDirectory(prefix="crash-") as name, Progress(console=console, transient=True) as progress:
        task = progress.add_task("kills", total=times)
        with asyncio.Runner(loop_factory=new_loop) as runner:
            try:
                result = runner.run(
                    crash(
                        Path(name),
                        times,
                        seed,
                        {"durable": durable},
                        lambda done: progress.update(task, completed=done),
                    )
                )
            except BenchError as error:
                console.print(str(error), style="red", highlight=False, markup=False)
                sys.exit(1)
    console.print(_shown(result), highlight=False)
    if write:
        path = _write(result, durable=durable, seed=seed)
        console.print(f"written: {path.relative_to(ROOT)}", highlight=False)
    sys.exit(0 if result.kept else 3)


def _shown(result: Result) -> str:
    kills = ", ".join(f"{count} {name}" for name, count in sorted(result.kills.items()))
    verdict = "[green]kept[/green]" if result.kept else "[red]not kept[/red]"
    return (
        f"{result.kills.total()} kills ({kills}) in {result.took_s:.0f} s, {result.answered} requests answered: "
        f"{len(result.missing)} missing, {result.doubled} counted twice, {result.gaps} gaps: {verdict}"
    )


def _write(result: Result, *, durable: bool, seed: int) -> Path:
    now = datetime.now(UTC)
    document: dict[str, Any] = {
        "date": now.isoformat(timespec="seconds"),
        "method": METHOD,
        "versions": versions("uvloop", "msgspec", "sqlalchemy"),
        "durable": durable,
        "seed": seed,
        "kept": result.kept,
        **asdict(result),
        "kills": dict(result.kills),  # of a Counter `asdict` makes another thing
    }
    path = RESULTS / f"crash-{'durable-' if durable else ''}{now:%Y-%m-%d-%H%M%S}.json"
    path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    return path


if __name__ == "__main__":
    main()
