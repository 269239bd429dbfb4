"""The simulation's claims on small fleets, and that it can tell a good balancer from a bad one."""

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean

import pytest

from loadtests.plots.lines import Panel, drawn
from loadtests.simulate import Setup, event_of, main, simulate, story
from loadtests.simulation.cloud import MINUTE_S, Cloud, Event, Job, Timeline
from loadtests.simulation.contenders import CONTENDERS, RoundRobin
from loadtests.simulation.figures import Figures, figures
from loadtests.simulation.gateway import Books
from loadtests.simulation.trace import Sample, read
from router.balancing.choice import C
from router.model.work import Work
from tests.unit.balancing.fleet import Ask, Place, fleet

SMALL = Setup(routers=4, deployments=12, seconds=20, slots=16, load=0.75, quota=0.0)

# Twenty routers that each see a twentieth, and have more deployments than requests in flight.
STALE = Setup(routers=20, deployments=50, seconds=20, slots=8, load=0.7, quota=0.0, sweep_s=1.0)


def mean_over_seeds(setup: Setup, contender: str, figure: str, seeds: Sequence[int] = (1, 2, 3)) -> float:
    return fmean(getattr(simulate(replace(setup, seed=seed), contender), figure) for seed in seeds)


class TestTheClaims:
    def test_the_same_seed_gives_the_same_figures(self) -> None:
        setup = replace(SMALL, seconds=8, quota=0.9, events=story(8, 12))
        assert asdict(simulate(setup, "ours")) == asdict(simulate(setup, "ours"))
        assert asdict(simulate(setup, "ours")) != asdict(simulate(replace(setup, seed=2), "ours"))

    def test_every_balancer_gets_the_same_requests(self) -> None:
        assert len({simulate(replace(SMALL, seconds=5), name).requests for name in CONTENDERS}) == 1

    def test_where_views_are_stale_first_bytes_come_sooner_than_by_the_others(self) -> None:
        ours = mean_over_seeds(STALE, "ours", "first_byte_p99_s")
        assert ours < 0.85 * mean_over_seeds(STALE, "random", "first_byte_p99_s")
        assert ours < 0.9 * mean_over_seeds(STALE, "least in flight", "first_byte_p99_s")

    def test_round_robin_is_as_good_only_while_nothing_happens(self) -> None:
        events = (Event("slow", 0, 8.0, 40.0), Event("slow", 1, 8.0, 40.0))
        slow = replace(SMALL, seconds=40, load=0.5, judge=False, events=events)
        ours = mean_over_seeds(slow, "ours", "first_byte_p95_s")
        for other in ("round robin", "least in flight", "random"):
            assert ours < 0.85 * mean_over_seeds(slow, other, "first_byte_p95_s")

    def test_many_routers_with_stale_views_are_no_herd_and_do_not_swing(self) -> None:
        ours = simulate(STALE, "ours")
        assert ours.peak_in_flight < simulate(STALE, "random").peak_in_flight
        assert ours.dispersion < 1.1
        assert max(map(abs, ours.autocorrelation)) < 0.2

    def test_a_slow_region_of_three_loses_its_share_and_gets_it_back(self) -> None:
        setup = Setup(
            routers=1, deployments=3, seconds=70, slots=16, load=0.45, quota=0.0, alike=True,
            events=(Event("slow", 0, 20.0, 40.0),),
        )  # fmt: skip
        shares = [simulate(replace(setup, seed=seed), "ours").shares["0"] for seed in (1, 2, 3)]
        assert fmean(fmean(each[25:40]) for each in shares) / 3 < 0.05
        assert fmean(fmean(each[60:]) for each in shares) > 0.7

    def test_balancing_alone_leaves_a_slow_region(self) -> None:
        setup = Setup(
            routers=1, deployments=3, seconds=45, slots=16, load=0.45, quota=0.0, alike=True, judge=False,
            events=(Event("slow", 0, 20.0, 45.0),),
        )  # fmt: skip
        shares = {name: simulate(setup, name).shares["0"] for name in ("ours", "round robin")}
        assert fmean(shares["ours"][25:]) / 3 < 0.08
        assert fmean(shares["round robin"][25:]) / 3 > 0.3

    def test_a_dead_one_gets_probes_only_and_nobody_is_unserved(self) -> None:
        setup = Setup(
            routers=1, deployments=4, seconds=60, slots=16, load=0.5, quota=0.0, alike=True,
            events=(Event("die", 0, 20.0, 35.0),),
        )  # fmt: skip
        found = [simulate(replace(setup, seed=seed), "ours") for seed in (1, 2, 3)]
        assert sum(each.unserved for each in found) == 0
        assert sum(each.cut for each in found) > 0  # streams that had begun are broken: nothing else is true
        assert fmean(fmean(each.shares["0"][22:35]) for each in found) < 0.2
        assert fmean(fmean(each.shares["0"][50:]) for each in found) > 0.6


