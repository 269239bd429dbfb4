"""What differs between two configurations is told, whatever it is, and never what a secret is."""

from typing import Any

import orjson
import pytest
from ruamel.yaml import YAML

from router.config.compare import Change, Comparison, Field, compare
from router.config.faults import ConfigError
from tests.unit.config.workbench import ENVIRON, GOOD, Workbench

NOW = 1_900_000_000.0  # 2030: clause-7 is declared for 2031
AFTER = 2_000_000_000.0


def changed(bench: Workbench, old: str, new: str, text: str = GOOD, wall: float = NOW) -> Comparison:
    """Of one replacement."""
    assert text.count(old) == 1, old
    return compare(bench.load(text, wall=wall), bench.load(text.replace(old, new), wall=wall), wall)


def one(comparison: Comparison, section: str, name: str) -> Change:
    (found,) = (each for each in comparison.changes if (each.section, each.name) == (section, name))
    return found


def fields(change: Change) -> dict[str, tuple[str | None, str | None]]:
    return {field.name: (field.before, field.after) for field in change.fields}


def test_a_file_and_itself_differ_in_nothing(bench: Workbench) -> None:
    for wall in (0.0, NOW, AFTER):
        comparison = compare(bench.load(wall=wall), bench.load(f"# a comment\n{GOOD}", wall=wall), wall)
        assert comparison.changes == ()
        assert comparison.restart == ()


def test_the_end_of_exclusivity_is_marked_above_all(bench: Workbench) -> None:
    to = "{rule: first_refusal, holder: azure, then: [coreweave]}"
    comparison = changed(bench, "placement: {rule: exclusive, cloud: azure}", f"placement: {to}")

    placed = one(comparison, "placement", "api")
    assert (placed.reach, placed.exclusive) == ("wider", True)
    assert fields(placed)["rule"] == ("exclusive: azure", "first_refusal: azure (2 attempts), then coreweave")
    assert comparison.loosened == (placed,)
    plans = [each for each in comparison.changes if each.section == "plans" and each.name.startswith("api: gpt-4o")]
    assert plans
    assert all(each.reach == "wider" and each.exclusive for each in plans)


def test_its_return_is_narrower_and_loosens_nothing(bench: Workbench) -> None:
    text = GOOD.replace("{rule: exclusive, cloud: azure}", "{rule: spread, clouds: [azure, coreweave]}")
    comparison = changed(
        bench,
        "api: {placement: {rule: spread, clouds: [azure, coreweave]}",
        "api: {placement: {rule: exclusive, cloud: azure}",
        text,
    )
    assert one(comparison, "placement", "api").reach == "narrower"
    assert comparison.loosened == ()


def test_another_cloud_is_elsewhere(bench: Workbench) -> None:
    comparison = changed(bench, "{rule: exclusive, cloud: azure}", "{rule: exclusive, cloud: coreweave}")
    assert one(comparison, "placement", "api").reach == "other"
    assert comparison.loosened


@pytest.mark.parametrize(
    ("until", "marked"),
    [
        ("2031-02-01", "wider"),  # the rule of today ends
        ("clause-7", "wider"),
        ("open-clause", "wider"),  # some day, when somebody declares it
        ("2020-01-01", "wider"),  # has ended, so what holds now is the other rule
    ],
)
def test_a_rule_that_ends_some_day_is_wider_today(bench: Workbench, until: str, marked: str) -> None:
    then = "{rule: spread, clouds: [azure, coreweave]}"
    text = GOOD.replace("by: legal}]", "by: legal}, {name: open-clause}]")
    to = f"{{rule: exclusive, cloud: azure, until: {until}, then_rule: {then}}}"
    comparison = changed(bench, "{rule: exclusive, cloud: azure}", to, text)
    placed = one(comparison, "placement", "api")
    assert (placed.reach, placed.exclusive) == (marked, True)


def test_what_was_over_before_is_history(bench: Workbench) -> None:
    """A past window of a wider rule is taken out of the file: nothing that is to come changes."""
    then = "{rule: exclusive, cloud: azure}"
    window = f"{{rule: spread, clouds: [azure, coreweave], until: 2020-01-01, then_rule: {then}}}"
    comparison = changed(bench, "placement: {rule: exclusive, cloud: azure}", f"placement: {window}")
    assert one(comparison, "placement", "api").reach == ""
    assert comparison.loosened == ()


