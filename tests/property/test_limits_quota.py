"""Laws of the quota twin, whatever it is told and in whatever order."""

from hypothesis import given, settings
from hypothesis import strategies as st

from router.limits.drift import FACTOR_MAX, FACTOR_MIN
from router.limits.quota_twin import QuotaTwin
from router.limits.request_slices import PROBE_EVERY_S
from router.limits.token_minute import MARGIN_MAX, SHARE_MAX

TPM, RPM = 60_000, 600
LONGEST_S = 121.0  # a minute's end is believed up to a minute and a rounding away, and then it may be moved once

figures = st.one_of(st.integers(-1, 200_000).map(lambda value: b"%d" % value), st.binary(max_size=4))
names = st.sampled_from(
    [
        b"x-ratelimit-limit-tokens",
        b"x-ratelimit-remaining-tokens",
        b"x-ratelimit-reset-tokens",
        b"x-rate-limit-reset-tokens",
        b"x-ratelimit-limit-requests",
        b"x-ratelimit-remaining-requests",
        b"x-ratelimit-reset-requests",
    ]
)
resets = st.integers(0, 70).map(lambda value: b"%d" % value)
headers = st.dictionaries(names, st.one_of(figures, resets), max_size=7)
waits = st.one_of(st.none(), st.floats(0, 90), st.sampled_from([-1.0, 86_400.0, float("inf"), float("nan")]))
events = st.one_of(
    st.tuples(st.just("charge"), st.integers(0, 20_000)),
    st.tuples(st.just("answered"), headers),
    st.tuples(st.just("answered 429"), headers),
    st.tuples(st.just("refused"), waits),
)
steps = st.lists(st.tuples(st.floats(0, 40), events), max_size=60)


def play(twin: QuotaTwin, event: tuple[str, object], now: float) -> None:
    match event:
        case ("charge", int(tokens)):
            twin.charge(tokens, now)
        case ("answered", dict(told)):
            twin.answered(told, 200, now)
        case ("answered 429", dict(told)):
            twin.answered(told, 429, now)
        case ("refused", float() | None as wait_s):
            twin.refused(wait_s, now)


@given(steps, st.integers(1, 5000))
def test_waits_are_true_waits_and_what_is_learned_is_bounded(
    played: list[tuple[float, tuple[str, object]]], tokens: int
) -> None:
    twin, now = QuotaTwin(TPM, RPM, 1000.0), 1000.0
    for later, event in played:
        now += later
        play(twin, event, now)
        wait_s = twin.wait_s(tokens, now)
        assert 0.0 <= wait_s <= LONGEST_S
        assert FACTOR_MIN <= twin.factor <= FACTOR_MAX
        assert twin.drain >= 0.0
        assert 0.0 < twin.share <= SHARE_MAX
        assert 0 < (twin.limit_tokens or 0) <= TPM
        assert 0.0 <= twin.tokens_left(now) <= TPM * SHARE_MAX
        assert 0 <= twin.requests_left(now) <= RPM


@given(steps, st.integers(1, 5000))
def test_what_passes_fits_into_what_is_left(played: list[tuple[float, tuple[str, object]]], tokens: int) -> None:
    twin, now = QuotaTwin(TPM, None, 1000.0), 1000.0
    for later, event in played:
        now += later
        play(twin, event, now)
        fits = tokens * twin.factor <= twin.tokens_left(now)
        empty = twin.tokens_left(now) >= (twin.limit_tokens or 0) * twin.share * (1 - MARGIN_MAX)
        if twin.wait_s(tokens, now) == 0.0:
            assert fits or empty
        else:
            assert not fits


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(0, 4000)), max_size=300))
def test_a_budget_is_never_exceeded(offered: list[tuple[float, int]]) -> None:
    """Who asks first never charges more than the quota in a minute of the twin's, whatever comes."""
    twin, now, used = QuotaTwin(TPM, None, 0.0), 0.0, {0: 0}
    for later, tokens in offered:
        now += later
        if twin.wait_s(tokens, now) == 0.0:
            twin.charge(tokens, now)
            minute = int(now // 60)
            used[minute] = used.get(minute, 0) + tokens
    assert all(tokens <= TPM for tokens in used.values())


@given(st.lists(st.floats(0, 0.3), max_size=300))
def test_no_slice_of_ten_seconds_is_exceeded_and_none_of_one_but_by_a_probe(gaps: list[float]) -> None:
    twin, now, sent = QuotaTwin(None, RPM, 0.0), 0.0, list[float]()
    for gap in gaps:
        now += gap
        if twin.wait_s(1, now) == 0.0:
            twin.charge(1, now)
            sent.append(now)
    ten, second = RPM // 6, RPM // 60
    assert all(after - before > 10.0 for before, after in zip(sent, sent[ten:], strict=False))
    crowded = [after for before, after in zip(sent, sent[second:], strict=False) if after - before <= 1.0]
    assert all(at >= PROBE_EVERY_S for at in crowded)
    if now < 4 * PROBE_EVERY_S:
        assert len(crowded) <= second * now / PROBE_EVERY_S + 1


@settings(max_examples=40, deadline=None)
@given(steps, st.floats(0, 60))
def test_two_minutes_of_plain_headers_undo_every_distortion(
    played: list[tuple[float, tuple[str, object]]], phase_s: float
) -> None:
    """Whatever was believed: once their figures are plain, and nobody else is there, it is gone."""
    twin, now = QuotaTwin(TPM, None, 1000.0), 1000.0
    for later, event in played:
        now += later
        play(twin, event, now)
    used, minute, begun, left_s = 0, -1, now, 0.0
    # Two whole minutes of theirs, wherever in one it begins, and a little of the next.
    while now < begun + 181.0 or left_s > 55.0:
        now += 0.5
        current = int((now + phase_s) // 60)
        used, minute = (0 if current != minute else used) + 200, current
        twin.charge(200, now)
        left_s = 60.0 - (now + phase_s) % 60.0
        told = {
            b"x-ratelimit-limit-tokens": b"%d" % TPM,
            b"x-ratelimit-remaining-tokens": b"%d" % (TPM - used),
            b"x-ratelimit-reset-tokens": b"%d" % -(-left_s // 1),
        }
        twin.answered(told, 200, now + 0.01)
    assert twin.limit_tokens == TPM
    assert twin.share == 1.0
    # Either names the same rate: 400 tokens a second are ours, and all there are.
    assert abs(400 * twin.factor + twin.drain - 400) < 40
    assert abs(twin.tokens_left(now) - (TPM - used)) < 0.15 * TPM
