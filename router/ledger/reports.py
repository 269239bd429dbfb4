"""What the store's entries add up to, by key, cloud, day and whatever else a reader asks for.

Whole hours come from their sums, which are as many as there are keys, models and deployments, and not as requests. Only
the hours that a period begins and ends within are added up from their entries.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import Any, Final

from sqlalchemy import ColumnElement, FromClause, Select, case, func, literal, select, true, union_all

from router.ledger.engines import reached
from router.ledger.rows import HOUR_S, HOUR_US, SUMS
from router.ledger.store import Store
from router.ledger.tables import ATTEMPTS, REQUESTS, USAGE_HOURS

DAY_S: Final = 86400
NAMES: Final = ("key", "workload", "model", "cloud", "deployment", "plan")
_TIMES: Final = {"hour": "%Y-%m-%dT%H:00Z", "day": "%Y-%m-%d", "month": "%Y-%m"}
PARTS: Final = (*NAMES, *_TIMES)
"""What lines can be made by; times are UTC."""
BUCKETS: Final = {"hour": HOUR_S, "day": DAY_S}
"""Seconds of what a key's own figures are told by."""

_CHARGED: Final = {
    f"charged_{kind}_tokens": f"{kind}_tokens" for kind in ("prompt", "cached", "completion", "reasoning")
}
# What one entry adds to the sums of its hour, where that is not the column of the same name.
_OF_REQUEST: Final[Mapping[str, ColumnElement[Any]]] = {
    "requests": literal(1),
    "ok": case((REQUESTS.c.outcome == "ok", 1), else_=0),
    "charged_nano_usd": REQUESTS.c.cost_nano_usd,
    "bytes_in": REQUESTS.c.bytes_in,
    "bytes_out": REQUESTS.c.bytes_out,
    **{charged: REQUESTS.c[kind] for charged, kind in _CHARGED.items()},
}
_OF_ATTEMPT: Final[Mapping[str, ColumnElement[Any]]] = {
    "attempts": literal(1),
    "estimated": case((ATTEMPTS.c.estimated, 1), else_=0),
    "cost_nano_usd": ATTEMPTS.c.cost_nano_usd,
    **{kind: ATTEMPTS.c[kind] for kind in _CHARGED.values()},
}


@dataclass(frozen=True, slots=True)
class Line:
    """`of`: what it is the sum of, in the order of the parts that were asked for. `sums`: by their names in `SUMS`."""

    of: tuple[str, ...]
    sums: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Usage:
    """Lines in order. `since`, `until`: the period that they are of, in wall seconds; infinity: all there is."""

    since: float
    until: float
    lines: list[Line]


async def usage(
    store: Store, parts: Sequence[str], since: float, until: float = inf, *, key: str | None = None
) -> Usage:
    """Adds up all requests that arrived in a period, by `parts` (of `PARTS`); `key`: of that one alone.

    The period begins and ends with its hours where the entries of those have left the store already. Raises StoreError.
    """
    times = [part for part in parts if part in _TIMES]
    names = [part for part in parts if part in NAMES]
    async with reached(), store.reads.connect() as connection:
        oldest_us = (await connection.execute(select(func.min(REQUESTS.c.at_us)))).scalar()
        if oldest_us is None or since * 1e6 < oldest_us:
            since -= since % HOUR_S
        if until != inf and (oldest_us is None or (until + -until % HOUR_S) * 1e6 <= oldest_us):
            until += -until % HOUR_S
        rows: Sequence[Mapping[Any, Any]] = ()
        if since < until:
            rows = (await connection.execute(_added_up(times, names, since, until, key))).mappings().all()
    lines: dict[tuple[str, ...], dict[str, int]] = {}
    for row in rows:
        of = tuple(row[part] if part in NAMES else _written(part, row["time"]) for part in parts)
        sums = lines.setdefault(of, dict.fromkeys(SUMS, 0))
        for name in SUMS:
            sums[name] += int(row[name])
    return Usage(since, until, [Line(of, sums) for of, sums in sorted(lines.items())])


