"""The twin before a simulated Azure that it was not made from: hardly a 429, and hardly a token left unused."""

import math
from dataclasses import dataclass, replace
from typing import Final

import pytest

from router.limits.quota_twin import LOOK_EVERY_S, QuotaTwin
from tests.unit.limits.simulated_azure import Headers, Reality, compare

UNLIMITED: Final = 10_000_000
WAVES: Final = Reality(
    bias=1.2, spread=(0.8, 1.2), first_byte_s=2.0, unseen=lambda now: 1000.0 + 600.0 * math.sin(now / 20.0)
)


def lowered(now: float) -> float:
    return 0.6 if 250.0 < now < 500.0 else 1.0


@dataclass(frozen=True)
class Case:
    """`refused`: at most so much of the 429s without a twin; `used`: at least so much of their tokens."""

    name: str
    reality: Reality
    per_s: float = 12.5  # 6,000 tokens a second by our estimate; the quota has 5,000
    refused: float = 0.2
    used: float = 0.94


CASES: Final = (
    Case("as documented", Reality()),
    Case("each estimate off by a quarter", Reality(spread=(0.75, 1.25))),
    Case("they count a quarter more", Reality(bias=1.25)),
    Case("they count a quarter less", Reality(bias=0.75, tpm=220_000)),
    Case("somebody else is there", Reality(unseen=lambda _: 1500.0)),
    Case("somebody else comes and goes", Reality(unseen=lambda now: 2000.0 if now // 90 % 2 else 0.0)),
    Case("the limit is lowered for a while", Reality(limit=lowered)),
    Case("seconds are rounded down, answers slow", Reality(whole=math.floor, first_byte_s=4.0, made="answer")),
    Case("figures four seconds old", Reality(first_byte_s=4.0)),
    Case("nothing but what is left", Reality(headers="left_only")),
    Case("no headers", Reality(headers="missing")),
    Case("headers that say -1", Reality(headers="untracked")),
    Case("no headers, a quarter more", Reality(headers="missing", bias=1.25)),
    Case("no headers, somebody else", Reality(headers="missing", unseen=lambda _: 1500.0)),
    # It cannot know that the limit is back, and tries a little more each minute.
    Case("no headers, lowered", Reality(headers="missing", limit=lowered), refused=0.25, used=0.8),
    Case("everything at once", replace(WAVES, whole=math.floor, made="answer")),
    # Our seconds slide where theirs stand still: less passes than could, since nobody says when theirs begin.
    Case("requests, in both slices", Reality(tpm=UNLIMITED, rpm=600, wait="ms"), used=0.9),
    Case("requests, in seconds", Reality(tpm=UNLIMITED, rpm=600, slices_s=(1,), wait="ms"), used=0.86),
    Case("requests, in tens", Reality(tpm=UNLIMITED, rpm=600, slices_s=(10,))),
    Case("many requests", Reality(tpm=UNLIMITED, rpm=1800, wait="ms"), per_s=37.5),
    Case("requests lowered, no headers", Reality(tpm=UNLIMITED, rpm=600, headers="missing", limit=lowered)),
    Case("tokens and requests", Reality(rpm=600)),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_fifth_of_the_refusals_and_most_of_the_quota(case: Case) -> None:
    without, twin = compare(case.reality, case.per_s)

    assert without.refused >= 10, "a case that is worth a twin"
    assert twin.refused <= case.refused * without.refused, (twin, without.refused)
    assert twin.tokens >= case.used * without.tokens
    assert twin.avoided + twin.sent + twin.parked == twin.offered


def test_where_the_quota_is_enough_nothing_is_kept_away() -> None:
    without, twin = compare(Reality(tpm=600_000, rpm=1800), 12.5)
    assert (without.refused, twin.refused, twin.avoided) == (0, 0, 0)


def shown(left: int, reset_s: int, *, limit: int = 60_000, requests: int = 100) -> Headers:
    return {
        b"x-ratelimit-limit-tokens": b"%d" % limit,
        b"x-ratelimit-remaining-tokens": b"%d" % left,
        b"x-ratelimit-reset-tokens": b"%d" % reset_s,
        b"x-ratelimit-limit-requests": b"600",
        b"x-ratelimit-remaining-requests": b"%d" % requests,
        b"x-ratelimit-reset-requests": b"4",
    }


def test_the_window_fills_and_empties() -> None:
    twin = QuotaTwin(60_000, None, 0.0)
    for at in range(58):
        assert twin.wait_s(1000, float(at)) == 0.0
        twin.charge(1000, float(at))
    assert twin.wait_s(1000, 58.0) == 2.0, "to the end of the minute, as far as it is known"
    assert twin.wait_s(1000, 60.0) == 0.0


def test_what_is_left_is_believed_at_once_when_it_is_less() -> None:
    twin = QuotaTwin(60_000, None, 0.0)
    twin.charge(1000, 0.0)
    twin.answered(shown(2000, 40), 200, 1.0)
    assert twin.wait_s(3000, 1.0) == pytest.approx(41.0), "their minute's end, and a second for the rounding"
    assert twin.wait_s(100, 1.0) == 0.0
    assert twin.wait_s(3000, 42.0) == 0.0


def test_one_answer_of_a_moment_speaks_for_all() -> None:
    twin = QuotaTwin(60_000, None, 0.0)
    twin.answered(shown(50_000, 40), 200, 1.0)
    before = twin.tokens_left(1.0)
    twin.answered(shown(10, 40), 200, 1.0 + LOOK_EVERY_S / 2)
    assert twin.tokens_left(1.0) == before
    twin.answered(shown(10, 40), 200, 1.0 + LOOK_EVERY_S)
    assert twin.tokens_left(1.1) < 1000


def test_headers_that_track_nothing_change_nothing() -> None:
    for value in (b"-1", b"0", b"", b"many", b"9" * 40):
        twin = QuotaTwin(60_000, 600, 0.0)
        twin.charge(1000, 0.0)
        twin.answered(dict.fromkeys(shown(0, 0), value), 200, 1.0)
        assert (twin.limit_tokens, twin.share, twin.factor, twin.drain) == (60_000, 1.0, 1.0, 0.0)
        assert twin.wait_s(1000, 1.0) == 0.0


def test_a_lower_limit_is_in_force_and_a_higher_one_is_not_ours() -> None:
    twin = QuotaTwin(60_000, None, 0.0)
    twin.answered(shown(35_000, 40, limit=36_000), 200, 1.0)
    assert twin.limit_tokens == 36_000
    assert 33_000 < twin.tokens_left(1.0) < 36_000
    twin.answered(shown(95_000, 39, limit=100_000), 200, 2.0)
    assert twin.limit_tokens == 60_000
    assert twin.tokens_left(2.0) < 60_000 - 5000 + 1000


def test_a_refusal_fills_the_minute_and_says_when_it_ends() -> None:
    twin = QuotaTwin(60_000, None, 0.0)
    twin.charge(1000, 0.0)
    twin.refused(7.0, 1.0)
    assert twin.tokens_left(1.0) == 0.0
    assert twin.wait_s(1, 1.0) == 7.0
    assert twin.share < 1.0, "nothing but somebody else or a smaller quota explains it"
    assert twin.wait_s(1, 8.0) == 0.0


def test_a_wait_of_a_day_is_no_minutes_end() -> None:
    twin = QuotaTwin(60_000, None, 0.0)
    twin.charge(1000, 0.0)
    twin.refused(86_400.0, 1.0)
    assert twin.wait_s(1, 1.0) == 59.0


def test_a_refusal_for_requests_leaves_the_tokens_alone() -> None:
    twin = QuotaTwin(60_000, 600, 0.0)
    for i in range(9):
        twin.charge(10, i / 100)
    twin.refused(0.9, 0.1)
    assert 0.0 < twin.wait_s(10, 0.1) <= 1.01
    assert twin.wait_s(10, 1.2) == 0.0
    assert twin.tokens_left(0.1) > 58_000


def test_no_more_than_a_slice_in_any_second() -> None:
    twin = QuotaTwin(None, 600, 0.0)
    sent = []
    for i in range(400):
        now = i / 100
        if twin.wait_s(1, now) == 0.0:
            twin.charge(1, now)
            sent.append(now)
    assert len(sent) >= 39
    assert all(later - earlier > 1.0 for earlier, later in zip(sent, sent[10:], strict=False))
    assert twin.requests_left(4.0) == 100 - len(sent)


def test_an_empty_slice_of_ten_seconds_is_waited_for() -> None:
    twin = QuotaTwin(None, 600, 0.0)
    twin.answered(shown(1000, 40, requests=0), 200, 1.0)
    assert twin.wait_s(1, 1.0) == 4.0


def test_without_limits_nothing_is_predicted() -> None:
    twin = QuotaTwin(None, None, 0.0)
    twin.charge(10**9, 0.0)
    twin.answered(shown(0, 1), 200, 0.0)
    twin.refused(5.0, 0.0)
    assert twin.wait_s(10**9, 0.0) == 0.0
    assert (twin.tokens_left(0.0), twin.requests_left(0.0), twin.limit_tokens) == (math.inf, math.inf, None)


def test_more_than_a_minutes_tokens_are_offered_to_an_empty_minute() -> None:
    twin = QuotaTwin(60_000, None, 0.0)
    assert twin.wait_s(100_000, 1.0) == 0.0, "nobody else can say whether it passes"
    twin.charge(1, 1.0)
    assert twin.wait_s(100_000, 1.0) > 0.0
