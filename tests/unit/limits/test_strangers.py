"""Wrong credentials by source: how many are heard, and that the table stays small whoever comes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.limits.strangers import Strangers


def heard(strangers: Strangers, address: str, now: float, times: int) -> int:
    return sum(strangers.failed(address, now) == 0.0 for _ in range(times))


def test_a_burst_is_heard_and_then_so_many_a_second() -> None:
    strangers = Strangers(burst=5, per_s=2.0)
    assert heard(strangers, "10.0.0.1", 100.0, 20) == 5
    assert strangers.unheard == 15
    assert strangers.failed("10.0.0.1", 100.0) == pytest.approx(0.5)
    assert heard(strangers, "10.0.0.1", 101.0, 20) == 2


def test_sources_are_bounded_each_by_itself() -> None:
    strangers = Strangers(burst=2, per_s=1.0)
    assert heard(strangers, "10.0.0.1", 0.0, 9) == 2
    assert heard(strangers, "10.0.0.2", 0.0, 9) == 2
    assert strangers.wait_s("10.0.0.1", 0.0) > 0.0
    assert strangers.wait_s("10.0.0.3", 0.0) == 0.0


def test_to_ask_for_the_wait_is_no_failure() -> None:
    strangers = Strangers(burst=2, per_s=1.0)
    strangers.failed("a", 0.0)
    for _ in range(10):
        assert strangers.wait_s("a", 0.0) == 0.0
    assert strangers.failed("a", 0.0) == 0.0
    assert strangers.wait_s("a", 0.0) == pytest.approx(1.0)


def test_a_flood_from_everywhere_takes_no_more_room() -> None:
    strangers = Strangers(burst=1, per_s=1.0, sources_max=100)
    for number in range(5000):
        strangers.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 0.0)
    assert len(strangers) == 100


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 5)), max_size=200))
def test_no_source_is_ever_heard_more_often_than_its_bound(steps: list[tuple[str, float]]) -> None:
    strangers, now, passed = Strangers(burst=3, per_s=1.0), 0.0, dict.fromkeys("abc", 0)
    for source, pause_s in steps:
        now += pause_s
        passed[source] += strangers.failed(source, now) == 0.0
    assert all(count <= 3 + now + 1e-6 for count in passed.values())
