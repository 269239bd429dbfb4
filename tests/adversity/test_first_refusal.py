"""No internal request reaches another cloud unless its holder was offered it, and refused, on record, before."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from router.emulator import Distribution, Settings
from router.model.decision import Decision, Leave
from router.telemetry.decision_log import DecisionLog
from tests.adversity.client import Ask, ask, chat, responses, sent
from tests.adversity.test_attempts import QUICK
from tests.router_kit import DECISIONS, INTERNAL_KEY, Cloud, RunningRouter, held, router

PACED = Settings(tokens=Distribution(20.0), token_gap_ms=Distribution(3.0))
Arrange = Callable[[RunningRouter, AsyncExitStack], Awaitable[None]]


def internal(*, stream: bool = False, **fields: Any) -> Ask:
    return chat(stream=stream, key=INTERNAL_KEY, **fields)


def fleet(**azure: Any) -> list[Cloud]:
    return [
        Cloud("first", **azure),
        Cloud("second", **azure),
        Cloud("cw", "coreweave", "openai", settings=PACED),
    ]


def leaves(r: RunningRouter) -> list[Leave]:
    return [record for record in r.decisions() if isinstance(record, Leave)]


def last(r: RunningRouter) -> Decision:
    return [record for record in r.decisions() if isinstance(record, Decision)][-1]


async def failing(r: RunningRouter, _: AsyncExitStack) -> None:
    for name in ("first", "second"):
        r.clouds[name].faults.add("status", status=500)


async def open_breakers(r: RunningRouter, stack: AsyncExitStack) -> None:
    await failing(r, stack)
    assert (await ask(r, internal())).status == 200
    await r.until(lambda: all(r.backend(name).health.out for name in ("first", "second")))


async def draining(r: RunningRouter, _: AsyncExitStack) -> None:
    for name in ("first", "second"):
        await r.worker.set_drain(f"{name}/gpt-4o-dep", True)


async def throttled(r: RunningRouter, _: AsyncExitStack) -> None:
    for name in ("first", "second"):
        r.clouds[name].faults.add("status", status=429, retry_after=30, times=1)


async def cooling_down(r: RunningRouter, stack: AsyncExitStack) -> None:
    await throttled(r, stack)
    assert (await ask(r, internal())).status == 200


async def over_quota(r: RunningRouter, _: AsyncExitStack) -> None:
    for _number in range(2):
        assert (await ask(r, internal(max_tokens=900))).status == 200
    assert [cloud.received.requests for cloud in r.clouds.values()] == [1, 1, 0]


async def busy(r: RunningRouter, stack: AsyncExitStack) -> None:
    for name in ("first", "second"):
        r.clouds[name].faults.add("stall_mid_stream", after_events=3)
    for _number in range(2):
        call = await stack.enter_async_context(sent(r, internal(stream=True)))
        await call.some(b'"content":')


async def silent(r: RunningRouter, _: AsyncExitStack) -> None:
    for name in ("first", "second"):
        r.clouds[name].faults.add("stall_before_head")


async def missing(r: RunningRouter, _: AsyncExitStack) -> None:
    for name in ("first", "second"):
        r.clouds[name].faults.add("status", status=404, times=1)
    assert (await ask(r, internal())).status == 200


async def nothing(_: RunningRouter, _stack: AsyncExitStack) -> None:
    """The holder serves another operation of this model only."""


CASES: dict[str, tuple[str, Arrange, dict[str, Any], dict[str, Any], int]] = {
    # the reason, how it comes about, more of the holder's clouds, more of the configuration, sends to the holder by it
    "unhealthy": ("unhealthy", open_breakers, {}, {"health": {"consecutive_failures": 1, "open_s": 30}}, 0),
    "draining": ("draining", draining, {}, {}, 0),
    "throttled": ("throttled", throttled, {}, {}, 2),
    "cooling down": ("throttled", cooling_down, {}, {}, 0),
    "over quota": ("over_quota", over_quota, {"deployment_extra": {"tpm": 1000}}, {}, 0),
    "busy": ("busy", busy, {"deployment_extra": {"concurrent": 1}}, {}, 0),
    "slow": ("slow", silent, {}, {"ttft_objective_ms": 100}, 2),
    "failed": ("failed", failing, {}, {}, 2),
    "missing": ("no_deployment", missing, {}, {}, 0),
}


@pytest.mark.parametrize("case", CASES)
async def test_each_reason_is_seen_everywhere(case: str) -> None:
    reason, arrange, azure, more, sends = CASES[case]
    objective = {"ttft_objective_ms": more.pop("ttft_objective_ms")} if "ttft_objective_ms" in more else {}
    quiet = {"budget_floor_per_s": 100}
    async with router(
        *fleet(**azure), timeouts=QUICK, workloads=held(**objective), resilience=quiet, leaves=True, **more
    ) as r:
        async with AsyncExitStack() as stack:
            await arrange(r, stack)
            # Only what the next request does is looked at.
            before = len(r.decisions())
            offered = await r.metric("router_offers_total", cloud="azure", outcome=reason)
            sent_before = [r.clouds[name].received.requests for name in ("first", "second")]

            reply = await ask(r, internal(stream=True, max_tokens=900))

            assert reply.complete
            assert reply.headers["x-router-served-by"] == "coreweave/cw/gpt-4o-dep"
            holder_sends = [r.clouds[name].received.requests for name in ("first", "second")]
            assert sum(holder_sends) - sum(sent_before) == sends

            left, decided = r.decisions()[before:]
            expected = {("first/gpt-4o-dep", reason), ("second/gpt-4o-dep", reason)}
            assert isinstance(left, Leave)
            assert {(offer.deployment, offer.outcome) for offer in left.offers} == expected
            assert (left.to, left.to_cloud) == ("cw/gpt-4o-dep", "coreweave")
            assert isinstance(decided, Decision)
            assert (decided.request, decided.served_by, decided.outcome) == (left.request, "cw/gpt-4o-dep", "ok")
            outcomes = [(offer.deployment, offer.outcome) for offer in decided.offers]
            assert set(outcomes[:-1]) == expected
            assert outcomes[-1] == ("cw/gpt-4o-dep", "accepted")

            assert await r.metric("router_offers_total", cloud="azure", outcome=reason) == offered + 2
            await r.until(lambda: any(record["id"] == left.request for record in r.records()))
            (record,) = (record for record in r.records() if record["id"] == left.request)
            assert {(deployment, outcome) for deployment, _, outcome in record["refusals"]} == expected
            assert record["left_holder"]
        await r.assert_nothing_is_left()


async def test_a_holder_that_serves_the_operation_nowhere_is_on_record() -> None:
    only_responses = {"operations": {"gpt-4o-dep": ["responses"]}}
    async with router(*fleet(**only_responses), timeouts=QUICK, workloads=held()) as r:
        reply = await ask(r, internal())

        assert reply.status == 200
        (left,) = leaves(r)
        assert [(offer.deployment, offer.cloud, offer.outcome) for offer in left.offers] == [
            ("", "azure", "no_deployment")
        ]
        assert [offer.outcome for offer in last(r).offers] == ["no_deployment", "accepted"]
        assert await r.metric("router_offers_total", cloud="azure", outcome="no_deployment") == 1
        await r.until(lambda: r.records())
        assert r.records()[0]["refusals"] == [["", "azure", "no_deployment"]]
        assert r.records()[0]["left_holder"]
        # What it does serve it is offered.
        assert (await ask(r, responses(key=INTERNAL_KEY))).status == 200
        assert len(leaves(r)) == 1


async def test_who_is_served_by_the_holder_leaves_no_departure() -> None:
    async with router(*fleet(), timeouts=QUICK, workloads=held()) as r:
        for stream in (False, True):
            assert (await ask(r, internal(stream=stream))).status == 200
        assert leaves(r) == []
        assert r.clouds["cw"].received.connections == 0
        assert [offer.outcome for offer in last(r).offers] == ["accepted"]


async def test_the_refusal_stands_in_the_file_before_the_other_cloud_is_dialled() -> None:
    """Read from the segment at the moment at which the other cloud accepts: what a kill would leave then."""
    async with router(*fleet(), timeouts=QUICK, workloads=held()) as r:
        await draining(r, AsyncExitStack())
        cw = r.clouds["cw"]
        images: list[bytes] = []
        opened = cw.opened

        def look(connection: Any) -> None:
            images.append(b"".join(path.read_bytes() for path in sorted(folder(r).glob("*.seg"))))
            opened(connection)

        cw.opened = look  # type: ignore[method-assign]
        assert (await ask(r, internal())).status == 200

        (image,) = images
        (line,) = (line for line in image.splitlines() if b'["leave"' in line)
        sequence, text, _ = line.split(b" ", 1)[0], line.split(b" ", 1)[1].rsplit(b" ", 1)[0], line
        written = orjson.loads(text)
        assert written[1] == last(r).request
        assert {tuple(offer) for offer in written[9]} == {
            ("first/gpt-4o-dep", "azure", "draining"),
            ("second/gpt-4o-dep", "azure", "draining"),
        }
        assert int(sequence) > 1
        assert b'["request"' not in image


@pytest.mark.parametrize(
    ("status", "body"),
    [(400, "content_filter"), (400, "context_length"), (422, "unsupported_parameter")],
)
async def test_a_clients_own_error_is_an_answer_and_no_refusal(status: int, body: str) -> None:
    async with router(*fleet(), timeouts=QUICK, workloads=held()) as r:
        for name in ("first", "second"):
            r.clouds[name].faults.add("status", status=status, body=body)

        reply = await ask(r, internal())

        assert reply.status == status
        assert r.clouds["cw"].received.connections == 0
        assert leaves(r) == []
        assert last(r).outcome == "client_error"
        assert sum(r.clouds[name].received.requests for name in ("first", "second")) == 1


@pytest.mark.parametrize("attempts", [1, 2, 3])
async def test_after_so_many_failed_sends_the_rest_of_the_holder_counts_as_failed(attempts: int) -> None:
    clouds = [Cloud(name) for name in ("a", "b", "c", "d")]
    async with router(
        *clouds, Cloud("cw", "coreweave", "openai"), timeouts=QUICK, workloads=held(holder_attempts=attempts)
    ) as r:
        for cloud in clouds:
            r.clouds[cloud.id].faults.add("reset_before_head")

        reply = await ask(r, internal())

        sends = sum(r.clouds[cloud.id].received.requests for cloud in clouds)
        assert sends == min(attempts, 3)
        if attempts < 3:  # a request has three sends
            assert reply.status == 200
            (left,) = leaves(r)
            assert sorted(offer.outcome for offer in left.offers) == ["failed"] * 4
        else:
            assert reply.status == 502
            assert leaves(r) == []
            assert r.clouds["cw"].received.connections == 0


@asynccontextmanager
async def full(r: RunningRouter) -> AsyncIterator[None]:
    """The decision log as it is on a disk that is full: no room here, and no next segment."""
    log = r.worker.assembly.decisions
    assert isinstance(log, DecisionLog)
    await r.until(lambda: log._next is not None)  # prepared by its thread, which then rests
    (limit, log._limit), (following, log._next) = (log._limit, -1), (log._next, None)
    try:
        yield
    finally:
        log._limit, log._next = limit, following


async def test_what_cannot_be_recorded_does_not_leave() -> None:
    async with router(*fleet(), timeouts=QUICK, workloads=held()) as r:
        await draining(r, AsyncExitStack())
        async with full(r):
            for stream in (False, True):
                reply = await ask(r, internal(stream=stream))
                assert (reply.status, reply.code) == (503, "decision_log_full")
                assert reply.headers["retry-after"] == "1"
        assert r.clouds["cw"].received.connections == 0
        assert leaves(r) == []

        assert (await ask(r, internal())).status == 200
        assert len(leaves(r)) == 1


async def test_what_needs_no_record_goes_on_while_the_log_is_full() -> None:
    async with router(*fleet(), timeouts=QUICK, workloads=held()) as r:
        async with full(r):
            assert (await ask(r, internal())).status == 200
            assert (await ask(r, chat())).status == 200
        assert await r.metric("router_decision_log_dropped_total") >= 2


def folder(r: RunningRouter) -> Path:
    return r.file.parent / DECISIONS / "0"
