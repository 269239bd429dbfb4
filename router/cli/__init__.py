"""The command `inference-router`. A command's module is imported when the command is called, and not before."""

import importlib
from collections.abc import Mapping
from typing import Final

import click

# name: (module, attribute, what it does)
_COMMANDS: Final[Mapping[str, tuple[str, str, str]]] = {
    "serve": ("router.cli.serve", "serve", "Serve what a configuration says."),
    "upgrade": ("router.cli.upgrade", "upgrade", "Have a running router followed by the installed version."),
    "drain": ("router.cli.drain", "drain", "Take one deployment out of a running router, or back in."),
    "check": ("router.cli.check", "check", "Name all faults of a configuration, or show its routes or changes."),
    "reload": ("router.cli.reload", "reload", "Have a running router read its configuration anew."),
    "explain": ("router.cli.explain", "explain", "Show where a key's requests would go, and why nowhere else."),
    "keys": ("router.cli.keys", "keys", "Make keys for clients; change those of the store."),
    "audit": ("router.cli.audit", "audit", "Verify the decision log; make signing keys."),
    "report": ("router.cli.report", "report", "Add up refusals, usage and cost."),
    "ledger": ("router.cli.ledger", "ledger", "Look at the usage ledger's store; make its tables."),
    "top": ("router.cli.top", "top", "Show what a running router does, in the terminal."),
    "demo": ("router.cli.demo", "demo", "Emulated clouds, the router, and a region that dies."),
    "emulate": ("router.cli.emulate", "emulate", "Serve the emulated endpoints of a configuration."),
}


class _Commands(click.Group):
    """A group that knows its commands by name alone, so that `--help` and each command start fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module, attribute, _ = _COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        metadata = importlib.import_module("importlib.metadata")
        try:
            click.echo(f"inference-router {metadata.version('inference-router')}")
        except metadata.PackageNotFoundError:
            click.echo("inference-router of no known version")
        ctx.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version, help="Show the version."
)
def main() -> None:
    """Route OpenAI-style requests to the clouds that their contract allows."""
