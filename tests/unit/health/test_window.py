"""A rate is of the last ten to twenty seconds."""

from router.health.window import WINDOW_S, Window


def test_what_is_old_no_longer_counts() -> None:
    window = Window()
    window.clear(0.0)
    window.bad = 10
    window.roll(WINDOW_S)
    window.ok = 30
    assert (window.requests, window.rate) == (40, 0.75)
    window.roll(2 * WINDOW_S - 0.01)
    assert window.requests == 40
    window.roll(2 * WINDOW_S)
    assert (window.requests, window.rate) == (30, 1.0)
    window.roll(5 * WINDOW_S)
    assert (window.requests, window.rate) == (0, 1.0), "nothing is no failure"
