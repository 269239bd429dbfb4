"""`inference-router serve`: the router itself, in the foreground, until it is told to stop."""

import os
import signal
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import click

from router.cli.loading import shown
from router.config.faults import ConfigError
from router.config.load import load
from router.jobs.inheritance import Inheritance, inherited


@click.command()
@click.option("--config", "file", required=True, type=click.Path(dir_okay=False), help="The configuration to serve.")
def serve(file: str) -> None:
    """Serve what FILE says, until SIGTERM; a bad file is refused as `check` refuses it."""
    inheritance = Inheritance()
    if hasattr(signal, "SIGCHLD"):  # who starts us may ignore it, and leave us that: then no child's end is told
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        inheritance = inherited(os.environ)
        _serve(Path(file), inheritance)
    except ConfigError as error:
        _end(inheritance, shown(file, error))
    except ValueError as error:  # of the decision log: a key or a size that cannot work; of what was inherited
        _end(inheritance, f"cannot start: {error}")


def _serve(file: Path, inheritance: Inheritance) -> NoReturn:
    """Raises ConfigError, ValueError."""
    snapshot = load(str(file), os.environ)
    for warning in snapshot.warnings:
        click.echo(f"warning: {warning}", err=True)
    server = snapshot.server
    inheritance = inheritance.for_server(server)

    def tell(port: int, admin_port: int) -> None:
        data, control = replace(server.listen, port=port), replace(server.admin, port=admin_port)
        scheme = "http" if server.tls is None else "https"
        click.echo(f"ready: data plane {scheme}://{data}/v1, control plane http://{control}", err=True)

    # One worker needs nobody above it; several have a supervisor, whose room is not loaded without need.
    run = import_module("router.worker" if server.workers == 1 else "router.supervisor.supervisor").run
    try:
        sys.exit(run(file, os.environ, snapshot, tell, inheritance))
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or error
        _end(
            inheritance,
            f"cannot start: {what}. In {file} server.listen is {server.listen}, server.admin {server.admin}.",
        )


def _end(inheritance: Inheritance, why: str) -> NoReturn:
    """Says why it does not serve: also to the router that it should have followed."""
    inheritance.fail(why)
    click.echo(why, err=True)
    sys.exit(1)
