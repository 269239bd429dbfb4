"""Being told to wait is obeyed, within bounds; nothing shortens a wait that runs."""

from hypothesis import given
from hypothesis import strategies as st

from router.health.cooldown import FAILING_S, NO_WORD_WAIT_S, WAIT_S_MAX, WAIT_S_MIN, Cooldown

waits = st.one_of(st.none(), st.floats(allow_nan=False), st.floats(0, 120))
reasons = st.sampled_from([*NO_WORD_WAIT_S, "broken", "timeout"])


def test_a_wait_ends_when_it_was_said_to() -> None:
    cooldown = Cooldown()
    assert not cooldown.active(100.0)

    assert cooldown.start("throttled", 3.0, 100.0)

    assert cooldown.active(102.999)
    assert not cooldown.active(103.0)
    assert (cooldown.left_s(101.0), cooldown.left_s(200.0)) == (2.0, 0.0)
    assert cooldown.reason == "throttled"


def test_only_the_first_of_a_run_is_news() -> None:
    cooldown = Cooldown()
    assert cooldown.start("throttled", 3.0, 100.0)
    assert not cooldown.start("throttled", 9.0, 101.0)
    assert cooldown.start("throttled", 3.0, 110.0), "the old one was over"


def test_the_reason_is_that_of_the_longest_wait() -> None:
    cooldown = Cooldown()
    cooldown.start("credential", 30.0, 0.0)
    cooldown.start("overloaded", 1.0, 1.0)
    assert (cooldown.reason, cooldown.until) == ("credential", 30.0)
    cooldown.start("throttled", 50.0, 2.0)
    assert (cooldown.reason, cooldown.until) == ("throttled", 52.0)


def test_without_a_word_the_reason_decides() -> None:
    for reason, wait_s in NO_WORD_WAIT_S.items():
        cooldown = Cooldown()
        cooldown.start(reason, None, 0.0)
        assert cooldown.until == wait_s
    failing = Cooldown()
    failing.start("timeout", None, 0.0)
    assert failing.until == FAILING_S


@given(st.lists(st.tuples(reasons, waits, st.floats(0, 10)), max_size=20))
def test_the_end_never_comes_nearer_and_is_never_far(starts: list[tuple[str, float | None, float]]) -> None:
    cooldown, now = Cooldown(), 1000.0
    for reason, wait_s, later in starts:
        now += later
        before = cooldown.until
        cooldown.start(reason, wait_s, now)
        assert cooldown.until >= before
        assert now + WAIT_S_MIN <= cooldown.until <= max(before, now + WAIT_S_MAX)
