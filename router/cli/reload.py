"""`inference-router reload`: a running router takes its file's new content over, or says why it does not."""

import sys
from typing import Any, Final

import click
import msgspec
import orjson

from router.cli.against.printing import show
from router.cli.asking import RefusedByRouterError, ask, token_options
from router.cli.loading import count
from router.config.compare import Comparison
from router.config.faults import Fault

REFUSED: Final = 3
RESTART: Final = 4
_WITHIN_S: Final = 120.0  # every worker reads and checks it, one after the other where they share a core


@click.command()
@click.option("--admin", "url", default="http://127.0.0.1:9090", show_default=True, help="The router's control plane.")
@token_options
@click.option("--json", "as_json", is_flag=True, help="Write the router's answer as it is.")
def reload(url: str, token: str | None, as_json: bool) -> None:
    """Ask a running router to read its configuration anew, and show what that changed or why it was refused.

    Exit status: 0 it is in force, 3 refused for its faults, 4 refused since it needs a restart, 1 the router does not
    answer as one, 2 cannot be called so.
    """
    try:
        answer = ask(url, token, "POST", "/reload", within_s=_WITHIN_S)
    except RefusedByRouterError as refused:
        if refused.error.get("code") != "configuration_refused":
            raise
        if as_json:
            _write({"error": refused.error})
        else:
            _tell_refusal(refused.error)
        sys.exit(RESTART if refused.error.get("reason") == "restart" else REFUSED)
    if as_json:
        _write(answer)
    else:
        click.echo(f"version {answer['version']} is in force")
        show(msgspec.convert(answer["changed"], Comparison))


def _write(answer: dict[str, Any]) -> None:
    click.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2))


def _tell_refusal(error: dict[str, Any]) -> None:
    faults = msgspec.convert(error["faults"], tuple[Fault, ...])
    for fault in faults:
        click.echo(str(fault), err=True)
    click.echo(f"refused: {count(len(faults), 'fault')}; version {error['version']} stays in force", err=True)
