"""`inference-router upgrade`: a running router is followed by the version that is installed now, without a gap."""

import contextlib
import sys
from pathlib import Path

import click

from router.jobs.commands import ask_upgrade, running_routers


@click.command()
@click.option("--pid", type=click.IntRange(min=1), help="Which router; left out: your only one on this machine.")
def upgrade(pid: int | None) -> None:
    """Start the installed version with the sockets of the running router, which then ends what it has begun.

    The new one reads the configuration and the secrets' files anew; it has the old one's environment. Until it serves,
    the old one does; where it cannot, that stays so, and the exit status is 1.
    """
    pid = pid or _only_one()
    try:
        answer = ask_upgrade(pid)
    except OSError as error:
        raise click.ClickException(f"router {pid} cannot be asked: {error.strerror or error}") from None
    if not answer.pid:
        click.echo(f"{answer.why}\nnot upgraded: router {pid} goes on", err=True)
        sys.exit(1)
    click.echo(f"upgraded: router {answer.pid} serves, {pid} ends what it has begun")


def _only_one() -> int:
    found = running_routers()
    if not found:
        raise click.ClickException("no router of this user runs here; or it is not Linux, and there is no upgrade")
    if len(found) > 1:
        raise click.ClickException("\n".join(["several routers run here; say which:", *map(_named, found)]))
    return found[0]


def _named(pid: int) -> str:
    """By the words that it was started with, which name its file; without them where it has just ended."""
    words = b""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ")
    return f"  --pid {pid}: {words.decode(errors='replace')}"
