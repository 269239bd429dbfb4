"""Where a workload may go, and in which order."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.model.fleet import AuthKind, BaseUrl, Credential, Deployment, Endpoint
from router.model.policy import Prefer
from router.placement import Exclusive, FirstRefusal, Rule, Spread, Within, make_permit, make_plan

CLOUDS = ("azure", "oracle", "coreweave", "self")
MODELS = ("gpt-4o", "o3")
OPERATIONS = ("chat", "responses", "embeddings")


def deployment(cloud: str, name: str, tier: int = 0, model: str = "gpt-4o", operations: str = "chat") -> Deployment:
    url = BaseUrl("https", f"{cloud}.example.com", 443, "")
    endpoint = Endpoint(f"{cloud}-{name}", cloud, "openai", url, Credential(AuthKind.NONE))
    return Deployment(endpoint, model, name, frozenset(operations.split()), tier=tier)


fleets = st.lists(
    st.builds(
        deployment,
        st.sampled_from(CLOUDS),
        st.uuids().map(str),
        st.integers(0, 3),
        st.sampled_from(MODELS),
        st.sets(st.sampled_from(OPERATIONS), min_size=1).map(" ".join),
    ),
    max_size=12,
)
rules = st.one_of(
    st.builds(Exclusive, st.sampled_from(CLOUDS)),
    st.builds(Spread, st.lists(st.sampled_from(CLOUDS), min_size=1, unique=True).map(tuple)),
)


def plan_of(rule: Rule, fleet: list[Deployment], model: str = "gpt-4o", operation: str = "chat"):
    return make_plan(make_permit("api", rule, {}), rule, model, operation, fleet)


@given(fleets, st.sampled_from(CLOUDS), st.sampled_from(MODELS), st.sampled_from(OPERATIONS))
def test_an_exclusive_plan_never_names_another_cloud(
    fleet: list[Deployment], cloud: str, model: str, operation: str
) -> None:
    plan = plan_of(Exclusive(cloud), fleet, model, operation)

    assert {each.cloud for tier in plan.tiers for each in tier} <= {cloud}
    assert plan.permit.clouds == {cloud}


@given(fleets, rules, st.sampled_from(MODELS), st.sampled_from(OPERATIONS))
def test_a_plan_holds_all_that_is_allowed_once_and_nothing_else(
    fleet: list[Deployment], rule: Rule, model: str, operation: str
) -> None:
    plan = plan_of(rule, fleet, model, operation)

    able = [
        each for each in fleet if each.model == model and operation in each.operations and each.cloud in rule.clouds()
    ]
    flat = [each for tier in plan.tiers for each in tier]
    assert sorted(each.id for each in flat) == sorted(each.id for each in able)
    assert all(plan.tiers)
    for tier in plan.tiers:
        assert len({each.tier for each in tier}) == 1
    assert [tier[0].tier for tier in plan.tiers] == sorted({each.tier for each in able})


@given(fleets, rules)
def test_a_permit_allows_what_the_plan_names_and_no_other_cloud(fleet: list[Deployment], rule: Rule) -> None:
    plan = plan_of(rule, fleet)

    assert all(plan.permit.allows(each.cloud) for tier in plan.tiers for each in tier)
    assert {cloud for cloud in CLOUDS if plan.permit.allows(cloud)} == rule.clouds()


def test_tiers_come_in_the_operators_order() -> None:
    """Provisioned capacity is paid for already: it stands in the lower tier, wherever the file lists it."""
    standard, provisioned, other = (
        deployment("azure", "std", 1),
        deployment("azure", "ptu", 0),
        deployment("azure", "b", 1),
    )

    assert plan_of(Exclusive("azure"), [standard, provisioned, other]).tiers == ((provisioned,), (standard, other))


def test_spread_balances_clouds_together() -> None:
    a, b, c = deployment("azure", "a"), deployment("oracle", "b"), deployment("coreweave", "c")

    assert plan_of(Spread(("oracle", "azure")), [a, b, c]).tiers == ((a, b),)


def test_a_plan_says_why() -> None:
    plan = plan_of(Spread(("oracle", "azure")), [deployment("azure", "a")])

    assert (plan.workload, plan.model, plan.operation) == ("api", "gpt-4o", "chat")
    assert plan.reason == "spread:azure+oracle"
    assert plan_of(Exclusive("azure"), []).reason == "exclusive:azure"


@pytest.mark.parametrize(
    ("rule", "hosts"),
    [
        (Exclusive("oracle"), {"azure": ["a"], "oracle": ["o"]}),
        (Exclusive("azure"), {"azure": ["a", "b"], "oracle": ["o"]}),
        (Exclusive("azure"), {"azure": ["b"], "oracle": ["o"]}),
        (Spread(("azure",)), {"azure": ["a"], "oracle": ["o"]}),
        (Spread(("azure", "oracle")), {"azure": ["a"], "oracle": ["o"]}),
    ],
)
def test_another_meaning_is_another_version(rule: Rule, hosts: dict[str, list[str]]) -> None:
    base = make_permit("api", Exclusive("azure"), {"azure": ["a"], "oracle": ["o"]}).rule_version

    assert make_permit("api", rule, hosts).rule_version != base


def test_the_same_meaning_is_the_same_version() -> None:
    base = make_permit("api", Spread(("azure", "self")), {"azure": ["a", "b"], "self": ["s"]}).rule_version

    same = make_permit("other", Spread(("self", "azure")), {"self": ["s"], "azure": ["b", "a", "b"], "oracle": ["o"]})
    assert same.rule_version == base
    assert len(base) == 12


REFUSAL = FirstRefusal("azure", (("oracle",), ("self", "coreweave")))


def test_first_refusal_asks_the_holder_then_the_others_in_their_order() -> None:
    ptu, std = deployment("azure", "ptu", 0), deployment("azure", "std", 1)
    oracle, own, coreweave = deployment("oracle", "o", 2), deployment("self", "s", 1), deployment("coreweave", "c", 1)
    late = deployment("coreweave", "late", 3)
    plan = plan_of(REFUSAL, [late, coreweave, own, oracle, std, ptu])

    # Each group begins anew with its lowest tier: the holder's last comes before anybody else's first.
    assert plan.tiers == ((ptu,), (std,), (oracle,), (coreweave, own), (late,))
    assert (plan.holder, plan.holder_tiers, plan.reason) == ("azure", 2, "first_refusal:azure")
    assert plan.permit.clouds == {"azure", "oracle", "self", "coreweave"}


def test_a_holder_that_serves_nothing_of_the_kind_is_still_the_holder() -> None:
    """So that `no_deployment` is recorded as its refusal, and not nothing."""
    speechless = deployment("azure", "a", operations="embeddings")
    plan = plan_of(REFUSAL, [speechless, deployment("oracle", "o")])

    assert (plan.holder, plan.holder_tiers, len(plan.tiers)) == ("azure", 0, 1)
    assert plan.removed == ()  # it does not serve what is asked, so nothing was taken out


def test_only_a_first_refusal_has_a_holder() -> None:
    for rule in (Exclusive("azure"), Spread(("azure", "oracle"))):
        plan = plan_of(rule, [deployment("azure", "a")])
        assert (plan.holder, plan.holder_tiers) == ("", 0)


def test_what_is_removed_says_why() -> None:
    here, far, nowhere = zoned("azure", "here", "eu"), zoned("azure", "far", "us"), zoned("azure", "nowhere", "")
    foreign = zoned("coreweave", "foreign", "us")
    plan = plan_of(Within(Exclusive("azure"), frozenset(("eu", "ch"))), [here, far, nowhere, foreign])

    assert plan.tiers == ((here,),)
    assert plan.reason == "exclusive:azure"
    assert [(each.deployment, each.why) for each in plan.removed] == [
        (far, "its zone us is not among ch, eu"),
        (nowhere, "its endpoint names no zone, so is not in ch, eu"),
        (foreign, "its cloud coreweave is not one that exclusive:azure may use"),
    ]


def zoned(cloud: str, name: str, zone: str) -> Deployment:
    plain = deployment(cloud, name)
    return replace(plain, endpoint=replace(plain.endpoint, zone=zone))


def test_a_plan_is_balanced_as_its_rule_prefers() -> None:
    fleet = [deployment("azure", "a")]
    assert plan_of(Exclusive("azure"), fleet).prefer is Prefer.BALANCED
    for rule in (
        Exclusive("azure", Prefer.COST),
        Spread(("azure",), Prefer.COST),
        FirstRefusal("azure", (("oracle",),), prefer=Prefer.COST),
        Within(Exclusive("azure", Prefer.COST), frozenset(("",))),
    ):
        assert plan_of(rule, fleet).prefer is Prefer.COST


@pytest.mark.parametrize(
    "other",
    [
        FirstRefusal("oracle", (("azure",), ("self", "coreweave"))),
        FirstRefusal("azure", (("self", "coreweave"), ("oracle",))),
        FirstRefusal("azure", (("oracle", "self", "coreweave"),)),
        FirstRefusal("azure", (("oracle",), ("self",), ("coreweave",))),
        FirstRefusal("azure", (("oracle",), ("self", "coreweave")), holder_attempts=3),
        FirstRefusal("azure", (("oracle",), ("self", "coreweave")), prefer=Prefer.LATENCY),
        Spread(("azure", "oracle", "self", "coreweave")),
        Within(REFUSAL, frozenset(("eu",))),
    ],
)
def test_another_order_is_another_version(other: Rule) -> None:
    base = make_permit("api", REFUSAL, {}).rule_version

    assert make_permit("api", other, {}).rule_version != base
    same = FirstRefusal("azure", (("oracle",), ("coreweave", "self")))  # balanced together: they have no order
    assert make_permit("api", same, {}).rule_version == base
