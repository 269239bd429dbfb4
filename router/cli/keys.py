"""`inference-router keys`: make clients' keys, for the configuration or in the store, and change those of the store.

`--admin URL` asks a running router; `--config FILE` goes straight to the store that FILE names, which works while no
router runs. What is kept of a key is a SHA-256 alone.
"""

import asyncio
import os
import re
import sys
from collections.abc import Callable, Coroutine
from functools import wraps
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import quote

import click
import orjson

from router.admin.keys import OVERLAP_S, KeyOffice, KeyRefusedError
from router.base.clock import SystemClock
from router.cli.asking import ask, token_options
from router.cli.loading import load_or_exit
from router.cli.report.store import shown
from router.config.keys import digest, new_key

_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)", re.ASCII)
_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}

T = TypeVar("T")


class Keys(Protocol):
    """Who is asked: a running router, or the store itself."""

    def shown(self) -> list[dict[str, Any]]: ...

    def add(self, name: str, terms: dict[str, Any], sha256: str | None) -> dict[str, Any]: ...

    def rotate(self, name: str, overlap_s: float, sha256: str | None) -> dict[str, Any]: ...

    def revoke(self, name: str) -> dict[str, Any]: ...


class _Running:
    """Through the control plane."""

    def __init__(self, url: str, token: str | None) -> None:
        self._url, self._token = url, token

    def shown(self) -> list[dict[str, Any]]:
        keys = self._ask("GET", "/keys")["keys"]
        assert isinstance(keys, list)
        return keys

    def add(self, name: str, terms: dict[str, Any], sha256: str | None) -> dict[str, Any]:
        return self._ask("POST", "/keys", {**terms, "name": name, **({"sha256": sha256} if sha256 else {})})

    def rotate(self, name: str, overlap_s: float, sha256: str | None) -> dict[str, Any]:
        body = {"overlap_s": overlap_s, **({"sha256": sha256} if sha256 else {})}
        return self._ask("POST", f"/keys/{quote(name, safe='')}/rotate", body)

    def revoke(self, name: str) -> dict[str, Any]:
        return self._ask("POST", f"/keys/{quote(name, safe='')}/revoke", {})

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return ask(self._url, self._token, method, path, body)


class _Stored:
    """Straight to the store. Running routers see what changed when they look next."""

    def __init__(self, file: str) -> None:
        self._snapshot = load_or_exit(file, os.environ)

    def shown(self) -> list[dict[str, Any]]:
        return self._run(lambda office: office.shown())

    def add(self, name: str, terms: dict[str, Any], sha256: str | None) -> dict[str, Any]:
        return self._run(lambda office: office.add(name, terms, sha256))

    def rotate(self, name: str, overlap_s: float, sha256: str | None) -> dict[str, Any]:
        return self._run(lambda office: office.rotate(name, overlap_s, sha256))

    def revoke(self, name: str) -> dict[str, Any]:
        return self._run(lambda office: office.revoke(name))

    def _run(self, do: Callable[[KeyOffice], Coroutine[Any, Any, T]]) -> T:
        """Raises ClickException with what stood in the way."""
        # The database's library: half a second that no other command of this group has to wait.
        from router.ledger.engines import StoreError
        from router.ledger.key_desk import key_desk

        settings, clock = self._snapshot.ledger, SystemClock()
        if settings is None:
            raise click.ClickException("the configuration has no `ledger`, so there is no store to keep keys in")
        Path(settings.folder).mkdir(mode=0o750, parents=True, exist_ok=True)

        async def main() -> T:
            async with key_desk(settings.url, clock) as desk:
                return await do(KeyOffice(lambda: self._snapshot, desk, clock))

        try:
            return asyncio.run(main())
        except StoreError as error:
            raise click.ClickException(f"the store at {shown(settings.url)} cannot be reached: {error}") from None
        except (KeyRefusedError, LookupError) as error:
            raise click.ClickException(str(error)) from None


