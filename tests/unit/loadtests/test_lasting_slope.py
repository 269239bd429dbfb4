"""How fast something grows: exact where it grows evenly, and not led astray by some points that are off."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.lasting.slope import POINTS_MIN, theil_sen

NUMBERS = st.floats(-1e3, 1e3)


@given(st.integers(POINTS_MIN, 40), NUMBERS, NUMBERS)
def test_even_growth_is_told_exactly(count: int, slope: float, begin: float) -> None:
    found = theil_sen([(at, begin + slope * at) for at in range(count)])

    assert found.lower == pytest.approx(slope, abs=1e-6)
    assert found.guess == pytest.approx(slope, abs=1e-6)
    assert found.upper == pytest.approx(slope, abs=1e-6)


@given(st.lists(NUMBERS, min_size=POINTS_MIN, max_size=40))
def test_the_bounds_are_on_both_sides_and_turn_with_the_sign(values: list[float]) -> None:
    found = theil_sen(list(enumerate(values)))
    turned = theil_sen([(at, -value) for at, value in enumerate(values)])

    assert found.lower <= found.guess <= found.upper
    assert (turned.lower, turned.guess, turned.upper) == pytest.approx((-found.upper, -found.guess, -found.lower))


@given(st.integers(0, 23), st.floats(10, 1e6))
def test_one_point_that_is_off_moves_nothing(where: int, height: float) -> None:
    points = [(float(at), 2.0 * at) for at in range(24)]
    points[where] = points[where][0], height * 1e3

    assert theil_sen(points).guess == pytest.approx(2.0)


def test_nineteen_of_twenty_intervals_hold_the_truth() -> None:
    rng = random.Random(5)
    held = 0
    for _ in range(400):
        found = theil_sen([(at, 0.3 * at + rng.gauss(0.0, 2.0)) for at in range(24)])
        held += found.lower <= 0.3 <= found.upper

    assert 0.92 <= held / 400 <= 0.985


def test_too_few_points_are_said() -> None:
    with pytest.raises(ValueError, match="7 points: at least 8"):
        theil_sen([(at, 0.0) for at in range(7)])
