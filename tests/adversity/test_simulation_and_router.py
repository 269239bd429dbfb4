"""What the simulation claims of three regions, held against the real router in front of three real processes."""

from dataclasses import replace
from statistics import fmean
from typing import cast

from loadtests.drills import regions
from loadtests.drills.outcome import Scale
from loadtests.simulate import Setup, simulate
from loadtests.simulation.cloud import Event

BIN_S = 0.25  # of the drill's shares
THREE = Setup(routers=1, deployments=3, seconds=40, slots=16, load=0.45, quota=0.0, alike=True)
NEAR = 0.06  # of all requests: what some hundred of them leave to chance


def simulated_share(event: Event, since_s: int, until_s: int) -> float:
    """Of the region that something happens to, of all sends in these seconds; over three seeds."""
    runs = (simulate(replace(THREE, seed=seed, events=(event,)), "ours") for seed in (1, 2, 3))
    return fmean(fmean(run.shares["0"][since_s:until_s]) for run in runs) / THREE.deployments


async def test_a_region_that_slows_keeps_the_share_that_was_simulated() -> None:
    slowed = Event("slow", 0, 20.0, 40.0)
    before, after = simulated_share(slowed, 10, 20), simulated_share(slowed, 25, 30)

    outcome = await regions.slow(Scale(rate=60, before_s=2, fault_s=8))
    bins = cast("list[float]", outcome.figures["share_by_bin"])
    real_after = fmean(bins[int(5 / BIN_S) :])

    assert abs(before - 1 / 3) < NEAR, "three that are alike"
    assert after < 0.05
    assert real_after < 0.05
    assert abs(real_after - after) < NEAR


async def test_a_region_that_dies_costs_nobody_an_answer_as_simulated() -> None:
    died = simulate(replace(THREE, events=(Event("die", 0, 20.0, 40.0),)), "ours")

    outcome = await regions.killed(Scale(rate=60, before_s=1.5, fault_s=4))

    assert died.unserved == 0
    (bar,) = [bar for bar in outcome.bars if bar.what.startswith("errors before the commit point")]
    assert bar.kept, outcome.figures