def _where(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say who is asked; the command gets `Keys`."""

    @click.option("--config", "file", type=click.Path(dir_okay=False), help="Straight to the store of this file.")
    @click.option("--admin", "url", help="A running router's control plane, such as http://127.0.0.1:9090.")
    @token_options
    @wraps(command)
    def with_keys(*args: Any, file: str | None, url: str | None, token: str | None, **options: Any) -> None:
        if (file is None) == (url is None):
            raise click.UsageError("Give one of --config FILE and --admin URL.")
        command(*args, keys=_Running(url, token) if url is not None else _Stored(file or ""), **options)

    return with_keys


def _parts(words: tuple[str, ...]) -> list[str]:
    return [part for each in words for part in each.split(",") if part]


def _span_s(_: click.Context, __: click.Parameter, text: str) -> float:
    """`24h`, `30m`, `90s`, `7d`, or 0."""
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        if text.strip() == "0":
            return 0.0
        raise click.BadParameter(f"{text!r} is no span of time: write 90s, 30m, 24h, 7d, or 0")
    return float(match[1]) * _SECONDS[match[2]]


@click.group()
def keys() -> None:
    """Make keys for clients; change those of the store."""


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
        "models": _parts(models) or ["*"],
    }
    click.echo(f"The key, shown this once and kept nowhere:\n\n  {key}\n")
    click.echo("Paste under `keys:` of the configuration:\n")
    # JSON is YAML: its quoting is right for every name.
    pairs = ", ".join(f"{word}: {orjson.dumps(value).decode()}" for word, value in entry.items())
    click.echo(f"  - {{{pairs}}}")


@keys.command()
@click.argument("name")
@click.option("--workload", required=True, help="The workload that the key's requests belong to.")
@click.option("--models", multiple=True, help="A model that it may use (again for more). Default: all.")
@click.option("--rpm", type=int, help="Requests a minute.")
@click.option("--tpm", type=int, help="Tokens a minute.")
@click.option("--concurrent", type=int, help="Requests at one time.")
@click.option("--burst-share", type=float, help="How much of a minute may come at one moment. Default: 0.1.")
@click.option("--day-usd", type=float, help="What it may spend a day.")
@click.option("--month-usd", type=float, help="What it may spend a month.")
@click.option("--shadow", is_flag=True, help="Its limits and budgets count, and refuse nobody yet.")
@click.option("--weight", type=float, help="Its share beside other keys of its priority. Default: 1.")
@click.option("--priority", help="high, normal or low. Default: its workload's.")
@click.option("--expires", help="A date (midnight UTC) or a moment, such as 2031-02-01 or 2031-02-01T09:30:00Z.")
@click.option("--sha256", help="The digest of a secret that the client has already. Left out: one is made, and shown.")
@_where
def add(name: str, keys: Keys, models: tuple[str, ...], sha256: str | None, **options: Any) -> None:
    """Add a key to the store, and print its secret, once."""
    _print_secret(keys.add(name, terms_of(_parts(models) or ["*"], options), sha256))


def terms_of(models: list[str], options: dict[str, Any]) -> dict[str, Any]:
    """A key's section of the configuration, without what was left out."""
    given = {option: value for option, value in options.items() if value is not None}
    shadow = {"shadow": True} if given.pop("shadow", False) else {}
    limits = {word: given.pop(word) for word in ("rpm", "tpm", "concurrent", "burst_share") if word in given}
    budget = {word: given.pop(word) for word in ("day_usd", "month_usd") if word in given}
    terms = {**given, "models": models}
    if limits:
        terms["limits"] = {**limits, **shadow}
    if budget:
        terms["budget"] = {**budget, **shadow}
    if shadow and not limits and not budget:
        raise click.UsageError("--shadow goes with a limit or a budget.")
    return terms


@keys.command()
@click.argument("name")
@click.option(
    *("--overlap", "overlap_s"),
    default=f"{OVERLAP_S / _SECONDS['h']:g}h",
    show_default=True,
    callback=_span_s,
    help="How long the old secret is valid still: 90s, 30m, 24h, 7d, or 0.",
)
@click.option("--sha256", help="The digest of a secret that the client has already. Left out: one is made, and shown.")
@_where
def rotate(name: str, keys: Keys, overlap_s: float, sha256: str | None) -> None:
    """Give a key of the store a second secret, and print it, once; the old one ends by itself."""
    answer = keys.rotate(name, overlap_s, sha256)
    _print_secret(answer)
    for secret in answer["secrets"]:
        if secret["ends"] is not None:
            click.echo(f"The secret of digest {secret['sha256']}… ends at {secret['ends']}.")


@keys.command()
@click.argument("name")
@_where
def revoke(name: str, keys: Keys) -> None:
    """End a key of the store, for good."""
    keys.revoke(name)
    click.echo(f"{name} is revoked. Its name is not given again.")


@keys.command("list")
@click.option("--all", "everything", is_flag=True, help="Also those that are revoked.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON, for machines.")
@_where
def list_keys(keys: Keys, everything: bool, as_json: bool) -> None:
    """Show the keys of the configuration and of the store; no secret."""
    shown = [key for key in keys.shown() if everything or key["state"] != "revoked"]
    if as_json:
        click.echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD) if sys.stdout.isatty() else Table(box=None, pad_edge=False)
    for heading in ("name", "workload", "models", "terms", "secrets", "state", "source"):
        table.add_column(heading, overflow="fold")
    for key in shown:
        table.add_row(*map(Text, _cells(key)))
    (Console() if sys.stdout.isatty() else Console(width=10_000, color_system=None)).print(table)


def _cells(key: dict[str, Any]) -> tuple[str, ...]:
    terms = dict(key["terms"] or {})
    workload, models = terms.pop("workload", "–"), terms.pop("models", [])
    rest = orjson.dumps(terms).decode() if terms else "–"
    secrets = "\n".join(map(_secret, key["secrets"]))
    return key["name"], str(workload), ", ".join(map(str, models)), rest, secrets, key["state"], key["source"]


def _secret(secret: dict[str, Any]) -> str:
    return f"{secret['sha256']}…" if secret["ends"] is None else f"{secret['sha256']}… until {secret['ends']}"


def _print_secret(answer: dict[str, Any]) -> None:
    if "key" in answer:
        click.echo(f"The key, shown this once and kept nowhere:\n\n  {answer['key']}\n")
    click.echo(f"{answer['name']} is in the store; routers take it within a second.")