class Herd:
    """Everybody to the first: what the figures must be able to see."""

    def __init__(self, rng: random.Random) -> None:
        pass

    def pick(self, candidates: Sequence[C], work: Work, now: float) -> C:
        return candidates[int(now / 3) % 2]


class TestTheFigures:
    def herd(self, monkeypatch: pytest.MonkeyPatch) -> Figures:
        monkeypatch.setitem(CONTENDERS, "herd", Herd)
        return simulate(replace(SMALL, seconds=30, load=0.3), "herd")

    def test_a_herd_that_swings_is_seen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        herd, calm = self.herd(monkeypatch), simulate(replace(SMALL, seconds=30, load=0.3), "ours")
        assert herd.peak_share > 2 * calm.peak_share
        assert herd.dispersion > 1.4 * calm.dispersion
        assert herd.first_byte_p99_s > 5 * calm.first_byte_p99_s

    def test_shares_and_swings_of_known_sends(self) -> None:
        books = Books(2, 20)
        books.sends = [[10, 0] * 10, [0, 10] * 10]
        books.in_flight = [[4, 2]] * 20
        books.first_bytes = [(10.0, 0.1 * number) for number in range(1, 101)]
        found = figures(books, [4, 4], {1})
        assert found.peak_share == 2.0  # all of a second's sends, where half would be its part
        assert found.peak_in_flight == 1.0
        assert found.autocorrelation[0] < -0.8
        assert found.autocorrelation[1] > 0.8
        assert found.shares == {"1": [0.0, 2.0] * 10}
        assert found.first_byte_p50_s == pytest.approx(5.05)
        assert found.first_byte_p99_s == pytest.approx(9.9, abs=0.02)


class TestTheClouds:
    def cloud(self, timeline: Timeline, slots: int = 1, quota: int = 100) -> Cloud:
        return Cloud(timeline, slots, 1.0, quota, MINUTE_S)

    def job(self, timeline: Timeline, log: list[tuple[str, float]]) -> Job:
        def note(what: str) -> None:
            log.append((what, timeline.now))

        return Job(1.0, 2.0, lambda: note("first"), lambda: note("end"), lambda: note("failed"))

    def test_who_comes_second_waits_for_the_slot(self) -> None:
        timeline, log = Timeline(), []
        cloud = self.cloud(timeline)
        for _ in range(2):
            cloud.take(self.job(timeline, log))
        timeline.run(10.0)
        assert log == [("first", 1.0), ("end", 3.0), ("first", 4.0), ("end", 6.0)]

    def test_death_fails_what_runs_and_what_waits_once(self) -> None:
        timeline, log = Timeline(), []
        cloud = self.cloud(timeline)
        for _ in range(2):
            cloud.take(self.job(timeline, log))
        timeline.at(0.5, lambda: cloud.change(Event("die", 0, 0.5, 9.0), begins=True))
        timeline.run(10.0)
        assert log == [("failed", 0.5), ("failed", 0.5)]
        assert cloud.in_flight == 0

    def test_a_quota_is_a_minutes(self) -> None:
        timeline = Timeline()
        cloud = self.cloud(timeline)
        assert cloud.refused_s(60) == 0.0
        timeline.run(15.0)
        assert cloud.refused_s(60) == 45.0
        assert cloud.rate_headers()[b"x-ratelimit-remaining-tokens"] == b"40"
        timeline.run(61.0)
        assert cloud.refused_s(60) == 0.0

    def test_a_slow_one_takes_its_time_to_the_first_byte_only(self) -> None:
        timeline, log = Timeline(), []
        cloud = self.cloud(timeline)
        cloud.change(Event("slow", 0, 0.0, 9.0, factor=5.0), begins=True)
        cloud.take(self.job(timeline, log))
        timeline.run(10.0)
        assert log == [("first", 5.0), ("end", 7.0)]


