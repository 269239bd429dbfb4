"""Laws of placement: over random fleets, rules, zones and windows."""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from router.config import check
from router.config.snapshot import Workload
from router.model.fleet import AuthKind, BaseUrl, Credential, Deployment, Endpoint
from router.model.plan import Plan
from router.model.policy import Policy
from router.placement import (
    Clause,
    Condition,
    Exclusive,
    FirstRefusal,
    Period,
    Rule,
    Schedule,
    Spread,
    Within,
    explain,
    make_permit,
    make_plan,
)

CLOUDS = ("azure", "oracle", "softbank", "coreweave", "self")
ZONES = ("", "us", "eu", "jp")
MODELS = ("gpt-4o", "o3")
OPERATIONS = ("chat", "responses")


def deployment(cloud: str, zone: str, name: str, tier: int, model: str, operations: set[str]) -> Deployment:
    url = BaseUrl("https", f"{cloud}.example.com", 443, "")
    endpoint = Endpoint(f"{cloud}-{zone}", cloud, "openai", url, Credential(AuthKind.NONE), zone=zone)
    return Deployment(endpoint, model, name, frozenset(operations), tier=tier)


fleets = st.lists(
    st.builds(
        deployment,
        st.sampled_from(CLOUDS),
        st.sampled_from(ZONES),
        st.uuids().map(str),
        st.integers(0, 2),
        st.sampled_from(MODELS),
        st.sets(st.sampled_from(OPERATIONS), min_size=1),
    ),
    max_size=16,
)


@st.composite
def first_refusals(draw: st.DrawFn) -> FirstRefusal:
    clouds = draw(st.permutations(CLOUDS))[: draw(st.integers(2, len(CLOUDS)))]
    cuts = sorted(draw(st.sets(st.integers(2, len(clouds) - 1)))) if len(clouds) > 2 else []
    groups = [tuple(clouds[begin:end]) for begin, end in zip([1, *cuts], [*cuts, len(clouds)], strict=True)]
    return FirstRefusal(clouds[0], tuple(groups))


plain_rules: st.SearchStrategy[Rule] = st.one_of(
    st.builds(Exclusive, st.sampled_from(CLOUDS)),
    st.builds(Spread, st.lists(st.sampled_from(CLOUDS), min_size=1, unique=True).map(tuple)),
    first_refusals(),
)
rules: st.SearchStrategy[Rule] = st.one_of(
    plain_rules, st.builds(Within, plain_rules, st.frozensets(st.sampled_from(ZONES[1:]), min_size=1))
)


def plan_of(rule: Rule, fleet: list[Deployment]) -> Plan:
    return make_plan(make_permit("w", rule, {}), rule, "gpt-4o", "chat", fleet)


def allowed(rule: Rule) -> tuple[list[tuple[str, ...]], frozenset[str]]:
    """The groups of clouds in their order, and the zones: read off the rule's fields, not asked of it."""
    match rule:
        case Within(inner, zones):
            return allowed(inner)[0], zones
        case Exclusive(cloud):
            return [(cloud,)], frozenset(ZONES)
        case Spread(names):
            return [names], frozenset(ZONES)
        case FirstRefusal(holder, then):
            return [(holder,), *then], frozenset(ZONES)
    raise AssertionError(rule)


@given(rules, fleets)
def test_a_plan_never_names_what_its_rule_forbids(rule: Rule, fleet: list[Deployment]) -> None:
    plan = plan_of(rule, fleet)

    groups, zones = allowed(rule)
    clouds = {cloud for group in groups for cloud in group}
    assert plan.permit.clouds == clouds
    for tier in plan.tiers:
        for each in tier:
            assert each.cloud in clouds
            assert each.endpoint.zone in zones


@given(rules, fleets)
def test_every_deployment_that_serves_is_placed_or_removed_exactly_once(rule: Rule, fleet: list[Deployment]) -> None:
    plan = plan_of(rule, fleet)

    able = [each.id for each in fleet if each.model == "gpt-4o" and "chat" in each.operations]
    placed = [each.id for tier in plan.tiers for each in tier]
    removed = [each.deployment.id for each in plan.removed]
    assert sorted(placed + removed) == sorted(able)
    assert all(plan.tiers)
    assert all(each.why for each in plan.removed)


@given(rules, fleets)
def test_tiers_follow_the_clouds_and_then_the_operator(rule: Rule, fleet: list[Deployment]) -> None:
    plan = plan_of(rule, fleet)

    groups, _ = allowed(rule)
    ranks = [
        {(next(i for i, group in enumerate(groups) if each.cloud in group), each.tier) for each in tier}
        for tier in plan.tiers
    ]
    assert all(len(rank) == 1 for rank in ranks)
    flat = [next(iter(rank)) for rank in ranks]
    assert flat == sorted(set(flat))


@given(rules, fleets)
def test_the_holders_tiers_come_first_and_nothing_else_is_among_them(rule: Rule, fleet: list[Deployment]) -> None:
    plan = plan_of(rule, fleet)

    first, rest = plan.tiers[: plan.holder_tiers], plan.tiers[plan.holder_tiers :]
    assert {each.cloud for tier in first for each in tier} <= {plan.holder}
    assert plan.holder not in {each.cloud for tier in rest for each in tier}
    inner = rule.rule if isinstance(rule, Within) else rule
    assert plan.holder == (inner.holder if isinstance(inner, FirstRefusal) else "")


