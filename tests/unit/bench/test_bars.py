"""Bars are judged by what was measured, and by nothing that was not."""

import pytest

from loadtests.bench.bars import BARS, Bar, Verdict, judged, own
from loadtests.bench.figures import Round, Sample, Spread
from loadtests.bench.modes import MODES
from loadtests.bench.subjects import SUBJECTS


def a_round(router: float, **others: float) -> Round:
    samples = {"router": Sample(router, 1), **{name: Sample(value, 1) for name, value in others.items()}}
    return Round(samples, gauge=8.0, steal=0.0)


def verdict_on(mode: str, rounds: list[Round], what: str = "") -> Verdict:
    return next(v for v in judged({mode: rounds}) if v.bar.mode == mode and what in v.bar.what)


def test_every_bar_is_of_a_mode_that_there_is_with_subjects_that_it_has() -> None:
    modes = {mode.name: mode for mode in MODES}
    for bar in BARS:
        names = SUBJECTS if bar.mode.startswith("peers-") else modes[bar.mode].subjects  # not all are installed here
        more = dict.fromkeys(("broken_streams", "gaps_over_10_paces", "kept_share", "ready_s"), 1.0)
        bar.figure(Round({name: Sample(1.0, 1, more=more) for name in names}, 8.0, 0.0))


@pytest.mark.parametrize(
    ("ratio", "words"), [(1.4, "beyond"), (1.5, "beyond"), (1.6, "met"), (2.2, "met"), (2.3, "not met")]
)
def test_verdicts(ratio: float, words: str) -> None:
    verdict = verdict_on("json-1k", [a_round(20 * ratio, nginx=20.0)])
    assert verdict.words == words


def test_the_median_of_ratios_within_rounds_decides() -> None:
    """In the second round the machine was twice as slow for both."""
    rounds = [a_round(30, nginx=20), a_round(60, nginx=40), a_round(200, nginx=20)]
    assert verdict_on("json-1k", rounds).found == Spread(1.5, 1.5, 10.0)


def test_added_latency_is_less_the_direct_way() -> None:
    assert verdict_on("added-c1", [a_round(0.25, direct=0.125, nginx=0.2)]).found == Spread(0.125, 0.125, 0.125)


def test_one_broken_stream_in_one_round_is_one_too_many() -> None:
    def with_broken(count: float) -> Round:
        return Round({"router": Sample(1.0, 1, more={"broken_streams": count})}, 8.0, 0.0)

    rounds = [with_broken(0), with_broken(1), with_broken(0)]
    assert verdict_on("fidelity", rounds, "broken").words == "not met"
    assert verdict_on("fidelity", rounds[:1], "broken").words == "met"


def test_what_was_not_run_is_not_judged() -> None:
    assert {verdict.words for verdict in judged({})} == {"not measured"}
    assert verdict_on("json-1k", [a_round(1.0)]).words == "not measured"  # without nginx
    assert Verdict(Bar("x", "y", "z", 1.0, own("router")), None).words == "not measured"
