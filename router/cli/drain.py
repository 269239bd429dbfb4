"""`inference-router drain`: takes one deployment out of a running router, and back in."""

from urllib.parse import quote

import click

from router.cli.asking import ask, token_options


@click.command()
@click.argument("deployment")
@click.option("--undo", is_flag=True, help="Take it back in.")
@click.option("--admin", "url", default="http://127.0.0.1:9090", show_default=True, help="The router's control plane.")
@token_options
def drain(deployment: str, undo: bool, url: str, token: str | None) -> None:
    """Send nothing new to DEPLOYMENT (`endpoint/name`); what runs there ends.

    It lasts until `--undo`, or until the router is started anew: reloads and upgrades keep it.
    """
    ask(url, token, "POST", f"/deployments/{quote(deployment)}/{'undrain' if undo else 'drain'}")
    if undo:
        click.echo(f"{deployment} is back in")
        return
    status = ask(url, token, "GET", "/status")
    running = next((each["in_flight"] for each in status["deployments"] if each["id"] == deployment), 0)
    click.echo(f"{deployment} gets nothing new; {running} requests run there")
