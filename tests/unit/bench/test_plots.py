"""Pictures are well-formed, tell what was measured, and leave out what was not."""

import math
from xml.etree import ElementTree as Xml

import pytest

from loadtests.bench.figures import Round, Sample
from loadtests.bench.modes import MODES
from loadtests.bench.plots import drawn, medians
from loadtests.bench.rounds import Result
from loadtests.plots import bars, curves

SVG = "{http://www.w3.org/2000/svg}"


def result(name: str, *rounds: dict[str, Sample]) -> Result:
    mode = next(mode for mode in MODES if mode.name == name)
    return Result(mode, list(rounds[0]), wanted=1, rounds=[Round(samples, 8.0, 0.0) for samples in rounds])


def words(picture: str) -> list[str]:
    return [element.text or "" for element in Xml.fromstring(picture).iter(f"{SVG}text")]


def test_a_run_gives_the_pictures_of_its_modes() -> None:
    cpu = result("json-1k", {"nginx": Sample(20.0, 1), "naive": Sample(170.0, 1), "router": Sample(30.0, 1)})
    ways = {
        "direct": Sample(9.0, 1, curve=((1000.0, 0.2), (9000.0, 80.0))),
        "nginx": Sample(8.0, 1, curve=((1000.0, 0.4), (8000.0, 120.0))),
        "router": Sample(7.0, 1, curve=((1000.0, 0.5), (7000.0, 90.0))),
    }
    pictures = drawn([cpu, result("frontier", ways), result("startup", {"nginx": Sample(0.1, 1)})])

    assert set(pictures) == {"cpu", "frontier"}
    assert {"30 (1.50 × nginx)", "json-1k, CPU µs a request", "naive"} <= set(words(pictures["cpu"]))
    assert {"p99, ms", "direct", "5", "50"} <= set(words(pictures["frontier"]))
    assert len(list(Xml.fromstring(pictures["frontier"]).iter(f"{SVG}polyline"))) == 3


def test_void_rounds_are_not_drawn() -> None:
    void = result("json-1k", {"nginx": Sample(20.0, 1), "router": Sample(30.0, 1)})
    void.rounds[0] = Round(void.rounds[0].samples, gauge=20.0, steal=0.0)
    assert drawn([void]) == {}


def test_a_curve_goes_through_the_medians_of_the_rounds() -> None:
    rounds = [{"router": Sample(1.0, 1, curve=((0.5, value), (0.99, 10 * value)))} for value in (1.0, 9.0, 2.0)]
    assert medians(result("added-c1", *rounds))["router"] == [(0.5, 2.0), (0.99, 20.0)]


def test_bars_are_as_long_as_their_values_say() -> None:
    picture = bars.drawn("title", [bars.Group("g", "µs", {"nginx": 10.0, "router": 20.0, "naive": 0.0}, {})])
    widths = [float(bar.get("width") or 0) for bar in Xml.fromstring(picture).iter(f"{SVG}rect")]
    assert widths[1] == pytest.approx(2 * widths[0])
    assert widths[2] == 1.0


@pytest.mark.parametrize("points", [[], [(1.0, 0.0)], [(1.0, math.inf)], [(1.0, 5.0)]])
def test_curves_that_have_next_to_nothing_are_drawn(points: list[tuple[float, float]]) -> None:
    Xml.fromstring(curves.drawn("a < b", "ms", curves.linear("x", 1.0), {"router": points}))


def test_percentiles_stand_by_their_nines() -> None:
    place = curves.nines("p").place
    assert place(0.5) == 0.0
    assert place(1.0) == 1.0
    assert place(0.999) - place(0.99) == pytest.approx(place(0.99) - place(0.9))


@pytest.mark.parametrize("highest", [0.7, 1.0, 9.9, 26_000.0, 45_120.0])
def test_a_linear_axis_has_a_handful_of_round_marks(highest: float) -> None:
    marks = [at for at, _ in curves.linear("x", highest).marks]
    assert 4 <= len(marks) <= 12
    assert marks[0] == 0
    assert marks[-1] <= highest
