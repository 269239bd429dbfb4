"""`inference-router report usage`: requests, tokens and what they cost."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import orjson
from rich.console import Console

from router.cli.report.period import check
from router.cli.report.period import since as since_option
from router.cli.report.period import until as until_option
from router.cli.report.printing import console_of, opened, output, period, table, usd, write_csv
from router.cli.report.store import config, read
from router.config.faults import listed
from router.config.snapshot import Snapshot

if TYPE_CHECKING:
    from router.ledger.reports import Usage
    from router.ledger.store import Store

# As `router.ledger.reports.PARTS`, which is slow to import; a test holds the two together.
PARTS: Final = ("key", "workload", "model", "cloud", "deployment", "plan", "hour", "day", "month")
# A table has room for what matters most; the other formats have all that there is.
_SHOWN: Final = ("requests", "attempts", "prompt_tokens", "completion_tokens")
_NONE: Final = "(none)"  # of a request that was refused before it was known
_MONEY: Final = {"cost_nano_usd": "cost $", "charged_nano_usd": "charged $"}


def _parts(_: click.Context, __: click.Parameter, value: str) -> tuple[str, ...]:
    parts = tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
    if unknown := [part for part in parts if part not in PARTS]:
        raise click.BadParameter(f"{unknown[0]!r} is not {listed(PARTS)}")
    return parts


@click.command()
@config
@click.option(
    "--by",
    "parts",
    callback=_parts,
    default="key,model,cloud",
    show_default=True,
    help=f"What makes a row: {', '.join(PARTS)}.",
)
@since_option
@until_option
@click.option("--key", help="Of this key alone.")
@click.option("--format", "form", type=click.Choice(("table", "csv", "json")), default="table", show_default=True)
@output
def usage(
    file: str,
    parts: tuple[str, ...],
    since: float,
    until: float | None,
    key: str | None,
    form: str,
    output: Path | None,
) -> None:
    """Show requests, tokens and cost of all requests that arrived in a period. Times are UTC.

    Requests count where they were served and `charged` is what their clients pay; attempts, tokens and cost count where
    they were sent, retries and hedges included. Sums of cost are what the deployments most likely bill.
    """
    check(since, until)

    async def ask(store: "Store", _: Snapshot) -> "Usage":
        from router.ledger.reports import usage

        return await usage(store, parts, since, until if until is not None else float("inf"), key=key)

    found = read(file, ask)
    with opened(output) as out:
        if form == "json":
            lines = [{**dict(zip(parts, line.of, strict=True)), **line.sums} for line in found.lines]
            out.write(orjson.dumps(lines, option=orjson.OPT_INDENT_2).decode() + "\n")
        elif form == "csv":
            from router.ledger.rows import SUMS

            write_csv(out, [(*parts, *SUMS)])
            write_csv(out, ((*line.of, *line.sums.values()) for line in found.lines))
        else:
            console = console_of(out)
            console.print(period(found.since, found.until))
            _print(console, parts, found)


def _print(console: Console, parts: tuple[str, ...], found: "Usage") -> None:
    sums = [line.sums for line in found.lines]
    footer = [f"{sum(each[name] for each in sums):,}" for name in _SHOWN]
    footer += [usd(sum(each[name] for each in sums)) for name in _MONEY]
    numbers = [*(name.removesuffix("_tokens") for name in _SHOWN), *_MONEY.values()]
    shown = table("", parts or ("",), numbers, footer=footer)
    for line in found.lines:
        numbers = [f"{line.sums[name]:,}" for name in _SHOWN]
        words = [word or _NONE for word in line.of] or [""]
        shown.add_row(*words, *numbers, *(usd(line.sums[name]) for name in _MONEY))
    console.print(shown)
    if estimated := sum(each["estimated"] for each in sums):
        console.print(f"\nOf these attempts, {estimated:,} never said what they used: that is estimated.")
