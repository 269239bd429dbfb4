"""`inference-router top`: the console's picture in a terminal, each second, or once."""

import http.client
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import click
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from router.cli.asking import token_options

EVERY_S: Final = 1.0
_WITHIN_S: Final = 5.0
_ERROR_BYTES_MAX: Final = 4096
_REFUSALS: Final = 8
_REQUESTS: Final = 12
_COLORS: Final = {"up": "green", "degraded": "yellow", "throttled": "yellow", "probing": "cyan", "ejected": "red"}
_SHAPES: Final = {"up": "●", "degraded": "◐", "throttled": "‖", "probing": "◌", "ejected": "×", "draining": "↓"}
_UNKNOWN: Final = "–"
# Of what should be so; None: it is no fault, and no proof either.
_MARKS: Final = {True: ("✓", "green"), None: ("○", "yellow"), False: ("!", "bold red")}

Picture = Mapping[str, Any]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A router's control plane has none, and the token would go along to wherever one leads."""

    def redirect_request(self, *_: object) -> None:
        return None


# No proxy from the environment either: it would be shown the token, and a router on this machine is not behind one.
_opener: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())


@click.command()
@click.option(
    "--admin", default="http://127.0.0.1:9090", show_default=True, metavar="URL", help="The router's control plane."
)
@token_options
@click.option("--once", is_flag=True, help="Print one picture, of one second, and end.")
def top(admin: str, token: str | None, once: bool) -> None:
    """Show what a running router does: flows, verdicts, refusals, the last requests."""
    if not admin.startswith(("http://", "https://")):
        raise click.BadParameter(f"{admin!r} is no address: write http://HOST:PORT", param_hint="--admin")
    console = Console() if sys.stdout.isatty() else Console(width=120, color_system=None)
    try:
        first = _look(admin, token)
        if first["over_s"] is None:  # nobody looked before, so there are no rates yet
            time.sleep(EVERY_S)
            first = _look(admin, token)
        if once:
            console.print(page(first))
        else:
            _follow(console, admin, token, first)
    except KeyboardInterrupt:
        pass


def _follow(console: Console, admin: str, token: str | None, picture: Picture) -> None:
    """Until it is interrupted. A router that does not answer for a while is waited for."""
    with Live(page(picture), console=console, screen=console.is_terminal, auto_refresh=False) as live:
        while True:
            time.sleep(EVERY_S)
            try:
                picture, trouble = _look(admin, token), ""
            except click.ClickException as error:
                trouble = error.message
            live.update(page(picture, trouble), refresh=True)


def _look(admin: str, token: str | None) -> Picture:
    """Asks for the picture. Raises ClickException with what a person can do about it."""
    request = urllib.request.Request(f"{admin.rstrip('/')}/live")  # noqa: S310 - http or https: `top` looked
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with _opener.open(request, timeout=_WITHIN_S) as answer:
            picture: Picture = json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code == 401 and _is_for_clients(error):
            raise click.ClickException(
                f"{admin} is where clients ask: give the address of `server.admin`, the control plane"
            ) from error
        if error.code == 401:
            raise click.ClickException(f"{admin} wants its token: give --token-file") from error
        raise click.ClickException(f"{admin} answered {error.code}: is this a router's control plane?") from error
    except (OSError, http.client.HTTPException) as error:  # a router that restarts may cut an answer anywhere
        reason = getattr(error, "reason", None) or error
        raise click.ClickException(
            f"{admin} cannot be reached: {getattr(reason, 'strerror', None) or reason}; "
            "give --admin the address of `server.admin`"
        ) from error
    except ValueError as error:
        raise click.ClickException(f"{admin} did not answer with JSON: is this a router's control plane?") from error
    if not isinstance(picture, dict) or not {"deployments", "ledger"} <= picture.keys():
        raise click.ClickException(f"{admin} is no router's control plane, or another version's")
    return picture


def _is_for_clients(error: urllib.error.HTTPError) -> bool:
    """Whether a 401 is the data plane's, which wants a client's key."""
    try:
        return bool(json.loads(error.read(_ERROR_BYTES_MAX))["error"]["code"] == "invalid_api_key")
    except (OSError, ValueError, LookupError, TypeError):
        return False


