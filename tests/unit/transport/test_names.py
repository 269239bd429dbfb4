"""Names to addresses: what may be dialled, when it is asked again, and what becomes of an address that has gone."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

import pytest

from router.base.errors import ConnectError
from router.transport import names as module
from router.transport.names import DOUBT_S, FORGET_S, GONE_S, Names, may_dial

HOST = "contoso.openai.azure.com"


class Resolver:
    """In place of a loop: answers as a test says, and counts."""

    def __init__(self) -> None:
        self.create_task = asyncio.get_running_loop().create_task
        self.answer: list[str] | OSError = ["20.42.0.1"]
        self.asked = 0

    async def getaddrinfo(self, host: str, port: int, **_more: object) -> list[Any]:
        self.asked += 1
        await asyncio.sleep(0)
        if isinstance(self.answer, OSError):
            raise self.answer
        return [(socket.AF_UNSPEC, socket.SOCK_STREAM, 6, "", (each, port)) for each in self.answer]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "monotonic", clock)
    return clock


@pytest.fixture
async def resolver(clock: Clock) -> Resolver:
    return Resolver()


def names_of(resolver: Resolver) -> Names:
    return Names(cast(asyncio.AbstractEventLoop, resolver))


async def look(names: Names, *, private: bool = False, host: str = HOST) -> list[str]:
    return list(await names.addresses(host, 443, private=private))


async def again(names: Names, resolver: Resolver) -> None:
    """A refresh, to its end."""
    asked = resolver.asked
    names.refresh()
    for _ in range(5):
        await asyncio.sleep(0)
    assert resolver.asked > asked


FORBIDDEN = [
    *("127.0.0.1", "10.0.0.1", "169.254.169.254", "168.63.129.16", "0.0.0.0", "100.64.0.1", "::1", "fe80::1%eth0"),
    *("fd00:ec2::254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "64:ff9b::7f00:1", "2002:7f00:1::1", "ff02::1"),
]


@pytest.mark.parametrize("address", FORBIDDEN)
async def test_a_public_endpoint_leads_to_no_other_place(resolver: Resolver, address: str) -> None:
    names = names_of(resolver)
    resolver.answer = [address]
    with pytest.raises(ConnectError, match="may not be dialled"):
        await look(names)
    resolver.answer = [address, "20.42.0.9"]
    assert await look(names) == ["20.42.0.9"]


@pytest.mark.parametrize("address", ["169.254.169.254", "fd00:ec2::254", "168.63.129.16", "64:ff9b::a9fe:a9fe", "::"])
async def test_not_even_a_private_endpoint_leads_to_metadata(resolver: Resolver, address: str) -> None:
    resolver.answer = [address]
    with pytest.raises(ConnectError, match="may not be dialled"):
        await look(names_of(resolver), private=True)


async def test_a_private_endpoint_may_be_anywhere_else(resolver: Resolver) -> None:
    resolver.answer = ["10.1.2.3", "127.0.0.1", "fd12::1", "20.42.0.1"]
    assert await look(names_of(resolver), private=True) == resolver.answer


async def test_localhost_is_this_machine_whatever_a_resolver_says(resolver: Resolver) -> None:
    """An emulated endpoint is sent real keys now and then; by its name alone it must not leave the machine."""
    resolver.answer = ["203.0.113.9", "20.42.0.1", "10.0.0.1", "127.0.0.1"]
    assert await look(names_of(resolver), host="localhost", private=True) == ["127.0.0.1"]
    assert not may_dial("a.localhost", "127.0.0.1", private=False)


async def test_who_asks_for_both_kinds_shares_no_answer(resolver: Resolver) -> None:
    """The same host at a private and at a public endpoint: what one may reach is not the other's."""
    names = names_of(resolver)
    resolver.answer = ["10.0.0.1"]
    assert await look(names, private=True) == ["10.0.0.1"]
    with pytest.raises(ConnectError):
        await look(names)


async def test_a_name_that_is_rebound_keeps_its_last_good_addresses(resolver: Resolver) -> None:
    names = names_of(resolver)
    assert await look(names) == ["20.42.0.1"]
    for answer in (["127.0.0.1"], ["169.254.169.254", "10.0.0.1"], OSError()):
        resolver.answer = answer  # type: ignore[assignment]
        await again(names, resolver)
        assert await look(names) == ["20.42.0.1"]


async def test_a_change_is_followed(resolver: Resolver) -> None:
    names = names_of(resolver)
    await look(names)
    resolver.answer = ["20.42.0.2"]
    await again(names, resolver)
    assert await look(names) == ["20.42.0.2"]


async def test_an_address_is_gone_once_it_was_missing_for_long(resolver: Resolver, clock: Clock) -> None:
    """Not at the first answer without it: a large service names a few of its addresses at a time."""
    names = names_of(resolver)

    def gone() -> list[str]:
        return list(names.gone(HOST, 443, private=False))

    await look(names)
    resolver.answer = ["20.42.0.2"]
    clock.now += GONE_S / 2
    await again(names, resolver)
    assert gone() == []
    clock.now += GONE_S / 2 + 1
    assert gone() == [], "nobody has answered since"
    await again(names, resolver)
    assert gone() == ["20.42.0.1"]
    resolver.answer = ["20.42.0.1", "20.42.0.2"]
    await again(names, resolver)
    assert gone() == []


async def test_addresses_that_take_turns_are_not_gone(resolver: Resolver, clock: Clock) -> None:
    names = names_of(resolver)
    await look(names)
    for turn in range(20):
        resolver.answer = [f"20.42.0.{turn % 3}"]
        clock.now += 30
        await again(names, resolver)
        assert list(names.gone(HOST, 443, private=False)) == []


async def test_a_silent_resolver_makes_nothing_gone(resolver: Resolver, clock: Clock) -> None:
    names = names_of(resolver)
    await look(names)
    resolver.answer = OSError()
    for _ in range(20):
        clock.now += 30
        await look(names)
        await again(names, resolver)
    assert list(names.gone(HOST, 443, private=False)) == []
    assert await look(names) == ["20.42.0.1"]


async def test_a_name_that_nobody_needs_is_not_asked_about_for_ever(resolver: Resolver, clock: Clock) -> None:
    names = names_of(resolver)
    await look(names)
    clock.now += FORGET_S + 1
    names.refresh()
    assert resolver.asked == 1
    await look(names)
    assert resolver.asked == 2


async def test_a_name_that_cannot_be_reached_is_asked_about_at_once_and_then_once_a_second(
    resolver: Resolver, clock: Clock
) -> None:
    names = names_of(resolver)
    doubt: Callable[[], None] = lambda: names.doubt(HOST, 443, private=False)  # noqa: E731
    doubt()
    assert resolver.asked == 0, "nobody has dialled it"
    await look(names)
    clock.now += DOUBT_S
    for _ in range(10):
        doubt()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert resolver.asked == 2
