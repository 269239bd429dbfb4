"""Azure's admission as its documents tell it, on a clock that the test turns."""

import pytest

from router.base.clock import SystemClock
from router.emulator import Deployment, Endpoint, Settings
from router.emulator.quota import Quota, estimate
from router.emulator.received import Request
from router.emulator.service import Service


def test_the_estimate_is_a_quarter_of_the_prompt_and_the_whole_allowance() -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "x" * 387}]}

    assert estimate({"messages": [message], "max_tokens": 50}) == (387 + len("user") + len("text")) // 4 + 50
    assert estimate({"prompt": "x" * 400, "max_tokens": 50, "best_of": 3}) == 100 + 150
    assert estimate({"prompt": "x" * 400, "max_tokens": 50, "max_completion_tokens": 7}) == 107
    assert estimate({"prompt": "x" * 400, "max_tokens": None}) == 116


def test_tokens_are_refused_until_the_minute_ends() -> None:
    quota = Quota(tpm=1000, rpm=None)

    assert quota.charge(600, now=70.0).remaining_tokens == 400
    refused = quota.charge(401, now=80.0)
    assert not refused.allowed
    assert refused.rule == "Token"
    assert refused.wait_s == 40.0
    assert refused.remaining_tokens == 400, "what was refused is not used"
    assert quota.charge(400, now=119.9).allowed
    assert not quota.charge(1, now=119.9).allowed
    assert quota.charge(1000, now=120.0).allowed


def test_a_burst_inside_the_minute_is_refused_by_its_second() -> None:
    quota = Quota(tpm=None, rpm=600)

    verdicts = [quota.charge(1, now=10.0 + n / 100) for n in range(11)]

    assert [verdict.allowed for verdict in verdicts] == [True] * 10 + [False]
    assert verdicts[-1].rule == "Call"
    assert 0 < verdicts[-1].wait_s <= 1
    assert quota.charge(1, now=11.0).allowed


def test_the_header_shows_a_slice_of_ten_seconds() -> None:
    """With 120 requests a minute 19 remain after the first."""
    verdict = Quota(tpm=None, rpm=120).charge(1, now=0.0)

    assert (verdict.limit_requests, verdict.remaining_requests) == (120, 19)


def test_refused_requests_count_too() -> None:
    """Whoever spins on a throttled deployment uses up the ten seconds as well."""
    quota = Quota(tpm=None, rpm=60)  # one a second, ten in ten seconds
    for n in range(10):
        quota.charge(1, now=20.0 + n / 100)

    late = quota.charge(1, now=25.0)

    assert not late.allowed
    assert late.wait_s == 5.0
    assert quota.charge(1, now=30.0).allowed


def test_without_limits_everything_passes_and_is_called_unknown() -> None:
    verdict = Quota(tpm=None, rpm=None).charge(10**9, now=5.0)

    assert verdict.allowed
    assert (verdict.limit_tokens, verdict.remaining_tokens, verdict.reset_tokens_s) == (None, -1, 0.0)


def test_a_lowered_limit_holds_until_it_is_raised_again() -> None:
    quota = Quota(tpm=1000, rpm=600)
    assert quota.charge(400, now=60.0).allowed

    quota.lower(0.5)
    assert not quota.charge(200, now=61.0).allowed
    assert quota.charge(100, now=61.0).limit_tokens == 500
    quota.lower(1.0)
    allowed = quota.charge(500, now=62.0)
    assert (allowed.allowed, allowed.limit_requests, allowed.remaining_tokens) == (True, 600, 0)


@pytest.mark.parametrize(
    ("settings", "remaining"),
    [
        (Settings(), "960"),
        (Settings(quota_estimate=1.25), "950"),
        (Settings(quota_headers="untracked"), "-1"),
        (Settings(quota_headers="missing"), None),
    ],
)
def test_the_headers_tell_what_the_settings_let_them(settings: Settings, remaining: str | None) -> None:
    endpoint = Endpoint("azure_openai", (Deployment("gpt-4o", tpm=1000),), settings=settings)
    body = bytearray(b'{"model":"gpt-4o","max_tokens":39,"messages":[]}')
    request = Request("POST", "/openai/v1/chat/completions", [("api-key", "any")], body)

    headers = dict(Service(endpoint, SystemClock()).handle(request).headers)

    assert headers.get("x-ratelimit-remaining-tokens") == remaining
