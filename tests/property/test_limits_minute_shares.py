"""The law of max-min fairness: nobody gets more of a short minute but at the cost of one who has less of it."""

from hypothesis import given
from hypothesis import strategies as st

from router.limits.minute_shares import FLOOR, HEADROOM, MinuteShares
from router.model.policy import Priority

NORMAL = Priority.NORMAL
keys = st.lists(
    st.tuples(st.floats(0.1, 10.0), st.integers(0, 2000), st.booleans(), st.sampled_from(list(Priority))),
    min_size=1,
    max_size=12,
)


def divided(crowd: list[tuple[float, int, bool, Priority]], tokens: float) -> MinuteShares:
    """At the begin of a minute of so many tokens, after one in which each used something or was turned away."""
    shares = MinuteShares(0.0)
    shares.missed("probe", 1.0, Priority.LOW)
    for name, (weight, used, missed, priority) in enumerate(crowd):
        shares.charge(f"{name}", weight, priority, used)
        if missed:
            shares.missed(f"{name}", weight, priority)
    shares.wait_s("probe", 1.0, Priority.LOW, 0.0, tokens, 60.0, 0.0)
    return shares


@given(keys, st.floats(10.0, 10_000.0))
def test_parts_are_max_min_fair_in_each_priority(crowd: list[tuple[float, int, bool, Priority]], tokens: float) -> None:
    uses = divided(crowd, tokens).uses
    for priority in Priority:
        mine = [use for use in uses.values() if use.priority == priority]
        for use in mine:
            assert use.part <= use.wanted * (1 + 1e-9)
            if use.part < use.wanted * (1 - 1e-9):  # it wants more: nobody beside it has more, by weight
                assert all(other.part / other.weight <= use.part / use.weight * (1 + 1e-6) for other in mine)


@given(keys, st.floats(10.0, 10_000.0))
def test_no_more_is_given_than_there_is_and_nothing_is_held_back(
    crowd: list[tuple[float, int, bool, Priority]], tokens: float
) -> None:
    uses = divided(crowd, tokens).uses.values()
    given_ = sum(use.part for use in uses)
    wanted = sum(use.wanted for use in uses)
    assert given_ <= tokens * (1 + 1e-9)
    assert given_ >= min(wanted, tokens) * (1 - 1e-6)


@given(keys, st.floats(10.0, 10_000.0))
def test_a_lower_priority_keeps_its_floor_and_no_more(
    crowd: list[tuple[float, int, bool, Priority]], tokens: float
) -> None:
    uses = divided(crowd, tokens).uses.values()
    by = {priority: [use for use in uses if use.priority == priority] for priority in Priority}
    for priority in Priority:
        wanted, part = sum(use.wanted for use in by[priority]), sum(use.part for use in by[priority])
        assert part >= min(wanted, FLOOR * tokens) * (1 - 1e-6)
        higher_short = any(
            use.part < use.wanted * (1 - 1e-9) for other in Priority if other > priority for use in by[other]
        )
        if higher_short:
            assert part <= FLOOR * tokens * (1 + 1e-6)


@given(st.floats(0.1, 10.0), st.integers(1, 500), st.integers(0, 59), st.integers(1, 2000))
def test_what_a_content_key_is_expected_to_want_is_kept_for_it(
    weight: float, used: int, second: int, tokens: int
) -> None:
    """A flood gets no more than leaves the others what they used in the last minute, for the rest of this one."""
    shares = divided([(weight, used, False, NORMAL), (1.0, 100, True, NORMAL)], 2000.0)
    shares.charge("1", 1.0, NORMAL, 1e6)  # far beyond its part
    now = float(second)
    wait_s = shares.wait_s("1", 1.0, NORMAL, tokens, 2000.0, 60.0, now)
    kept = min(shares.uses["0"].part, used * HEADROOM) * (60.0 - now) / 60.0
    if wait_s == 0.0:
        assert 2000.0 - tokens >= kept - 1e-6