def test_a_change_that_begins_later_is_told_with_its_day(bench: Workbench) -> None:
    then = "{rule: spread, clouds: [azure, coreweave]}"
    to = f"{{rule: exclusive, cloud: azure, until: 2035-01-01, then_rule: {then}}}"
    comparison = changed(bench, "{rule: exclusive, cloud: azure}", to)
    plans = [each.name for each in comparison.changes if each.section == "plans"]
    assert plans
    assert all(name.endswith("from 2035-01-01T00:00:00Z") for name in plans)


def test_another_host_of_a_cloud_widens_whoever_may_use_the_cloud(bench: Workbench) -> None:
    added = "  azure: {hosts: [inference.contoso.example]}\n  softbank:"
    comparison = changed(bench, "  softbank:", added)
    assert one(comparison, "placement", "api").reach == "wider"
    assert one(comparison, "clouds", "azure").kind == "changed"
    assert comparison.loosened


def test_zones_widen_and_narrow(bench: Workbench) -> None:
    assert one(changed(bench, "    zones: [us, ord]\n", ""), "placement", "research").reach == "wider"
    zoned = "    affinity: true\n    zones: [us, ord]\n"
    assert one(changed(bench, "    affinity: true\n", zoned), "placement", "internal").reach == "narrower"


def test_a_key_takes_its_traffic_to_another_workload(bench: Workbench) -> None:
    moved = changed(bench, "name: acme\n    workload: api", "name: acme\n    workload: internal")
    key = one(moved, "keys", "acme")
    assert (key.reach, key.exclusive, fields(key)["workload"]) == ("wider", True, ("api", "internal"))
    assert moved.loosened == (key,)
    back = changed(bench, "name: evaluation\n    workload: internal", "name: evaluation\n    workload: api")
    assert (one(back, "keys", "evaluation").reach, back.loosened) == ("narrower", ())


def test_a_secret_takes_its_traffic_to_another_key(bench: Workbench) -> None:
    """Whatever the keys are called: who presents it is served by the rule of the key that has it then."""
    renamed = changed(bench, "name: acme\n    workload: api", "name: other\n    workload: internal")
    key = one(renamed, "keys", "other")
    assert (key.kind, key.reach, key.exclusive) == ("added", "wider", True)
    assert renamed.loosened == (key,)
    first, second = "a" * 64, "b" * 64
    swapped = second.join(each.replace(second, first) for each in GOOD.split(first))
    exchanged = compare(bench.load(wall=NOW), bench.load(swapped, wall=NOW), NOW)
    assert exchanged.loosened == (one(exchanged, "keys", "evaluation"),)
    assert one(exchanged, "keys", "acme").reach == "narrower"
    only_named = changed(bench, "name: acme", "name: other")
    assert (one(only_named, "keys", "other").reach, only_named.loosened) == ("", ())


def test_an_endpoint_that_becomes_an_emulated_one_is_no_place_of_its_cloud(bench: Workbench) -> None:
    """What listens there may lead anywhere."""
    here = "emulated: true\n    base_url: http://127.0.0.1:9"
    emulated = changed(bench, "base_url: https://contoso.openai.azure.com", here)
    placed = one(emulated, "placement", "api")
    assert placed.reach == "wider"
    assert emulated.loosened == (placed,)


def test_keys_come_go_and_change_their_rights(bench: Workbench) -> None:
    widened = changed(bench, 'models: ["*"]', "models: [gpt-4o]")
    assert fields(one(widened, "keys", "evaluation")) == {"models": ("all", "gpt-4o")}
    both, fewer = bench.load(wall=NOW), bench.load(GOOD[: GOOD.index("  - name: evaluation")], wall=NOW)
    assert one(compare(both, fewer, NOW), "keys", "evaluation").kind == "removed"
    assert one(compare(fewer, both, NOW), "keys", "evaluation").kind == "added"


def test_limits_and_budgets_are_told_as_they_are_written(bench: Workbench) -> None:
    limits, budget = "{rpm: 1200, tpm: 5, shadow: [tpm]}", "{day_usd: 12.5, month_usd: 100}"
    more = f"models: [gpt-4o]\n    limits: {limits}\n    budget: {budget}\n"
    comparison = changed(bench, "models: [gpt-4o]\n", more)
    assert fields(one(comparison, "limits", "key acme")) == {"rpm": (None, "1,200"), "tpm": (None, "5 (shadow)")}
    assert fields(one(comparison, "budgets", "key acme")) == {"day_usd": (None, "$12.5"), "month_usd": (None, "$100")}


def test_prices_are_dollars_a_million(bench: Workbench) -> None:
    priced = "name: llama-70b, price: {prompt_usd_per_mtok: 0.2, completion_usd_per_mtok: 1}}"
    comparison = changed(bench, "name: llama-70b}", priced)
    found = fields(one(comparison, "prices", "ord/llama-70b"))
    assert found == {"prompt_usd_per_mtok": (None, "$0.2"), "completion_usd_per_mtok": (None, "$1")}


