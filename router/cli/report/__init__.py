"""`inference-router report`: what the decision log and the usage ledger add up to."""

import click

from router.cli.report.cost import cost
from router.cli.report.entries import entries
from router.cli.report.refusals import refusals
from router.cli.report.usage import usage

__all__ = ["report"]


@click.group()
def report() -> None:
    """Add up what was decided, used and paid for."""


for command in (refusals, usage, cost, entries):
    report.add_command(command)
