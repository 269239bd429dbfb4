"""Who is taken for hung: silence counts only while the supervisor itself could hear."""

from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.supervisor.watch import LOOK_EVERY_S, STEP_S_MAX, Watch

BOUND_S = 10.0


@dataclass
class Line:
    heard_at: float = 0.0


@dataclass
class Place:
    """A slot, as far as it is watched."""

    index: int = 0
    up: bool = True
    pid: int | None = 1
    channel: Line = field(default_factory=Line)


def looks(watch: Watch, places: list[Place], moments: list[float]) -> list[int]:
    found = (watch.look(cast(Any, places), lambda _: BOUND_S, now) for now in moments)
    return [place.index for each in found for place in each]


def rounds(since: float, until: float) -> list[float]:
    return [since + LOOK_EVERY_S * step for step in range(round((until - since) / LOOK_EVERY_S))]


def test_who_says_nothing_for_too_long_is_found_once() -> None:
    quiet, alive = Place(0), Place(1)
    watch = Watch(0.0)
    found = []
    for now in rounds(0.0, 15.0):
        alive.channel.heard_at = now
        found += [(now, index) for index in looks(watch, [quiet, alive], [now])]
    assert [index for _, index in found] == [0]
    assert found[0][0] == pytest.approx(BOUND_S, abs=2 * LOOK_EVERY_S)


def test_who_starts_has_its_time_whatever_it_says_and_who_takes_its_place_begins_anew() -> None:
    place = Place(up=False)
    watch = Watch(0.0)
    for now in rounds(0.0, 8.0):
        place.channel.heard_at = now
        assert not looks(watch, [place], [now])
    assert looks(watch, [place], rounds(8.0, 11.0)) == [0]
    place.channel = Line()
    assert not looks(watch, [place], rounds(11.0, 20.0))


def test_a_place_without_a_process_is_nobody() -> None:
    assert not looks(Watch(0.0), [Place(pid=None)], rounds(0.0, 60.0))


@given(st.lists(st.floats(0.0, 86_400.0), min_size=1, max_size=5))
def test_no_length_of_a_standstill_of_the_machine_ends_anybody(standstills: list[float]) -> None:
    """It hears each a moment after it goes on: its timer may come first."""
    place, watch, now = Place(), Watch(0.0), 0.0
    for standstill_s in standstills:
        now += standstill_s
        assert not looks(watch, [place], [now])
        now += LOOK_EVERY_S
        place.channel.heard_at = now
        assert not looks(watch, [place], [now])


@given(st.floats(0.0, BOUND_S - 2 * STEP_S_MAX), st.floats(0.0, 1e6))
def test_what_was_heard_before_a_standstill_counts_after_it(before_s: float, standstill_s: float) -> None:
    place, watch = Place(), Watch(0.0)
    assert not looks(watch, [place], [*rounds(0.0, before_s), before_s + standstill_s])
    rest = rounds(before_s + standstill_s, before_s + standstill_s + BOUND_S - before_s + 1.0)
    assert looks(watch, [place], rest) == [0]
