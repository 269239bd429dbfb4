"""What keys, workloads and models may use, as the file says it."""

import pytest

from router.model.limits import UNLIMITED, Limits
from tests.unit.config.workbench import GOOD, Workbench

KEY = "    models: [gpt-4o]\n"


def test_limits_and_budgets_arrive(bench: Workbench) -> None:
    of_key = "    limits: {rpm: 600, tpm: 200000, concurrent: 50}\n    budget: {day_usd: 0.25}\n"
    of_model = "models: {gpt-4o: {limits: {tpm: 9}, budget: {day_usd: 1, shadow: [day_usd]}}}\n"
    text = (
        GOOD.replace(KEY, KEY + of_key)
        .replace(", reveal: none}", ", limits: {rpm: 7, burst_share: 0.5, shadow: true}, budget: {month_usd: 3}}")
        .replace("aliases:\n", f"{of_model}aliases:\n")
    )
    snapshot = bench.load(text)

    key = snapshot.keys[bytes.fromhex("a" * 64)]
    assert key.limits == Limits(rpm=600, tpm=200_000, concurrent=50, day_nano_usd=250_000_000)
    for phase in snapshot.phases:
        api = phase.workloads["api"]
        assert api.limits == Limits(
            rpm=7, burst_share=0.5, shadow=frozenset({"rpm"}), month_nano_usd=3_000_000_000
        )  # a shadow is of its own section alone
        assert phase.workloads["internal"].limits is UNLIMITED
    assert snapshot.model_limits == {
        "gpt-4o": Limits(tpm=9, day_nano_usd=1_000_000_000, shadow=frozenset({"day_nano_usd"}))
    }


def test_without_them_nothing_is_limited(bench: Workbench) -> None:
    snapshot = bench.load()

    assert all(key.limits is UNLIMITED for key in snapshot.keys.values())
    assert not snapshot.model_limits


def test_a_budget_warns_of_what_costs_nothing_of_it(bench: Workbench) -> None:
    def warned(text: str) -> list[str]:
        return [warning for warning in bench.load(text).warnings if "has no `price`" in warning]

    assert not warned(GOOD)
    unpriced = "what ord/llama-70b serves costs nothing of it: it has no `price`"
    of_model = GOOD.replace("aliases:\n", "models: {gpt-4o: {budget: {day_usd: 1}}}\naliases:\n")
    assert warned(of_model) == [f"models.gpt-4o.budget: {unpriced}"]
    of_workload = GOOD.replace("    affinity: true\n", "    affinity: true\n    budget: {day_usd: 1}\n")
    assert f"workloads.internal.budget: {unpriced}" in warned(of_workload)
    of_key = GOOD.replace('    models: ["*"]\n', '    models: ["*"]\n    budget: {day_usd: 1}\n')
    assert f"keys of internal: budget: {unpriced}" in warned(of_key)
    assert not warned(GOOD.replace(KEY, f"{KEY}    budget: {{day_usd: 1}}\n")), "at azure gpt-4o has its list price"


def test_a_budget_warns_that_it_is_forgotten_without_a_ledger(bench: Workbench) -> None:
    forgotten = "ledger: there is none, so what was spent of budgets is forgotten with each restart"
    of_key = GOOD.replace(KEY, f"{KEY}    budget: {{day_usd: 1}}\n")

    assert forgotten not in bench.load(of_key).warnings
    assert forgotten in bench.load(of_key.replace("ledger: {dir: ledger}\n", "")).warnings
    assert forgotten not in bench.load(GOOD.replace("ledger: {dir: ledger}\n", "")).warnings


@pytest.mark.parametrize("limit", ["rpm", "tpm", "concurrent"])
def test_a_limit_that_no_process_could_count_is_refused(bench: Workbench, limit: str) -> None:
    """Redis hears of whole numbers below 2**64 alone, and one that it cannot hear stopped all the others."""
    bench.load(GOOD.replace(KEY, f"{KEY}    limits: {{{limit}: {10**12}}}\n"))
    faults = bench.faults(GOOD.replace(KEY, f"{KEY}    limits: {{{limit}: {10**20}}}\n"))

    assert [(fault.path, fault.message) for fault in faults] == [(f"keys[0].limits.{limit}", "must be at most 1e+12")]