def test_round_robin_takes_turns_by_capacity() -> None:
    places = fleet(0.0, 0.0, 0.0)
    places[2].meter.capacity = 200.0
    balancer = RoundRobin(random.Random(1))
    turns = [balancer.pick(places, Ask(), 0.0) for _ in range(400)]
    assert [turns.count(place) for place in places] == [pytest.approx(100, abs=1)] * 2 + [pytest.approx(200, abs=1)]


def test_least_in_flight_is_by_capacity() -> None:
    small, large = Place("small"), Place("large")
    large.meter.capacity = 300.0
    for _ in range(2):
        large.meter.begin(1.0)
    small.meter.begin(1.0)
    assert CONTENDERS["least in flight"](random.Random(1)).pick([small, large], Ask(), 0.0) is large


class TestTraces:
    ROWS = ({"prompt_tokens": 10, "completion_tokens": 5, "first_byte_s": 0.2, "total_s": 0.4},)

    def test_a_list_and_a_table_say_the_same(self, tmp_path: Path) -> None:
        (tmp_path / "a.json").write_text(json.dumps(self.ROWS))
        (tmp_path / "a.csv").write_text("prompt_tokens,completion_tokens,first_byte_s,total_s\n10,5,0.2,0.4\n")
        assert read(tmp_path / "a.json") == read(tmp_path / "a.csv") == [Sample(10, 5, 0.2, 0.4)]

    @pytest.mark.parametrize(
        ("content", "complaint"),
        [
            ("[]", "has no entry"),
            ('[{"prompt_tokens": 1, "first_byte_s": 1, "total_s": 2}]', "entry 1 has no completion_tokens"),
            (json.dumps([ROWS[0] | {"total_s": 0.1}]), "0 < first_byte_s <= total_s"),
        ],
    )
    def test_a_faulty_one_is_refused(self, tmp_path: Path, content: str, complaint: str) -> None:
        path = tmp_path / "a.json"
        path.write_text(content)
        with pytest.raises(ValueError, match=complaint):
            read(path)

    def test_a_recorded_one_is_what_is_served(self) -> None:
        setup = replace(SMALL, seconds=8, load=0.1, alike=True, samples=(Sample(10, 5, 0.25, 0.5),))
        found = simulate(setup, "ours")
        assert found.first_byte_p50_s == found.first_byte_p99_s == pytest.approx(0.25)


def test_events_are_read_as_they_are_written() -> None:
    assert event_of("slow:3@20-40x5") == Event("slow", 3, 20.0, 40.0, 5.0)
    assert event_of("die:0@1.5-2") == Event("die", 0, 1.5, 2.0, 10.0)
    with pytest.raises(ValueError, match="burn"):
        event_of("burn:3@20-40")


def test_the_command_prints_a_line_for_each_balancer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--routers", "2", "--deployments", "4", "--seconds", "6", "--only", "ours", "--only", "random"]) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert "p99 s" in heading
    assert [line.split()[0] for line in lines] == ["ours", "random"]


def test_a_plot_is_well_formed() -> None:
    from xml.etree import ElementTree as ET

    root = ET.fromstring(
        drawn([Panel("a < b", {"ours": [0.0, 2.0, 1.0]}, [(0.5, 1.5, "slow")]), Panel("c", {"d": []})])
    )
    lines = [each.get("points") or "" for each in root.iter("{http://www.w3.org/2000/svg}polyline")]
    assert [len(line.split()) for line in lines] == [3, 0]
    assert lines[0].split()[1].endswith(",0.0")  # the highest at the top
