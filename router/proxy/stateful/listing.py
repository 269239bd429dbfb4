"""A key's own files, batches and the like, page by page: its ids from the ledger, each shown by its home."""

from collections.abc import Iterator, Mapping
from time import monotonic
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
import orjson

from router.accounting.usage import UNREADABLE
from router.base.errors import ClientGoneError, InvalidRequestError, NotFoundError, RefusedError, Retry, RouterError
from router.model.stored import Home, OwnHomes, Resource
from router.proxy.answer import Answer
from router.proxy.asking import ask
from router.proxy.choice import record_departure
from router.proxy.context import Attempt, Context
from router.proxy.ending import begin_attempt, end_attempt
from router.proxy.fleet import LivePlan
from router.proxy.phases import reply_json
from router.proxy.replies import retry_after
from router.proxy.runtime import Runtime
from router.proxy.stateful.binding import WHOLE_BYTES_MAX, bind_found
from router.proxy.stateful.paths import is_id
from router.proxy.stateful.target import StoredTarget
from router.transport.fiber import Branch

LIMIT: Final = 20
LIMIT_MAX: Final = 100
AT_ONCE: Final = 8  # objects of one page that are asked for beside each other
TRIES: Final = 3  # a connection may have died while it was idle
AGAIN_S: Final = 1.0
LOOKED_AT_MAX: Final = 1000  # ids for one page, where a filter leaves few

_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


class _Wanted(msgspec.Struct):
    """One page, as the client asks for it."""

    limit: int
    descending: bool
    after: str
    before: str
    where: dict[str, str]


async def reply_list(ctx: Context, rt: Runtime, plan: LivePlan, resource: Resource) -> None:
    """Raises InvalidRequestError, NotFoundError, RefusedError, ClientGoneError."""
    key = ctx.caller.key
    assert key is not None
    wanted = _wanted(ctx.inbound.head.target, resource)
    found: list[dict[str, Any]] = []
    after, before, looked_at, more = wanted.after, wanted.before, 0, True
    while more and len(found) <= wanted.limit and looked_at < LOOKED_AT_MAX:
        limit = wanted.limit + 1 - len(found)  # one beyond the page tells whether there is another
        page = await rt.homes.page(
            ctx.inbound, OwnHomes(key.name, resource.kind, limit, wanted.descending, after, before)
        )
        if not page.known:
            raise _no_place("before" if before else "after")
        objects = await _objects(ctx, rt, plan, resource, page.homes)
        shown = [each for each in objects if all(each.get(field) == value for field, value in wanted.where.items())]
        found = [*shown, *found] if before else [*found, *shown]
        looked_at += len(page.homes)
        more = len(page.homes) == limit
        if more:
            after, before = ("", page.homes[0].id) if before else (page.homes[-1].id, "")
    has_more = len(found) > wanted.limit or more
    found = found[-wanted.limit :] if wanted.before else found[: wanted.limit]
    reply_json(
        ctx,
        orjson.dumps(
            {
                "object": "list",
                "data": found,
                "first_id": found[0].get("id") if found else None,
                "last_id": found[-1].get("id") if found else None,
                "has_more": has_more,
            }
        ),
    )


async def _objects(
    ctx: Context, rt: Runtime, plan: LivePlan, resource: Resource, homes: list[Home]
) -> list[dict[str, Any]]:
    """Those of the ids that can be shown: not what its home has forgotten, nor what is where the key may not go."""
    fetches = [_Fetch(home, at) for home in homes if (at := plan.at(home.endpoint)).tiers]
    for start in range(0, len(fetches), AT_ONCE):
        await _fetch(ctx, rt, resource, fetches[start : start + AT_ONCE])
    return [fetch.value for fetch in fetches if fetch.value is not None]


class _Fetch:
    """One object, asked for at its home."""

    def __init__(self, home: Home, plan: LivePlan) -> None:
        self.home, self.plan = home, plan
        self.value: dict[str, Any] | None = None
        self.branch: Branch[Answer] = Branch()
        self.attempt: Attempt | None = None
        self.tries = 0
        self._held, self._idle_at = -1, 0.0  # how much of its answer has come, and when that is too long ago

    def look_again_at(self, now: float) -> float:
        """Monotonic seconds. Raises RefusedError where its answer stands still, or has no end."""
        answer = self.branch.result
        if answer is None:
            return self.branch.deadline
        if answer.held_bytes > self._held:
            self._held, self._idle_at = answer.held_bytes, now + answer.target.timeouts.idle_s
        if now >= self._idle_at or self._held > WHOLE_BYTES_MAX:
            raise unavailable()
        return self._idle_at

    def start(self, ctx: Context, rt: Runtime, resource: Resource) -> None:
        """Raises RefusedError where its home is not to be asked now."""
        now = monotonic()
        base = self.plan.tiers[0].targets[0]
        assert isinstance(base, StoredTarget)
        if base.backend.refusal(now) or base.backend.refusal_of(0, now):
            raise unavailable()
        target = base.asked(b"GET", f"{resource.path}/{self.home.id}".encode(), b"", stream=False)
        self.tries += 1
        self.branch = Branch()
        self._held = -1
        if self.plan.holder and target.cloud != self.plan.holder and not ctx.left_holder:
            ctx.plan = self.plan  # which says what the holder has, and that none of it is there
            record_departure(ctx, rt, target)
        attempt = self.attempt = begin_attempt(ctx, target, now)
        self.branch.start(ask(ctx, rt, attempt, rt.permit(ctx), self.branch))