@given(rules, fleets, st.data())
def test_the_first_barrier_takes_every_plan_of_a_rule_and_no_plan_with_a_stranger(
    rule: Rule, fleet: list[Deployment], data: st.DataObject
) -> None:
    plan = plan_of(rule, fleet)
    schedule = Schedule.of(Clause(rule))
    workload = Workload("w", plan.permit, False, rule.reason, Policy(), schedule.periods[0], schedule)

    check.verify_plans("f", {"w": workload}, [plan])
    if plan.removed:
        stranger = data.draw(st.sampled_from(plan.removed)).deployment
        place = data.draw(st.integers(0, len(plan.tiers)))
        tiers = (*plan.tiers[:place], (stranger,), *plan.tiers[place:])
        forged = Plan(plan.workload, plan.model, plan.operation, tiers, plan.permit, plan.reason, plan.holder, 99)
        assert any(stranger.id in str(fault) for fault in faults_of(workload, forged))


def faults_of(workload: Workload, plan: Plan) -> tuple[Any, ...]:
    try:
        check.verify_plans("f", {workload.name: workload}, [plan])
    except check.ConfigError as error:
        return error.faults
    return ()


@given(rules, rules, st.booleans())
def test_two_rules_share_a_version_only_where_they_mean_the_same(one: Rule, other: Rule, windowed: bool) -> None:
    hosts = {cloud: [f"{cloud}.example.com"] for cloud in CLOUDS}
    schedules = [Schedule.of(Clause(rule)) if windowed else None for rule in (one, other)]
    versions = {
        make_permit("w", rule, hosts, schedule).rule_version
        for rule, schedule in zip((one, other), schedules, strict=True)
    }

    assert (len(versions) == 1) == (essence(one) == essence(other))


def essence(rule: Rule) -> tuple[object, ...]:
    groups, zones = allowed(rule)
    inner = rule.rule if isinstance(rule, Within) else rule
    return type(inner), [frozenset(group) for group in groups], zones


# -- windows

moments = st.one_of(st.just(-math.inf), st.just(math.inf), st.integers(0, 48).map(lambda quarter: quarter / 4))
conditions = st.builds(Condition, st.sampled_from(["a", "b"]), moments, st.just("legal"))


@st.composite
def clauses(draw: st.DrawFn, depth: int = 4) -> Clause:
    rule = Exclusive(f"cloud-{draw(st.uuids())}")
    if depth == 0 or draw(st.booleans()):
        return Clause(rule)
    otherwise = draw(clauses(depth - 1))
    since = draw(moments.filter(lambda moment: moment < math.inf))
    if draw(st.booleans()):
        condition = draw(conditions)
        return Clause(rule, since, condition.declared, condition, otherwise)
    return Clause(rule, since, draw(moments.filter(lambda moment: moment > since)), None, otherwise)


walls = st.floats(-1, 14)


def naive(clause: Clause, wall: float) -> Rule:
    """What the words say: the rule within its window, else whatever was written down for the time outside."""
    if clause.otherwise is None or clause.since <= wall < clause.until:
        return clause.rule
    return naive(clause.otherwise, wall)


@given(clauses(), walls)
def test_at_each_moment_exactly_one_rule_holds(clause: Clause, wall: float) -> None:
    schedule = Schedule.of(clause)

    held = [period for period in schedule.periods if period.since <= wall < period.until]
    assert len(held) == 1
    assert held == [schedule.at(wall)]
    assert held[0].rule == naive(clause, wall)


@given(clauses())
def test_periods_have_neither_gaps_nor_overlaps(clause: Clause) -> None:
    periods = Schedule.of(clause).periods

    assert periods[0].since == -math.inf
    assert periods[-1].until == math.inf
    assert all(one.until == other.since for one, other in pairwise(periods))
    assert all(period.since < period.until for period in periods)


@given(clauses())
def test_a_boundary_belongs_to_what_begins_there(clause: Clause) -> None:
    schedule = Schedule.of(clause)
    for wall in schedule.starts()[1:]:
        assert schedule.at(wall).since == wall
        assert schedule.at(wall).rule == naive(clause, wall)


@given(rules, fleets, st.dictionaries(st.text(), st.sampled_from(["unhealthy", "busy"])))
def test_an_explanation_names_each_deployment_where_the_plan_has_it(
    rule: Rule, fleet: list[Deployment], refusals: dict[str, str]
) -> None:
    plan, schedule = plan_of(rule, fleet), Schedule.of(Clause(rule))
    refusals |= {each.id: "draining" for each in fleet[::2]}
    shown: dict[str, Any] = explain(plan, schedule.at(0.0), schedule, refusals)

    assert [[each["deployment"] for each in tier["deployments"]] for tier in shown["tiers"]] == [
        [each.id for each in tier] for tier in plan.tiers
    ]
    assert [tier["of_the_holder"] for tier in shown["tiers"]].count(True) == plan.holder_tiers
    assert [each["deployment"] for each in shown["removed"]] == [each.deployment.id for each in plan.removed]
    for each in entries(shown):
        assert each["refusal"] == refusals.get(each["deployment"], "")
    unknown: dict[str, Any] = explain(plan, Period(-math.inf, math.inf, schedule.clause), schedule)
    assert {each["refusal"] for each in entries(unknown)} <= {None}


def entries(shown: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (each for tier in shown["tiers"] for each in tier["deployments"])
