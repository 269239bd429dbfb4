"""From names to an explanation."""

from typing import Any

import pytest

from router.config.explain import UnknownNameError, explain_request
from tests.unit.config.workbench import GOOD, Workbench


def explained(bench: Workbench, *asked: str, text: str = GOOD, wall: float = 0.0, **more: Any) -> dict[str, Any]:
    return explain_request(bench.load(text, wall=wall), *asked, **more)


def test_it_says_who_asks_for_what_by_which_rule(bench: Workbench) -> None:
    shown = explained(bench, "acme", "gpt-4o-latest")

    assert (shown["key"], shown["workload"], shown["asked"], shown["model"]) == (
        "acme",
        "api",
        "gpt-4o-latest",
        "gpt-4o",
    )
    assert (shown["operation"], shown["allowed"], shown["rule"]) == ("chat", True, "exclusive:azure")
    snapshot = bench.load()
    assert shown["rule_version"] == snapshot.workloads["api"].permit.rule_version
    assert shown["config_version"] == snapshot.version
    assert [[each["deployment"] for each in tier["deployments"]] for tier in shown["tiers"]] == [
        ["eastus2/gpt-4o-ptu"],
        ["eastus2/gpt-4o-std"],
    ]
    assert [(each["deployment"], each["why"]) for each in shown["removed"]] == [
        ("ord/llama-70b", "its cloud coreweave is not one that exclusive:azure may use")
    ]


def test_windows_and_conditions_have_their_dates(bench: Workbench) -> None:
    text = GOOD.replace("name: evaluation\n    workload: internal", "name: evaluation\n    workload: research")
    shown = explained(bench, "evaluation", "gpt-4o", text=text)

    met = {"name": "clause-7", "declared": "2031-02-01T00:00:00Z", "by": "legal"}
    window = {"since": None, "until": "2031-02-01T00:00:00Z", "condition": met, "otherwise": "spread:coreweave"}
    assert shown["window"] == window
    after = {"since": "2031-02-01T00:00:00Z", "until": None, "condition": None, "otherwise": None}
    assert shown["schedule"] == [
        {"rule": "first_refusal:azure", **window},
        {"rule": "spread:coreweave", **after},
    ]
    assert (shown["holder"], shown["holder_attempts"], shown["zones"]) == ("azure", 2, ["ord", "us"])
    assert [tier["of_the_holder"] for tier in shown["tiers"]] == [True, True, False]
    later = explained(bench, "evaluation", "gpt-4o", text=text, wall=2e9)
    assert (later["rule"], later["window"], later["holder"]) == ("spread:coreweave", after, "")


def test_live_refusals_stand_beside_their_deployments(bench: Workbench) -> None:
    shown = explained(bench, "acme", "gpt-4o", refusals={"eastus2/gpt-4o-ptu": "throttled"})

    assert [each["refusal"] for tier in shown["tiers"] for each in tier["deployments"]] == ["throttled", ""]
    (alone,) = explained(bench, "acme", "gpt-4o")["tiers"][0]["deployments"]
    assert alone["refusal"] is None


def test_a_model_that_nobody_may_serve_has_all_of_its_deployments_removed(bench: Workbench) -> None:
    shown = explained(bench, "acme", "llama-70b")

    assert (shown["allowed"], shown["tiers"]) == (False, [])
    assert [each["deployment"] for each in shown["removed"]] == ["ord/llama-70b-own"]


def test_the_operation_that_is_not_named_is_one_that_is_served(bench: Workbench) -> None:
    text = GOOD.replace("name: llama-70b-own", "name: llama-70b-own, operations: [embeddings]")
    assert explained(bench, "evaluation", "llama-70b", text=text)["operation"] == "embeddings"
    assert explained(bench, "evaluation", "gpt-4o", "responses")["operation"] == "responses"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("acm", "gpt-4o"), "no key is named 'acm' (did you mean 'acme'?)"),
        (("zebra", "gpt-4o"), "no key is named 'zebra'; there is acme, evaluation"),
        (("acme", "gpt-4oo"), "no model is named 'gpt-4oo' (did you mean 'gpt-4o'?)"),
        (("acme", "gpt-4o", "chats"), "no operation is named 'chats' (did you mean 'chat'?)"),
    ],
)
def test_an_unknown_name_is_told_with_those_that_are_near(
    bench: Workbench, asked: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UnknownNameError) as caught:
        explained(bench, *asked)
    assert str(caught.value) == message


def test_a_file_without_keys_says_that_there_is_none(bench: Workbench) -> None:
    with pytest.raises(UnknownNameError, match=r"^no key is named 'acme'; there is none$"):
        explained(bench, "acme", "gpt-4o", text=GOOD[: GOOD.index("keys:\n")])
