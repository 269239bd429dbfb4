"""A replay takes from each record what deployments were then, and from the files where that leaves a request."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.cli.against.replay import Found, Move, Replay
from router.config.snapshot import Snapshot
from router.model.decision import ACCEPTED, REFUSALS, Decision, Offer
from router.model.outcome import Usage
from tests.unit.config.workbench import GOOD, Workbench

PTU, STD, ORD = "eastus2/gpt-4o-ptu", "eastus2/gpt-4o-std", "ord/llama-70b"
CLOUDS = {PTU: "azure", STD: "azure", ORD: "coreweave"}
PRICED = GOOD.replace(
    "name: llama-70b}", "name: llama-70b, price: {prompt_usd_per_mtok: 1, completion_usd_per_mtok: 2}}"
)
ACME = f'name: acme\n    workload: api\n    sha256: "{"a" * 64}"'
OTHER = f'name: other\n    workload: api\n    sha256: "{"c" * 64}"'


@pytest.fixture
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return Workbench(tmp_path_factory.mktemp("replay"))


def decision(served_by: str, *refused: str, key: str = "acme", **changes: Any) -> Decision:
    workload = {"acme": "api", "evaluation": "internal"}.get(key, "api")
    offers = [Offer(name, CLOUDS[name], "busy") for name in refused]
    if served_by:
        offers.append(Offer(served_by, CLOUDS[served_by], ACCEPTED))
    rule = "exclusive:azure" if workload == "api" else "spread:azure+coreweave"
    made = Decision(
        *("r1", 1000.0, key, workload, "gpt-4o", "chat", rule, "v", tuple(offers)),
        *(served_by, CLOUDS.get(served_by, ""), "ok" if served_by else "refused"),
    )
    return type(made)(**{**{name: getattr(made, name) for name in made.__struct_fields__}, **changes})


def replayed(old: Snapshot, new: Snapshot, *decisions: Decision, usage: Usage | None = None) -> Found:
    replay = Replay(old, new)
    for each in decisions:
        replay.take(each, usage)
    return replay.finish()


@st.composite
def decisions_of(draw: st.DrawFn, snapshot: Snapshot) -> Decision:
    """One that the router itself could have written: whoever stood before the one that served had refused."""
    plan = snapshot.plans[draw(st.sampled_from(sorted(snapshot.plans)))]
    keys = [key.name for key in snapshot.file_keys if key.workload == plan.workload and key.may_use(plan.model)]
    last = draw(st.integers(0, len(plan.tiers)))  # beyond the last tier: nobody
    offers, served = [], None
    for tier in plan.tiers[:last]:
        offers += [Offer(each.id, each.cloud, draw(st.sampled_from(REFUSALS))) for each in tier]
    if last < len(plan.tiers):
        served = draw(st.sampled_from(plan.tiers[last]))
        others = [each for each in plan.tiers[last] if each is not served and draw(st.booleans())]
        offers += [Offer(each.id, each.cloud, draw(st.sampled_from(REFUSALS))) for each in others]
        offers.append(Offer(served.id, served.cloud, ACCEPTED))
    outcome = draw(st.sampled_from(["ok", "client_gone", "stream_broken"] if served else ["refused", "upstream_error"]))
    return Decision(
        *("r", 1000.0, keys[0] if keys else "a-key-of-the-store", plan.workload, plan.model, plan.operation),
        *(plan.reason, plan.permit.rule_version, tuple(offers)),
        *((served.id, served.cloud) if served is not None else ("", "")),
        outcome,
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.data())
def test_the_same_file_moves_nothing(bench: Workbench, data: st.DataObject) -> None:
    """What health, limits and load moved, they moved before; a file that says the same moves nothing more."""
    snapshot = bench.__dict__.setdefault("snapshot", None) or bench.load()
    bench.__dict__["snapshot"] = snapshot
    wanted = data.draw(st.lists(decisions_of(snapshot), min_size=1, max_size=5))

    found = replayed(snapshot, snapshot, *wanted, usage=Usage(10, 10))

    assert not found.moves
    assert not found.lost
    assert (found.gained, found.elsewhere, found.exclusive_left) == (0, 0, 0)
    assert all((row.before, row.before_nano_usd) == (row.after, row.after_nano_usd) for row in found.rows.values())
    assert found.requests == sum(row.before for row in found.rows.values()) + sum(
        not each.served_by for each in wanted if each.offers
    )


def test_what_a_file_takes_away_goes_to_the_next_that_had_not_refused(bench: Workbench) -> None:
    old = bench.load()
    new = bench.load(GOOD.replace("kind: provisioned, tier: 0", "kind: provisioned, tier: 9"))
    found = replayed(old, new, decision(PTU), decision(STD, PTU))
    assert found.elsewhere == 1
    assert found.rows["api", "azure", STD].after == 2

    gone = bench.load(GOOD.replace("tier: 1, rpm: 60", "tier: 1, operations: [responses]"))
    lost = replayed(old, gone, decision(STD, PTU))
    assert dict(lost.lost) == {("api", "gpt-4o", "everybody who may serve it had refused"): 1}


def test_another_rule_moves_requests_to_another_cloud_and_says_whose(bench: Workbench) -> None:
    old = bench.load(PRICED)
    new = bench.load(PRICED.replace("{rule: exclusive, cloud: azure}", "{rule: exclusive, cloud: coreweave}"))
    found = replayed(old, new, decision(PTU), decision(PTU), usage=Usage(1_000_000, 500_000))
    assert dict(found.moves) == {Move("api", "azure", "coreweave"): 2}
    assert found.exclusive_left == 2
    after = found.rows["api", "coreweave", ORD]
    assert (after.after, after.after_nano_usd) == (2, 2 * 2_000_000_000)
    assert (found.known, found.estimated, found.unpriced) == (2, 0, 0)


def test_a_new_deployment_takes_its_share_by_capacity(bench: Workbench) -> None:
    """Of those that stood in one tier with it nobody is moved to another one: the balancer chose among them."""
    old = bench.load()
    more = "      - {model: gpt-4o, name: new, tier: 0, tpm: 3000, operations: [chat]}\n"
    std = "      - {model: gpt-4o, name: gpt-4o-std"
    new = bench.load(GOOD.replace(std, more + std))
    found = replayed(old, new, *[decision(PTU)] * 400)
    assert found.elsewhere == found.rows["api", "azure", "eastus2/new"].after == 300  # 3000 of 4000
    assert found.rows["api", "azure", PTU].after == 100


def test_a_secret_says_whose_a_request_would_be_whatever_its_key_is_called(bench: Workbench) -> None:
    renamed = GOOD.replace("name: acme\n    workload: api", "name: other\n    workload: internal")
    old, new = bench.load(), bench.load(renamed)
    assert replayed(old, new, decision(PTU)).lost == {}
    assert replayed(old, new, decision("", PTU, STD)).exclusive_left == 1


def test_who_was_refused_by_all_is_served_by_one_that_is_new(bench: Workbench) -> None:
    old = bench.load()
    new = bench.load(GOOD.replace("{rule: exclusive, cloud: azure}", "{rule: spread, clouds: [azure, coreweave]}"))
    found = replayed(old, new, decision("", PTU, STD))
    assert (found.gained, found.exclusive_left) == (1, 1)
    assert replayed(old, old, decision("", PTU, STD)).gained == 0


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (ACME, OTHER, "its key acme is gone"),
        ("models: [gpt-4o]\n", "models: [llama-70b]\n", "its key acme may not use gpt-4o"),
        ("operations: [chat]", "operations: [responses]", "api is not served gpt-4o for chat"),
    ],
)
def test_what_could_not_be_served_any_more_says_why(bench: Workbench, old: str, new: str, why: str) -> None:
    text = GOOD.replace("{rule: exclusive, cloud: azure}", "{rule: spread, clouds: [azure, coreweave]}")
    if "operations" in old:
        text = GOOD.replace("tier: 1, rpm: 60", "tier: 1, rpm: 60, operations: [responses]")
    ((_, _, said),) = replayed(bench.load(text), bench.load(text.replace(old, new)), decision(PTU)).lost
    assert said == why


def test_tokens_that_nobody_knows_are_estimated_by_those_that_are_known_and_told_apart(bench: Workbench) -> None:
    snapshot = bench.load(PRICED)
    replay = Replay(snapshot, snapshot)
    for prompt in (1000, 3000):
        replay.take(decision(ORD, key="evaluation"), Usage(prompt, 0))
    replay.take(decision(ORD, key="evaluation"), None)
    replay.take(decision(ORD, key="evaluation", operation="completions"), None)
    found = replay.finish()
    assert (found.known, found.estimated, found.unknown) == (2, 1, 1)
    assert found.rows["internal", "coreweave", ORD].before_nano_usd == 6000 * 1_000


def test_what_never_was_for_a_deployment_is_set_aside(bench: Workbench) -> None:
    snapshot = bench.load()
    found = replayed(
        snapshot,
        snapshot,
        decision("", outcome="refused"),  # by a limit of its key
        decision("", PTU, outcome="client_gone"),
        decision("", model="", outcome="client_error"),
    )
    assert (found.requests, found.aside) == (0, 3)
