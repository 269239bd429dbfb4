"""The auditor: what it takes for an explanation, and what it does not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.accounting.audit import Auditor, Problem
from router.accounting.chain import Event
from router.model.decision import REFUSALS, Decision, Leave, Offer

RULE = {
    "workload": "internal",
    "model": "gpt-4o",
    "operation": "chat",
    "rule": "first_refusal:azure",
    "rule_version": "v1",
}
PTU = Offer("azure-1/ptu", "azure", "throttled")
STD = Offer("azure-2/std", "azure", "unhealthy")
ORACLE = Offer("oracle-1/llama", "oracle", "accepted")


def configuration(*deployments: str, at: float = 0.0, rule_version: str = "v1", version: str = "a") -> Event:
    asked = {"workload": "internal", "model": "gpt-4o", "operation": "chat", "rule_version": rule_version}
    holders = [{**asked, "holder": "azure", "deployments": list(deployments)}]
    fields = {"version": version, "workloads": {}, "holders": holders}
    return Event("configuration", at, fields)


BOTH = configuration("azure-1/ptu", "azure-2/std")


def leave(*offers: Offer, request: str = "r1", at: float = 10.0, **changes: Any) -> Leave:
    fields = {"key": "k", **RULE, "offers": offers, "to": "oracle-1/llama", "to_cloud": "oracle"}
    return Leave(request, at, **{**fields, **changes})


def decision(*offers: Offer, request: str = "r1", at: float = 10.0, **changes: Any) -> Decision:
    fields = {"key": "k", **RULE, "offers": offers, "served_by": "oracle-1/llama", "cloud": "oracle", "outcome": "ok"}
    return Decision(request, at, **{**fields, **changes})


def audit(*records: Any) -> tuple[Auditor, list[Problem]]:
    problems: list[Problem] = []
    auditor = Auditor(problems.append)
    for record in records:
        auditor.read(record)
    auditor.finish()
    return auditor, problems


def test_a_departure_that_every_deployment_refused_is_explained() -> None:
    auditor, problems = audit(BOTH, leave(PTU, STD), decision(PTU, STD, ORACLE))

    assert problems == []
    assert (auditor.requests, auditor.held, auditor.departures, auditor.open) == (1, 1, 1, 0)


def test_a_departure_without_a_leave_is_not() -> None:
    for record in (
        decision(PTU, STD, ORACLE),
        decision(PTU, STD, msgspec.structs.replace(ORACLE, outcome="failed"), served_by="", cloud=""),
        decision(cloud="oracle"),
    ):
        auditor, problems = audit(BOTH, record)
        assert [each.kind for each in problems] == ["departure"]
        assert "went to oracle under first_refusal:azure, and no refusal was recorded before" in problems[0].text
        assert auditor.departures == 1


def test_a_leave_behind_the_decision_explains_nothing() -> None:
    _, problems = audit(BOTH, decision(PTU, STD, ORACLE), leave(PTU, STD))
    assert [each.kind for each in problems] == ["departure"]


def test_a_leave_of_another_request_explains_nothing() -> None:
    _, problems = audit(BOTH, leave(PTU, STD, request="r0"), decision(PTU, STD, ORACLE))
    assert len(problems) == 1


@pytest.mark.parametrize(
    ("offers", "missing"),
    [
        ((PTU,), "azure-2/std"),
        ((), "azure-1/ptu, azure-2/std"),
        ((PTU, msgspec.structs.replace(STD, outcome="accepted")), "azure-2/std"),
        ((PTU, msgspec.structs.replace(STD, outcome="because")), "azure-2/std"),
        ((PTU, msgspec.structs.replace(STD, cloud="oracle")), "azure-2/std"),
        ((PTU, STD, msgspec.structs.replace(PTU, outcome="accepted")), "azure-1/ptu"),  # the last word counts
    ],
)
def test_a_deployment_that_has_not_refused_is_named(offers: tuple[Offer, ...], missing: str) -> None:
    _, problems = audit(BOTH, leave(*offers), decision(*offers, ORACLE))
    assert [each.text.partition(", and ")[2] for each in problems] == [f"no refusal of {missing} was recorded before"]


def test_a_holder_that_has_nothing_must_have_said_so() -> None:
    nothing = Offer("", "azure", "no_deployment")
    assert audit(configuration(), leave(nothing), decision(nothing, ORACLE))[1] == []
    assert len(audit(configuration(), leave(), decision(ORACLE))[1]) == 1


def test_a_request_keeps_the_configuration_that_it_began_with() -> None:
    """A reload adds a deployment while the request runs: it need not have been offered there."""
    more = configuration("azure-1/ptu", "azure-2/std", "azure-3/new", at=11.0, version="b")
    records = (BOTH, more, leave(PTU, STD, at=12.0), decision(PTU, STD, ORACLE, at=10.5))
    assert audit(*records)[1] == []

    late = (BOTH, more, leave(PTU, STD, at=12.0), decision(PTU, STD, ORACLE, at=11.5))
    assert ["azure-3/new" in each.text for each in audit(*late)[1]] == [True]


def test_a_reload_behind_the_leave_explains_nothing() -> None:
    records = (
        configuration("azure-1/ptu", "azure-2/std"),
        leave(PTU),
        configuration("azure-1/ptu", at=11.0, version="b"),
    )
    assert len(audit(*records, decision(PTU, ORACLE))[1]) == 1


def test_a_repeated_configuration_is_the_same_one() -> None:
    records = (BOTH, BOTH, leave(PTU, STD), BOTH, decision(PTU, STD, ORACLE))
    auditor, problems = audit(*records)
    assert problems == []
    assert len(auditor._configurations) == 1


def test_without_the_configuration_nothing_is_explained() -> None:
    for first in (Event("configuration", 0.0, {"version": "a", "holders": []}), Event("started", 0.0, {})):
        _, problems = audit(first, leave(PTU, STD), decision(PTU, STD, ORACLE))
        assert ["the log does not say what the holder had" in each.text for each in problems] == [True]


def test_a_configuration_that_cannot_be_read_is_told() -> None:
    _, problems = audit(Event("configuration", 0.0, {"version": 7}))
    assert [each.kind for each in problems] == ["configuration"]


def test_a_leave_without_an_end_is_open_and_judged_all_the_same() -> None:
    auditor, problems = audit(BOTH, leave(PTU, STD, request="a"), leave(PTU, request="b"))
    assert (auditor.open, auditor.departures) == (2, 2)
    assert [each.text.split()[1] for each in problems] == ["b"]


def test_who_stayed_with_the_holder_needs_no_explanation() -> None:
    accepted = msgspec.structs.replace(STD, outcome="accepted")
    stayed = decision(PTU, accepted, served_by="azure-2/std", cloud="azure")
    refused = decision(PTU, STD, request="r2", served_by="", cloud="")
    assert audit(BOTH, stayed, refused)[1] == []


AZURE_ONLY = {"workload": "api", "rule": "exclusive:azure"}


@pytest.mark.parametrize(
    "record",
    [
        decision(ORACLE, **AZURE_ONLY, served_by="", cloud=""),
        decision(msgspec.structs.replace(ORACLE, outcome="unhealthy"), **AZURE_ONLY, served_by="", cloud=""),
        decision(PTU, **AZURE_ONLY, cloud="oracle"),
    ],
)
def test_an_exclusive_request_anywhere_else_is_a_violation(record: Decision) -> None:
    auditor, problems = audit(BOTH, record)
    assert [tuple(each) for each in problems] == [
        ("exclusivity", "request r1 under exclusive:azure was offered to oracle")
    ]
    assert auditor.exclusive == 1


def test_an_exclusive_request_never_leaves() -> None:
    problems = audit(BOTH, leave(PTU, **AZURE_ONLY))[1]
    assert "exclusivity" in [each.kind for each in problems]


def test_an_exclusive_request_at_home_is_fine() -> None:
    assert audit(decision(PTU, STD, **AZURE_ONLY, served_by="azure-2/std", cloud="azure"))[1] == []


@given(st.sets(st.sampled_from("abcde")), st.lists(st.tuples(st.sampled_from("abcdefg"), st.sampled_from(REFUSALS))))
def test_a_departure_is_explained_exactly_if_all_have_refused(held: set[str], refused: list[tuple[str, str]]) -> None:
    offers = tuple(Offer(deployment, "azure", outcome) for deployment, outcome in refused)
    problems = audit(configuration(*held), leave(*offers), decision(*offers, ORACLE))[1]

    explained = held <= {deployment for deployment, _ in refused} if held else bool(refused)
    assert (problems == []) == explained