async def _fetch(ctx: Context, rt: Runtime, resource: Resource, fetches: list[_Fetch]) -> None:
    running: list[_Fetch] = []
    try:
        for fetch in fetches:
            running.append(fetch)
            fetch.start(ctx, rt, resource)
        while running:
            for fetch in tuple(running):
                if _ended(ctx, rt, resource, fetch):
                    running.remove(fetch)
            if running:
                now = monotonic()
                deadlines = [fetch.look_again_at(now) for fetch in running]
                await ctx.inbound.park(min((ctx.total_at, *deadlines)), _nothing)
                now = monotonic()
                if now >= ctx.total_at:
                    raise unavailable()
                for fetch in running:
                    if not fetch.branch.finished:
                        fetch.branch.step(now)
    finally:
        for fetch in running:
            _give_up(ctx, rt, fetch)


def _ended(ctx: Context, rt: Runtime, resource: Resource, fetch: _Fetch) -> bool:
    """Whether there is nothing more to wait for. Raises what makes the whole list impossible."""
    branch, attempt = fetch.branch, fetch.attempt
    if not branch.finished:
        return False
    if branch.failure is not None:
        fetch.attempt = None  # it has ended itself
        if not isinstance(branch.failure, RouterError) or isinstance(branch.failure, ClientGoneError):
            raise branch.failure
        if branch.failure.retry is Retry.NEVER or fetch.tries >= TRIES:
            raise unavailable() from None
        fetch.start(ctx, rt, resource)
        return False
    answer = branch.result
    assert answer is not None
    assert attempt is not None
    if not answer.finished:
        return False
    fetch.attempt = None
    answer.forget_usage()
    end_attempt(ctx, rt, attempt, "served" if answer.succeeded else "answered", monotonic())
    if answer.succeeded and answer.complete():
        try:
            fetch.value = _decode(answer.held_body())
        except UNREADABLE:
            raise unavailable() from None
        bind_found(ctx, rt, answer, resource, fetch.value)
    elif answer.head is None or answer.head.status != 404:
        raise unavailable()
    return True


def _give_up(ctx: Context, rt: Runtime, fetch: _Fetch) -> None:
    """Ends what still runs, since the list has failed."""
    attempt = fetch.attempt
    if attempt is None:
        return
    if not fetch.branch.finished:
        fetch.branch.throw(ClientGoneError("The list is not wanted any more."))
    elif fetch.branch.failure is None:
        if attempt.answer is not None:
            attempt.answer.abort()
        end_attempt(ctx, rt, attempt, "client_gone", monotonic())


def _wanted(target: bytes, resource: Resource) -> _Wanted:
    """Reads the query. Raises InvalidRequestError for what a list cannot be narrowed or ordered by."""
    said: Mapping[str, str] = dict(_pairs(target))
    where = {name: said[name] for name in resource.filters if said.get(name)}
    where |= {name: value for name, value in said.items() if name.startswith("metadata[")}
    if unknown := sorted(said.keys() - {"limit", "order", "after", "before", *where, *resource.filters}):
        raise InvalidRequestError(f"This list takes no `{unknown[0]}`.", code="unknown_parameter", param=unknown[0])
    limit = said.get("limit", str(LIMIT))
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 6 and int(limit) > 0):
        raise InvalidRequestError("`limit` is no number above 0.", code="invalid_value", param="limit")
    order = said.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequestError("`order` is neither `asc` nor `desc`.", code="invalid_value", param="order")
    after, before = said.get("after", ""), said.get("before", "")
    for name, cursor in (("after", after), ("before", before)):
        if cursor and not is_id(cursor):
            raise _no_place(name)
    if after and before:
        raise InvalidRequestError("`after` and `before` exclude each other.", code="invalid_value", param="before")
    return _Wanted(min(int(limit), LIMIT_MAX), order == "desc", after, before, where)


def _no_place(param: str) -> NotFoundError:
    return NotFoundError("The list has no such place.", code="not_found", param=param)


def _pairs(target: bytes) -> Iterator[tuple[str, str]]:
    query = target.partition(b"?")[2].decode("latin-1")
    return ((name, value) for name, value in parse_qsl(query, max_num_fields=50) if name != "api-version")


def unavailable() -> RefusedError:
    """Of what is stored where nobody can be asked now."""
    return RefusedError(
        "Some of it is stored where nobody can serve it now. Retry after the wait.",
        code="home_unavailable",
        headers=retry_after(AGAIN_S),
    )


def _nothing() -> None:
    """Passing a deadline is a wake like any other: whose it was is found out by looking."""