def page(picture: Picture, trouble: str = "") -> RenderableType:
    """All of it, in the order in which it matters."""
    parts: list[RenderableType] = [_proof(picture), _figures(picture)]
    if trouble:
        parts.insert(0, Text(trouble, "bold red"))
    parts += [Text(), _workloads(picture), Text(), _deployments(picture)]
    if picture["refusals"]:
        parts += [Text(), _refusals(picture)]
    if picture["limits"]:
        parts += [Text(), _limits(picture)]
    if picture["recent"]:
        parts += [Text(), _requests(picture)]
    return Group(*parts)


def _proof(picture: Picture) -> Text:
    proof, workers = picture["proof"], picture["workers"]
    down = [worker["worker"] for worker in workers if not worker["up"]]
    log = f"{proof['records']:,} records" if proof["decision_log"] else "off"
    unsigned = proof["decision_log"] and not proof["signed"]
    facts = [
        (f"placement violations {proof['placement_violations']}", not proof["placement_violations"]),
        (
            f"decision log {log}{', unsigned' if unsigned else ''}, {proof['dropped']} dropped",
            None if unsigned and not proof["dropped"] else proof["decision_log"] and not proof["dropped"],
        ),
        (f"{proof['anchor_failures']} anchors failed", not proof["anchor_failures"]),
        (
            f"{len(workers)} {'worker' if len(workers) == 1 else 'workers'}"
            + (f", down: {', '.join(down)}" if down else ""),
            not down,
        ),
    ]
    if (ledger := picture["ledger"]) is not None:
        facts.append((f"ledger {_books(ledger)}", ledger["up"] and not ledger["dropped"] and not ledger["held_bytes"]))
    line = Text.assemble(("inference router ", "bold"), (f"configuration {picture['config_version']}  ", "dim"))
    for text, good in facts:
        mark, style = _MARKS[good]
        line.append(f"{mark} {text}  ", style)
    return line


def _books(ledger: Mapping[str, Any]) -> str:
    """Whether what is used reaches its store; and what waits for it, where it does not."""
    waiting = f", {ledger['waiting_bytes'] / 2**20:.1f} MiB wait" if not ledger["up"] else ""
    held = f", {ledger['held_bytes']:,} bytes in memory alone" if ledger["held_bytes"] else ""
    lost = f", {ledger['dropped']:,} requests lost" if ledger["dropped"] else ""
    return f"{'up' if ledger['up'] else 'away'}{waiting}{held}{lost}"


def _figures(picture: Picture) -> Text:
    workloads = picture["workloads"]
    known = picture["over_s"] is not None

    def over(name: str) -> str:
        return _rate(sum(workload[name] for workload in workloads)) if known else _UNKNOWN

    requests = sum(sum(workload["outcomes"].values()) for workload in workloads)
    figures = {
        "requests/s": _rate(requests) if known else _UNKNOWN,
        "in flight": str(sum(workload["in_flight"] for workload in workloads)),
        "waiting": str(sum(picture["waiting"].values())),
        "first byte p50/p99": _spread(picture["first_byte"]),
        "tokens/s in": over("prompt_tokens"),
        "out": over("completion_tokens"),
        "cost/h": f"${sum(workload['usd_per_h'] for workload in workloads):,.2f}" if known else _UNKNOWN,
        "clients": str(picture["client_connections"]),
    }
    if picture["ledger"] is not None:
        figures["today"] = f"${picture['ledger']['cost_today_usd']:,.2f}"
    return Text("  ").join(Text.assemble((f"{name} ", "dim"), (value, "bold")) for name, value in figures.items())


