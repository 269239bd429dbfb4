"""The ring of sends: small where a quota is never reached, and none the wiser for it."""

from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from router.limits import request_slices
from router.limits.request_slices import SLOTS_AT_FIRST, RequestSlices

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["sent", "sent", "elsewhere", "refused", "limit"]),
        st.floats(0.0, 3.0),
        st.integers(1, 40),
    ),
    max_size=80,
)


def test_a_quota_that_is_never_reached_costs_no_memory() -> None:
    """Sixty million a minute would be ten million places."""
    slices = RequestSlices(60_000_000, 0.0)
    for step in range(100_000):
        slices.sent(step * 0.1)
    assert len(slices._ring) == SLOTS_AT_FIRST


def test_a_ring_grows_to_what_ten_seconds_hold_and_no_further() -> None:
    slices = RequestSlices(60_000, 0.0)
    for step in range(30_000):
        slices.sent(step * 1e-4)
    assert len(slices._ring) == 10_000
    assert slices.wait_s(3.0) > 0.0
    assert slices.left(3.0) == 0


@given(STEPS)
def test_a_ring_that_grows_decides_as_one_of_full_size(steps: list[tuple[str, float, int]]) -> None:
    with patch.object(request_slices, "SLOTS_AT_FIRST", 1 << 20):
        full = RequestSlices(600, 0.0)
    with patch.object(request_slices, "SLOTS_AT_FIRST", 2):
        growing = RequestSlices(600, 0.0)
    assert len(growing._ring) < len(full._ring)
    now = 0.0
    for verb, pause_s, count in steps:
        now += pause_s
        for slices in (full, growing):
            if verb == "sent":
                for _ in range(count):
                    slices.sent(now)
            elif verb == "elsewhere":
                slices.sent_elsewhere(count, now)
            elif verb == "refused":
                slices.refused(pause_s, now)
            else:
                slices.limit(count * 20)
        for later in (now, now + 0.5, now + 5.0):
            assert growing.wait_s(later) == full.wait_s(later)
            assert growing.left(later) == full.left(later)
            assert growing.filled(later) == full.filled(later)
