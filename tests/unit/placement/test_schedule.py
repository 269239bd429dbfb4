"""When which rule holds, by example; the laws are in tests/property."""

import math

from router.placement import Clause, Condition, Exclusive, Schedule, Spread, written

NOW, LATER, SPREAD = Exclusive("azure"), Exclusive("oracle"), Spread(("azure", "oracle"))


def held(schedule: Schedule) -> list[tuple[float, str]]:
    return [(period.since, period.rule.reason) for period in schedule.periods]


def test_a_rule_without_a_window_holds_for_ever() -> None:
    assert held(Schedule.of(Clause(NOW))) == [(-math.inf, "exclusive:azure")]


def test_what_holds_after_a_window_holds_before_it_too() -> None:
    schedule = Schedule.of(Clause(NOW, 10.0, 20.0, None, Clause(LATER)))

    assert held(schedule) == [(-math.inf, "exclusive:oracle"), (10.0, "exclusive:azure"), (20.0, "exclusive:oracle")]
    assert [schedule.at(wall).rule for wall in (9.99, 10.0, 19.99, 20.0)] == [LATER, NOW, NOW, LATER]


def test_a_window_inside_a_window_counts_only_outside_of_the_outer_one() -> None:
    inner = Clause(LATER, 15.0, 30.0, None, Clause(SPREAD))
    schedule = Schedule.of(Clause(NOW, 10.0, 20.0, None, inner))

    assert held(schedule) == [
        (-math.inf, "spread:azure+oracle"),
        (10.0, "exclusive:azure"),
        (20.0, "exclusive:oracle"),
        (30.0, "spread:azure+oracle"),
    ]


def test_a_rule_ends_at_the_declaration_of_its_condition() -> None:
    def until(declared: float) -> list[tuple[float, str]]:
        return held(Schedule.of(Clause(NOW, 10.0, declared, Condition("c", declared), Clause(LATER))))

    assert until(math.inf) == [(-math.inf, "exclusive:oracle"), (10.0, "exclusive:azure")]
    assert until(15.0)[-1] == (15.0, "exclusive:oracle")
    assert until(10.0) == until(5.0) == [(-math.inf, "exclusive:oracle")]  # met before it began


def test_moments_are_written_in_utc() -> None:
    assert written(1_927_670_400.0) == "2031-02-01T00:00:00Z"
    assert written(-math.inf) is written(math.inf) is None
