"""`inference-router report cost`: which cloud has cost what, what refusals cost, and what capacity was good for."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson
from rich.console import Console

from router.cli.report.period import check
from router.cli.report.period import since as since_option
from router.cli.report.period import until as until_option
from router.cli.report.printing import console_of, moment, opened, output, percent, period, table, usd
from router.cli.report.store import config, read
from router.config.snapshot import Snapshot

if TYPE_CHECKING:
    from router.ledger.costs import Costs
    from router.ledger.store import Store


@click.command()
@config
@since_option
@until_option
@click.option("--format", "form", type=click.Choice(("table", "json")), default="table", show_default=True)
@output
def cost(file: str, since: float, until: float | None, form: str, output: Path | None) -> None:
    """Show cost and share of each cloud, the price of spill-over, and what provisioned capacity was used for.

    Spill-over is what a workload's holder of the first refusal had refused: what it cost elsewhere, beside what as many
    tokens cost by the holder's own price. Flat prices are those of the configuration, for the length of the period.
    """
    check(since, until)
    now = time.time()
    until = min(until, now) if until is not None else now

    async def ask(store: "Store", snapshot: Snapshot) -> "tuple[float, Costs]":
        from router.ledger.costs import PARTS, costs
        from router.ledger.reports import usage

        found = await usage(store, PARTS, since, until)
        return found.since, costs(found.lines, snapshot.deployments, until - found.since)

    begin, found = read(file, ask)
    with opened(output) as out:
        if form == "json":
            out.write(orjson.dumps(_told(begin, until, found), option=orjson.OPT_INDENT_2).decode() + "\n")
        else:
            console = console_of(out)
            console.print(period(begin, until))
            _print(console, found)


def _told(since: float, until: float, found: "Costs") -> dict[str, Any]:
    return {
        "since": moment(since),
        "until": moment(until),
        "clouds": [{**asdict(each), "cost_nano_usd": each.cost_nano_usd} for each in found.clouds],
        "spill_over": [{**asdict(each), "dearer_nano_usd": each.dearer_nano_usd} for each in found.spill_over],
        "capacity": [asdict(each) for each in found.capacity],
    }


def _print(console: Console, found: "Costs") -> None:
    clouds = table("Clouds", ["cloud"], ["requests", "of all", "tokens", "by token $", "flat $", "cost $", "of all"])
    for cloud in found.clouds:
        money = map(usd, (cloud.by_token_nano_usd, cloud.flat_nano_usd, cloud.cost_nano_usd))
        shares = percent(cloud.request_share), percent(cloud.cost_share)
        clouds.add_row(cloud.cloud, f"{cloud.requests:,}", shares[0], f"{cloud.tokens:,}", *money, shares[1])
    console.print(clouds)
    spill_over = table(
        "\nSpill-over: what the holder had refused",
        ["workload", "model", "holder", "served by"],
        ["requests", "tokens", "cost $", "at holder $", "dearer $"],
    )
    for each in found.spill_over:
        words = each.workload, each.model, each.holder, each.cloud
        money = map(usd, (each.cost_nano_usd, each.at_holder_nano_usd, each.dearer_nano_usd))
        spill_over.add_row(*words, f"{each.requests:,}", f"{each.tokens:,}", *money)
    if found.spill_over:
        console.print(spill_over)
    capacity = table("\nProvisioned capacity", ["deployment"], ["flat $", "tokens", "used", "by token $"])
    for part in found.capacity:
        paid = percent(part.utilisation), usd(part.by_token_nano_usd)
        capacity.add_row(part.deployment, usd(part.flat_nano_usd), f"{part.tokens:,}", *paid)
    if found.capacity:
        console.print(capacity)