def test_plans_are_told_tier_by_tier_with_the_operations_that_share_it(bench: Workbench) -> None:
    comparison = changed(bench, "tier: 1, rpm: 60", "tier: 0, rpm: 60")
    plan = one(comparison, "plans", "api: gpt-4o (chat)")
    both = "azure: eastus2/gpt-4o-ptu, azure: eastus2/gpt-4o-std"
    assert plan.fields == (
        Field("tier 1", "azure: eastus2/gpt-4o-ptu", both),
        Field("tier 2", "azure: eastus2/gpt-4o-std", None),
    )
    assert plan.reach == ""


def test_what_needs_a_restart_is_named(bench: Workbench) -> None:
    comparison = changed(bench, "listen: 127.0.0.1:8080", "listen: 127.0.0.1:8081")
    assert comparison.restart == ("server.listen",)
    assert fields(one(comparison, "settings", "server")) != {}


@pytest.mark.parametrize("secret", ["AZURE_KEY", "CW_KEY"])
def test_that_a_secret_is_another_one_is_told_and_not_which(bench: Workbench, secret: str) -> None:
    old = bench.load(wall=NOW)
    new = bench.load(GOOD, {**ENVIRON, secret: "canary-of-tomorrow-0123"}, NOW)
    comparison = compare(old, new, NOW)
    (change,) = comparison.changes
    assert change.fields == (Field("credential.secret", "(a secret)", "(another secret)"),)
    assert b"canary" not in orjson.dumps(comparison)


def leaves(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], Any]]:
    if isinstance(tree, dict):
        return [found for key, value in tree.items() for found in leaves(value, (*path, key))]
    if isinstance(tree, list):
        return [found for index, value in enumerate(tree) for found in leaves(value, (*path, index))]
    return [(path, tree)]


WORDS: dict[str, str] = {
    "adaptive": "off",
    "512MiB": "1GiB",
    "64MiB": "32MiB",
    "azure": "coreweave",
    "coreweave": "azure",
    "balanced": "cost",
    "api": "internal",
    "internal": "api",
    "none": "upstream",
    "upstream": "none",
    "provisioned": "standard",
    "2031-02-01": "2032-01-01",
    "https://contoso.openai.azure.com": "https://other.openai.azure.com",
    "127.0.0.1:8080": "127.0.0.1:8082",
    "127.0.0.1:9090": "127.0.0.1:9092",
    "a" * 64: "d" * 64,
    "b" * 64: "e" * 64,
}


def other(value: Any) -> Any:
    """What may stand there instead, most of the time."""
    if isinstance(value, bool):
        return not value
    return value * 2 or 1 if isinstance(value, int | float) else WORDS.get(str(value), f"{value}x")


def test_no_value_of_a_file_can_change_unseen(bench: Workbench) -> None:
    """Each value of the good file is replaced by whatever else may stand there; the comparison says so, both ways."""
    tree = YAML(typ="safe").load(GOOD)
    old, seen = bench.load(wall=NOW), set()
    for path, value in leaves(tree):
        mended = orjson.loads(orjson.dumps(tree, default=str))
        place: Any = mended
        for part in path[:-1]:
            place = place[part]
        place[path[-1]] = other(value)
        try:
            new = bench.load(orjson.dumps(mended).decode(), wall=NOW)
        except ConfigError:
            continue
        comparison, back = compare(old, new, NOW), compare(new, old, NOW)
        assert comparison.changes, path
        assert mirrored(comparison) == told(back), path
        seen.add(path)
    assert len(seen) > 30, "most of the file's values have another one that is good"


def mirrored(comparison: Comparison) -> set[tuple[Any, ...]]:
    kinds = {"added": "removed", "removed": "added", "changed": "changed"}
    reaches = {"wider": "narrower", "narrower": "wider", "other": "other", "": ""}
    return {
        (each.section, each.name, kinds[each.kind], reaches[each.reach], shown(each, "after"))
        for each in comparison.changes
    }


def told(comparison: Comparison) -> set[tuple[Any, ...]]:
    return {(each.section, each.name, each.kind, each.reach, shown(each, "before")) for each in comparison.changes}


def shown(change: Change, side: str) -> frozenset[tuple[str, str | None]]:
    texts = ((field.name, getattr(field, side)) for field in change.fields)
    return frozenset((name, "(a secret)" if text == "(another secret)" else text) for name, text in texts)
