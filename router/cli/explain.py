"""`inference-router explain`: where the requests of a key would go, in which order, and why nowhere else."""

import os
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import click
import orjson
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from router.cli.asking import ask, token_options
from router.cli.check import WIDTH_OF_A_PIPE
from router.cli.loading import load_or_exit
from router.config.explain import UnknownNameError, explain_request
from router.config.moments import parse_moment


@click.command()
@click.argument("file", required=False, type=click.Path(dir_okay=False))
@click.option("--config", "config", type=click.Path(dir_okay=False), help="The configuration; the same as FILE.")
@click.option(
    "--admin",
    "--url",
    "url",
    help="A running router's control plane: its configuration, and who would refuse right now.",
)
@token_options
@click.option("--key", "key", required=True, help="The name of a client's key.")
@click.option("--model", required=True, help="A model, or an alias of one.")
@click.option("--operation", default="", help="chat, responses, embeddings … Left out: chat, where the model has it.")
@click.option("--at", "at", help="A moment, such as 2031-02-01 or 2031-02-01T09:30:00Z, instead of now.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON, for machines.")
def explain(
    file: str | None,
    config: str | None,
    url: str | None,
    token: str | None,
    key: str,
    model: str,
    operation: str,
    at: str | None,
    as_json: bool,
) -> None:
    """Show the ordered candidates of a request, what removed each other deployment, and the rule that says so."""
    if len([given for given in (file, config, url) if given is not None]) != 1:
        raise click.UsageError("Give one of FILE, --config FILE and --admin URL.")
    if url is not None:
        if at is not None:
            raise click.UsageError("--at goes with a file: a running router says what it does now.")
        question = urlencode({"key": key, "model": model, "operation": operation})
        shown = ask(url, token, "GET", f"/explain?{question}")
    else:
        wall = parse_moment(at) if at is not None else None
        if at is not None and wall is None:
            text = f"{at!r} is no date: write 2031-02-01 or 2031-02-01T09:30:00Z"
            raise click.BadParameter(text, param_hint="--at")
        try:
            shown = explain_request(load_or_exit(file or config or "", os.environ, wall), key, model, operation)
        except UnknownNameError as error:
            raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2))
    else:
        console = Console() if sys.stdout.isatty() else Console(width=WIDTH_OF_A_PIPE, color_system=None)
        console.print(page(shown))


def page(shown: dict[str, Any]) -> RenderableType:
    """An explanation as people read it."""
    parts: list[RenderableType] = [Text("\n".join(_heading(shown)))]
    if shown["tiers"]:
        parts.append(_candidates(shown))
    else:
        parts.append(Text(f"\nNo deployment that it may use serves {shown['model']} for {shown['operation']}."))
    if shown["removed"]:
        removed = Table(box=box.SIMPLE_HEAD, title="never, by the rule", title_justify="left", title_style="bold")
        for column in ("deployment", "why"):
            removed.add_column(column, overflow="fold")
        for each in shown["removed"]:
            removed.add_row(Text(each["deployment"]), Text(each["why"]))
        parts.append(removed)
    return Group(*parts)


def _heading(shown: dict[str, Any]) -> Iterator[str]:
    alias = f" (asked for as {shown['asked']})" if shown["asked"] != shown["model"] else ""
    yield f"key {shown['key']}, workload {shown['workload']}, model {shown['model']}{alias}, {shown['operation']}"
    if not shown["allowed"]:
        yield f"The key may not use {shown['model']}: its requests for it are answered 404 and sent nowhere."
    for whose, limits in shown["limits"].items():
        if limits:
            name = shown[whose]
            yield f"limits of the {whose} {name}: {', '.join(_limit(*each) for each in limits.items())}"
    yield f"rule {shown['rule']}, version {shown['rule_version']}, tiers balanced by: {shown['prefer']}"
    if shown["holder"]:
        attempts = shown["holder_attempts"]
        yield f"{shown['holder']} is asked first; after {attempts} failed sends the rest of it counts as failed"
    if shown["zones"]:
        yield f"zones: {', '.join(shown['zones'])}"
    if len(shown["schedule"]) > 1 or shown["window"]["condition"] is not None:
        place = "before it:"
        for each in shown["schedule"]:  # in the order in which they hold
            holds = each["since"] == shown["window"]["since"]
            yield f"{'holds' if holds else place} {each['rule']} {window_text(each)}"
            place = "after it:" if holds else place


def _limit(name: str, value: Any) -> str:
    return f"{name} {', '.join(value)}" if isinstance(value, list) else f"{name} {value:,}"


def window_text(window: dict[str, Any]) -> str:
    """From when until when, in words."""
    since, until, condition = window["since"], window["until"], window["condition"]
    begin = f"from {since}" if since else "from the beginning"
    end = f"until {until}" if until else "without an end"
    if condition is None:
        return f"{begin} {end}"
    name = condition["name"]
    if condition["declared"] is not None:
        return f"{begin} {end} (condition {name}, declared met for {condition['declared']} by {condition['by']})"
    open_end = f"until the condition {name} is declared met, which it is not yet"
    then = f"; then {window['otherwise']}"
    return f"{begin} {end}, or {open_end}{then}" if until else f"{begin} {open_end}{then}"


def _candidates(shown: dict[str, Any]) -> Table:
    live = any(each["refusal"] is not None for tier in shown["tiers"] for each in tier["deployments"])
    table = Table(box=box.SIMPLE_HEAD, title="in this order", title_justify="left", title_style="bold")
    for column in ("", "deployment", "cloud", "zone", "kind", *(["now"] if live else [])):
        table.add_column(column, overflow="fold")
    for number, tier in enumerate(shown["tiers"], 1):
        for place, each in enumerate(tier["deployments"]):
            cells = [
                f"{number}{' holder' if tier['of_the_holder'] else ''}" if place == 0 else "",
                each["deployment"],
                each["cloud"],
                each["zone"] or "–",
                f"{each['kind']}, tier {each['tier']}",
                *([each["refusal"] or "ready"] if live else []),
            ]
            table.add_row(*map(Text, cells), end_section=place == len(tier["deployments"]) - 1)
    return table