def _workloads(picture: Picture) -> Table:
    table = _table("workload", "served by", numbers=("requests/s", "first byte p50/p99", "in flight"))
    for workload in picture["workloads"]:
        name = workload["placing"]["name"]
        flows = [flow for flow in picture["flows"] if flow["workload"] == name]
        served = ", ".join(f"{flow['cloud']} {_rate(flow['requests'])}/s" for flow in flows) or _UNKNOWN
        ends = {end: rate for end, rate in workload["outcomes"].items() if end != "ok"}
        _add(
            table,
            Text.assemble((name, "bold"), (f"  {workload['placing']['rule']}", "dim")),
            Text.assemble(served, *((f"  {_rate(rate)} {_words(end)}", "red") for end, rate in ends.items())),
            _rate(sum(workload["outcomes"].values())),
            _spread(workload["first_byte"]),
            str(workload["in_flight"]),
        )
    return table


def _deployments(picture: Picture) -> Table:
    columns = ("attempts/s", "first byte p50/p99", "in flight", "quota left")
    table = _table("deployment", "verdict", numbers=columns)
    for deployment in picture["deployments"]:
        stand, standing = deployment["stand"], deployment["stand"]["standing"]
        reason = _words(standing["reason"]) if standing["reason"] != standing["state"] else ""
        left = f"{standing['for_s']:.0f} s left" if standing["for_s"] is not None else ""
        why = ", ".join(filter(None, (reason, left)))
        color = _COLORS.get(standing["state"], "dim")
        _add(
            table,
            Text.assemble(stand["id"], (f"  {stand['cloud']}, {stand['model']}", "dim")),
            Text.assemble((f"{_SHAPES.get(standing['state'], '○')} {standing['state']}", color), (f"  {why}", "dim")),
            _rate(sum(deployment["outcomes"].values())),
            _spread(deployment["first_byte"]),
            f"{deployment['in_flight']}/{deployment['in_flight_max']}",
            " ".join(f"{limit[0]} {share:.0%}" for limit, share in deployment["quota_left"].items()) or _UNKNOWN,
        )
    return table


def _refusals(picture: Picture) -> Table:
    table = _table("refusals", "cloud", "reason", numbers=("/s", "since the start"))
    for each in picture["refusals"][:_REFUSALS]:
        _add(table, each["workload"], each["cloud"], _words(each["reason"]), _rate(each["rate"]), f"{each['total']:,}")
    return table


def _limits(picture: Picture) -> Table:
    table = _table("limits", numbers=("left", "refused/s", "since the start", "would be"))
    for each in picture["limits"][:_REFUSALS]:
        left = f"{each['left']:.0%}" if each["left"] is not None else _UNKNOWN
        counts = f"{each['total']:,}", f"{each['shadowed']:,}"
        _add(table, f"{each['scope']} {each['name']}: {_words(each['limit'])}", left, _rate(each["refused"]), *counts)
    return table


def _requests(picture: Picture) -> Table:
    table = _table("last requests", "workload", "went to", "why", numbers=("whole",))
    for each in picture["recent"][:_REQUESTS]:
        end = "" if each["outcome"] == "ok" else f"  {each['status']} {_words(each['code'] or each['outcome'])}"
        _add(
            table,
            each["id"],
            each["workload"] or "no valid key",
            Text.assemble(each["served_by"] or "nowhere", (end, "red")),
            Text(", ".join(_reasons(each["refusals"])), "yellow"),
            _ms(each["total_ms"]),
        )
    return table


def _reasons(refusals: Sequence[Sequence[str]]) -> Iterator[str]:
    """Each cloud's reasons once, in their order."""
    yield from dict.fromkeys(f"{cloud} {_words(reason)}" for _, cloud, reason in refusals)


def _add(table: Table, *cells: str | Text) -> None:
    """A row of plain text: names may hold what rich would take for markup."""
    table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells))


def _table(*words: str, numbers: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim", expand=True)
    for name in words:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or not value else f"{value:.1f}"


def _ms(value: float | None) -> str:
    if value is None:
        return _UNKNOWN
    return f"{value:.0f} ms" if value < 1000 else f"{value / 1000:.1f} s"


def _spread(spread: Mapping[str, float | None]) -> str:
    return f"{_ms(spread['p50_ms'])} / {_ms(spread['p99_ms'])}"


def _words(text: str) -> str:
    return text.replace("_", " ")
