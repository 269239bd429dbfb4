"""Who has no key, and comes again and again: bounded by where it comes from, and nobody else notices."""

import asyncio

import aiohttp

from router.config.keys import digest
from router.proxy.runtime import STRANGERS_AT_ONCE
from tests.adversity.client import Ask, Reply, ask, chat
from tests.router_kit import API_KEY, Cloud, RunningRouter, router

WRONG = "sk-ir-nobody-has-this-one"


def asking(key: str) -> Ask:
    request = chat()
    return Ask(request.path, request.body, key)


async def wear_out(r: RunningRouter) -> None:
    """Comes without a key until it is no longer heard."""
    for _ in range(3 * STRANGERS_AT_ONCE):
        reply = await ask(r, asking(WRONG))
        if reply.status != 401:
            return
    raise AssertionError("it is heard for ever")


async def test_many_wrong_keys_are_not_looked_into_and_the_client_is_told_not_to_come_again() -> None:
    async with router(Cloud("azure")) as r:
        await wear_out(r)
        reply = await refused(r)
        assert reply.headers["retry-after"] == "1"
        assert reply.headers["x-should-retry"] == "false"
        assert reply.headers["connection"] == "close"
        assert b"too_many_invalid_keys" in reply.body
        assert WRONG.encode() not in reply.body
        assert await r.metric("router_strangers_unheard_total") > 0


async def refused(r: RunningRouter) -> Reply:
    """The next refusal: between two of them a try is heard now and then."""
    while True:
        reply = await ask(r, asking(WRONG))
        if reply.status == 429:
            return reply
        assert reply.status == 401


async def test_a_right_key_from_the_same_address_is_served_meanwhile() -> None:
    """Behind one address there may be many clients, and one of them may be broken."""
    async with router(Cloud("azure")) as r:
        await wear_out(r)
        replies = await asyncio.gather(*(ask(r, asking(key)) for key in [API_KEY, WRONG] * 20))
        assert {reply.status for reply in replies[::2]} == {200}
        assert 429 in {reply.status for reply in replies[1::2]}


async def test_what_is_not_looked_into_does_not_fill_the_log() -> None:
    async with router(Cloud("azure")) as r:
        await wear_out(r)
        unheard = await r.metric("router_strangers_unheard_total")
        heard = 0
        for _ in range(200):
            heard += (await ask(r, asking(WRONG))).status == 401
        await ask(r, asking(API_KEY))
        await r.until(lambda: r.records() and r.records()[-1]["status"] == 200)
        assert await r.metric("router_strangers_unheard_total") == unheard + 200 - heard
        refused = [record for record in r.records() if record["status"] != 200]
        assert {record["status"] for record in refused} == {401}
        assert len(refused) <= STRANGERS_AT_ONCE + heard + 100
        assert not any(r.worker.assembly.runtime.in_flight.values())


async def test_all_wrong_keys_get_the_same_answer() -> None:
    """Unknown, ended, malformed, two of them, none: nothing says which it was."""
    expired = {"name": "old", "workload": "api", "models": ["*"], "expires": "2020-01-01"}
    keys = [
        {**expired, "sha256": digest("sk-ir-expired").hex()},
        {"name": "api", "workload": "api", "models": ["*"], "sha256": digest(API_KEY).hex()},
    ]
    shown: list[dict[str, str]] = [
        {"authorization": f"Bearer {WRONG}"},
        {"authorization": "Bearer sk-ir-expired"},
        {"authorization": f"Basic {API_KEY}"},
        {"authorization": "Bearer"},
        {"authorization": f"Bearer {API_KEY}", "api-key": WRONG},
        {"api-key": "sk-ir-expired"},
        {"api-key": "\xff\xfe"},
        {},
    ]
    async with router(Cloud("azure"), keys=keys) as r, aiohttp.ClientSession() as session:
        seen = set()
        for headers in shown:
            url = f"{r.url}/v1/chat/completions"
            async with session.post(url, data=chat().body, headers=headers) as answer:
                told = {name: value for name, value in answer.headers.items() if name.lower() != "x-request-id"}
                seen.add((answer.status, tuple(sorted(told.items())), await answer.read()))
        assert len(seen) == 1
        assert next(iter(seen))[0] == 401
        assert (await ask(r, asking(API_KEY))).status == 200
