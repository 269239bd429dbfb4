"""A quota's minute that is too short for all: who may have how much of it, minute after minute."""

from collections import Counter
from dataclasses import dataclass, field

import pytest

from router.limits.minute_shares import FLOOR, LOOK_EVERY_S, MinuteShares
from router.limits.quota_twin import QuotaTwin
from router.model.policy import Priority

LOW, NORMAL, HIGH = Priority
TPM = 60_000
TOKENS = 50
CAP = 0.98 * TPM  # what the twin leaves unused is its margin


@dataclass
class Client:
    """Asks evenly, `rate` times a second, from `since` to `until`."""

    name: str
    rate: float
    weight: float = 1.0
    priority: Priority = NORMAL
    since: float = 0.0
    until: float = 1e9
    tokens: int = TOKENS
    asked: int = 0


@dataclass
class Minutes:
    """What each got, and how often each was turned away, by minute."""

    got: list[Counter[str]] = field(default_factory=list)
    away: list[Counter[str]] = field(default_factory=list)
    shares: MinuteShares | None = None


def run(*clients: Client, minutes: int = 4) -> Minutes:
    """As `Quota` and `choose` do it."""
    twin, result = QuotaTwin(TPM, None, 0.0), Minutes()
    for minute in range(minutes):
        got, away = Counter[str](), Counter[str]()
        result.got.append(got)
        result.away.append(away)
        for tick in range(6000):
            now = 60.0 * minute + tick / 100
            for client in clients:
                while client.since + client.asked / client.rate <= min(now, client.until):
                    client.asked += 1
                    _ask(result, twin, client, now, got, away)
    return result


def _ask(result: Minutes, twin: QuotaTwin, client: Client, now: float, got: Counter[str], away: Counter[str]) -> None:
    who = client.name, client.weight, client.priority
    short = twin.wait_s(client.tokens, now) > 0.0
    if not short and result.shares is not None:
        left = twin.tokens_left(now) / twin.factor
        wait_s = result.shares.wait_s(*who, client.tokens, left, twin.minute_ends_at(now), now)
        assert wait_s == 0.0 or wait_s == pytest.approx(twin.minute_ends_at(now) - now)
        short = wait_s > 0.0
        if result.shares.idle:
            result.shares = None
    if short:
        away[client.name] += 1
        if result.shares is None:
            result.shares = MinuteShares(twin.minute_ends_at(now))
        result.shares.missed(*who)
        return
    twin.charge(client.tokens, now)
    got[client.name] += client.tokens
    if result.shares is not None:
        result.shares.charge(*who, client.tokens)


def share_rate(share: float) -> float:
    """Requests a second that use so much of the minute."""
    return share * CAP / 60 / TOKENS


def test_a_flood_has_the_first_minute_and_no_other() -> None:
    """Of five keys one offers fifty times its share, four stay within theirs."""
    others = [Client(name, share_rate(0.8 / 5)) for name in "abcd"]
    result = run(*others, Client("flood", share_rate(50 / 5)))
    assert sum(result.away[0][name] for name in "abcd") > 600, "nobody could know that the minute would be too short"
    for got, away in zip(result.got[1:], result.away[1:], strict=True):
        assert sum(away[name] for name in "abcd") == 0
        assert sum(got.values()) > 0.95 * CAP, "what the others leave is not lost"
        assert got["flood"] > 0.3 * CAP


def test_all_who_want_more_get_the_same_by_weight() -> None:
    clients = [Client("a", share_rate(1)), Client("b", share_rate(3), weight=2.0), Client("c", share_rate(9))]
    for got in run(*clients).got[1:]:
        assert got["b"] == pytest.approx(2 * got["a"], rel=0.02)
        assert got["c"] == pytest.approx(got["a"], rel=0.02)
        assert sum(got.values()) > 0.95 * CAP


def test_large_requests_get_no_more_than_small_ones() -> None:
    clients = [Client("small", share_rate(1)), Client("large", share_rate(1) / 20, tokens=20 * TOKENS)]
    for got in run(*clients).got[1:]:
        assert got["large"] == pytest.approx(got["small"], rel=0.1)


def test_priorities_are_strict_but_for_the_floor() -> None:
    clients = [Client("low", share_rate(2), priority=LOW), Client("high", share_rate(2), priority=HIGH)]
    for got in run(*clients).got[1:]:
        assert got["low"] == pytest.approx(FLOOR * CAP, rel=0.3)
        assert got["high"] > 0.9 * CAP


def test_a_high_priority_that_wants_little_leaves_the_rest() -> None:
    clients = [Client("low", share_rate(5), priority=LOW), Client("high", share_rate(0.3), priority=HIGH)]
    result = run(*clients)
    for got, away in zip(result.got[1:], result.away[1:], strict=True):
        assert away["high"] == 0
        assert got["low"] > 0.6 * CAP


def test_who_comes_new_into_a_short_minute_gets_its_part() -> None:
    """As far as the others have not used it by then."""
    result = run(Client("flood", share_rate(9)), Client("late", share_rate(0.4), since=130.0))
    assert result.got[2]["late"] < 0.2 * CAP, "the flood had what nobody was expected to want"
    assert result.away[3]["late"] == 0


def test_who_is_turned_away_no_more_is_divided_no_more() -> None:
    result = run(Client("flood", share_rate(5), until=70.0), Client("a", share_rate(0.5)), minutes=5)
    assert result.shares is None
    assert not result.away[-1]


def test_after_a_pause_nothing_is_known() -> None:
    shares = MinuteShares(60.0)
    shares.missed("a", 1.0, NORMAL)
    shares.charge("b", 1.0, NORMAL, 100.0)
    assert not shares.idle
    assert shares.wait_s("a", 1.0, NORMAL, 10, 900.0, 300.0, 250.0) == 0.0
    assert shares.idle
    assert list(shares.uses) == ["a"]


def test_two_processes_divide_one_minute() -> None:
    """Each tells the other what it has charged and missed; both then keep the same for whoever wants it."""
    here, there = MinuteShares(60.0), MinuteShares(60.0)
    here.missed("a", 1.0, NORMAL)
    there.missed("b", 1.0, NORMAL)
    here.charge("a", 1.0, NORMAL, 300.0)
    there.learn(here.news(), 60.0, 5.0)
    here.learn(there.news(), 60.0, 5.0)
    assert not here.news()
    assert not there.news(), "what was told is not told back"
    for shares in (here, there):
        assert shares.wait_s("a", 1.0, NORMAL, 150, 700.0, 60.0, 6.0) == 0.0
        shares.learn([("a", 1.0, NORMAL, 150.0, False)], 60.0, 6.0)
        assert shares.wait_s("a", 1.0, NORMAL, 150, 550.0, 60.0, 6.0) == 0.0
        shares.learn([("a", 1.0, NORMAL, 150.0, False)], 60.0, 6.0)
        assert shares.wait_s("a", 1.0, NORMAL, 1, 400.0, 60.0, 6.0) == 54.0
    there.charge("b", 1.0, NORMAL, 10.0)
    assert there.news() == [("b", 1.0, NORMAL, 10.0, True)]
    assert here.wait_s("new", 1.0, NORMAL, 1, 400.0, 60.0, 6.0 + LOOK_EVERY_S) == 0.0


def test_a_request_that_is_larger_than_its_keys_part_passes_once_a_minute() -> None:
    clients = [Client("small", share_rate(3)), Client("huge", 0.2, tokens=int(0.7 * CAP))]
    for got in run(*clients).got[1:]:
        assert got["huge"] == int(0.7 * CAP)
        assert got["small"] > 0.28 * CAP
