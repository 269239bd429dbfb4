"""`inference-router keys`: make a client's key. What is kept of it is a SHA-256 in the configuration."""

import click
import orjson

from router.config.keys import digest, new_key


@click.group()
def keys() -> None:
    """Make keys for clients."""


@keys.command()
@click.option("--workload", required=True, help="The workload that the key's requests belong to.")
@click.option("--name", help="Its name in logs and metrics. Default: the workload and a part of the digest.")
@click.option("--models", multiple=True, help="A model that it may use (again for more). Default: all.")
def new(workload: str, name: str | None, models: tuple[str, ...]) -> None:
    """Print a new key, once, and the YAML to paste under `keys:`."""
    key = new_key()
    sha256 = digest(key).hex()
    entry = {
        "name": name or f"{workload}-{sha256[:8]}",
        "workload": workload,
        "sha256": sha256,
        "models": [part for each in models for part in each.split(",") if part] or ["*"],
    }
    click.echo(f"The key, shown this once and kept nowhere:\n\n  {key}\n")
    click.echo("Paste under `keys:` of the configuration:\n")
    # JSON is YAML: its quoting is right for every name.
    pairs = ", ".join(f"{word}: {orjson.dumps(value).decode()}" for word, value in entry.items())
    click.echo(f"  - {{{pairs}}}")
