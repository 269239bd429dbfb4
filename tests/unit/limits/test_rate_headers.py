"""Figures and resets as Azure and OpenAI write them, and whatever else may stand there."""

import pytest

from router.limits.rate_headers import figure, latest_reset_s


@pytest.mark.parametrize(
    ("value", "expected"),
    [(b"0", 0), (b"1800", 1800), (b"-1", None), (b"", None), (b"1.5", None), (b"1e9", None), (b"9" * 16, None)],
)
def test_a_figure_is_a_whole_number(value: bytes, expected: int | None) -> None:
    assert figure({b"x": value}, b"x") == expected


def test_a_missing_header_says_nothing() -> None:
    assert figure({}, b"x") is None
    assert latest_reset_s({}, b"x") is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"26", 27.0),  # whole seconds, rounded one way or the other
        (b"0", None),
        (b"-1", None),
        (b"120ms", 0.12),
        (b"1s", 1.0),
        (b"6m0s", 360.0),
        (b"1h2m3.5s", 3723.5),
        (b"0s", None),
        (b"soon", None),
        (b"", None),
        (b"9" * 16, None),
    ],
)
def test_a_reset_is_bare_seconds_or_a_duration(value: bytes, expected: float | None) -> None:
    assert latest_reset_s({b"x": value}, b"x") == expected