async def key_usage(store: Store, key: str, since: float, until: float, bucket: str) -> dict[str, object]:
    """A key's own figures: what its answers were, and what it is charged for them. `bucket`: of `BUCKETS`.

    Requests that came as far as a model; to ask for figures is none. The period is made of whole buckets. Raises
    StoreError.
    """
    length = BUCKETS[bucket]
    since, until = since - since % length, until + -until % length
    found = await usage(store, (bucket, "model"), since, until, key=key)
    data = [{bucket: line.of[0], "model": line.of[1], **_own(line.sums)} for line in found.lines if line.of[1]]
    total = {name: sum(int(each[name]) for each in data) for name in _own(dict.fromkeys(SUMS, 0))}
    period = {"since": _moment(since), "until": _moment(until), "bucket": bucket}
    return {"object": "usage", "key": key, **period, "data": data, "total": total}


async def cost_since(store: Store, since: float) -> int:
    """Nano-dollars that attempts have cost from that hour's begin (wall seconds) on. Raises StoreError."""
    wanted = select(func.sum(USAGE_HOURS.c.cost_nano_usd)).where(USAGE_HOURS.c.hour >= int(since))
    async with reached(), store.reads.connect() as connection:
        return int((await connection.execute(wanted)).scalar() or 0)


def _own(sums: Mapping[str, int]) -> dict[str, Any]:
    """Requests and what they are charged: how often they were tried, and at what cost, is not the client's to pay."""
    tokens = {kind: sums[charged] for charged, kind in _CHARGED.items()}
    return {"requests": sums["requests"], **tokens, "cost_nano_usd": sums["charged_nano_usd"]}


def _added_up(times: Sequence[str], names: Sequence[str], since: float, until: float, key: str | None) -> Select[Any]:
    """One row for each time and name. A month is not so many hours: its days are told, and added up by who asks."""
    first = since + -since % HOUR_S  # the first hour that is whole in the period, and the one that no more is
    last = until - until % HOUR_S if until != inf else inf
    sums, entries = USAGE_HOURS.c, []
    if first < last:
        period = (sums.hour >= int(first)) & ((sums.hour < int(last)) if last != inf else true())
        hours = select(sums.hour.label("hour"), *(sums[name] for name in (*names, *SUMS))).where(period)
        entries.append(hours if key is None else hours.where(sums.key == key))
    for begin, end in ((since, min(first, until)), (max(first, last), until)):
        if begin < end and end != inf:
            entries += [_entries(REQUESTS, _OF_REQUEST, names, begin, end, key)]
            entries += [_entries(ATTEMPTS, _OF_ATTEMPT, names, begin, end, key)]
    found = union_all(*entries).subquery()
    step = min((BUCKETS.get(time, DAY_S) for time in times), default=0)
    by = [found.c[name] for name in names]
    if step:
        by = [(found.c.hour - found.c.hour % step).label("time"), *by]
    return select(*by, *(func.sum(found.c[name]).label(name) for name in SUMS)).group_by(*by).having(func.count() > 0)


def _entries(
    table: FromClause,
    added: Mapping[str, ColumnElement[Any]],
    names: Sequence[str],
    begin: float,
    end: float,
    key: str | None,
) -> Select[Any]:
    """The entries of a part of an hour, as sums of one each."""
    hour = table.c.at_us // HOUR_US * HOUR_S
    each = (added.get(name, literal(0)).label(name) for name in SUMS)
    period = (table.c.at_us >= round(begin * 1e6)) & (table.c.at_us < round(end * 1e6))
    found = select(hour.label("hour"), *(table.c[name] for name in names), *each).where(period)
    return found if key is None else found.where(table.c.key == key)


def _written(part: str, time: int) -> str:
    return datetime.fromtimestamp(time, UTC).strftime(_TIMES[part])


def _moment(wall_s: float) -> str:
    return datetime.fromtimestamp(wall_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
