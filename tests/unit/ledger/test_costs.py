"""What a period cost, from lines as the store tells them."""

from dataclasses import dataclass, replace
from typing import Any

import pytest

from router.ledger.costs import MONTH_S, PARTS, Capacity, CloudCost, SpillOver, costs
from router.ledger.reports import PARTS as KNOWN
from router.ledger.rows import SUMS
from router.model.fleet import AuthKind, BaseUrl, Credential, Deployment, Endpoint, Kind, Price

HOUR = 3600.0
PRICE = Price(2_500_000_000, 10_000_000_000, 1_250_000_000)  # 2.50 and 10 dollars for a million


def deployment(cloud: str, name: str, **more: Any) -> Deployment:
    provider = "azure_openai" if cloud == "azure" else "openai"
    url = BaseUrl("https", f"{cloud}.example", 443, "")
    endpoint = Endpoint(cloud, cloud, provider, url, Credential(AuthKind.NONE))
    return Deployment(endpoint, "gpt-4o", name, frozenset({"chat"}), **more)


STANDARD = deployment("azure", "std", price=PRICE)
PTU = deployment(
    "azure",
    "ptu",
    kind=Kind.PROVISIONED,
    price=Price(0, 0),
    flat_nano_usd_per_month=73_000 * 10**9,
    tpm=10_000,
)
OWN = deployment("coreweave", "llama", price=Price(1_000_000_000, 1_000_000_000))


@dataclass
class Told:
    of: tuple[str, ...]
    sums: dict[str, int]


def told(cloud: str, name: str, *, workload: str = "internal", plan: str = "first_refusal:azure", **sums: int) -> Told:
    of = (workload, "gpt-4o", cloud, f"{cloud}/{name}" if cloud else "", plan)
    return Told(of, {**dict.fromkeys(SUMS, 0), **sums})


def fleet(*deployments: Deployment) -> dict[str, Deployment]:
    return {each.id: each for each in deployments}


LINES = [
    told("azure", "std", requests=60, prompt_tokens=1_000_000, completion_tokens=100_000, cost_nano_usd=3_500_000_000),
    told("azure", "ptu", requests=20, prompt_tokens=200_000, cached_tokens=100_000, completion_tokens=20_000),
    told(
        "coreweave", "llama", requests=20, prompt_tokens=400_000, completion_tokens=100_000, cost_nano_usd=500_000_000
    ),
    told("", "", requests=7),
]


def test_the_parts_are_ones_that_a_report_can_have() -> None:
    assert set(PARTS) <= set(KNOWN)


def test_a_clouds_cost_is_its_tokens_and_its_capacity() -> None:
    azure, coreweave = costs(LINES, fleet(STANDARD, PTU, OWN), HOUR).clouds
    assert azure == CloudCost("azure", 80, 1_320_000, 3_500_000_000, 100 * 10**9, 0.8, 103.5 / 104)
    assert azure.cost_nano_usd == 103_500_000_000
    assert coreweave == CloudCost("coreweave", 20, 500_000, 500_000_000, 0, 0.2, 0.5 / 104)


def test_capacity_costs_though_nothing_was_sent_to_it() -> None:
    (azure,) = costs([], fleet(PTU), MONTH_S).clouds
    assert (azure.requests, azure.cost_nano_usd, azure.cost_share) == (0, 73_000 * 10**9, 1.0)
    assert costs([], fleet(STANDARD), HOUR).clouds == []


def test_spill_over_is_held_against_the_holders_own_price() -> None:
    found = costs(LINES, fleet(STANDARD, PTU, OWN), HOUR).spill_over
    assert found == [SpillOver("internal", "gpt-4o", "azure", "coreweave", 20, 500_000, 500_000_000, 2_000_000_000)]
    assert found[0].dearer_nano_usd == -1_500_000_000


@pytest.mark.parametrize("plan", ["exclusive:azure", "spread:azure+coreweave", ""])
def test_what_nobody_refused_is_no_spill_over(plan: str) -> None:
    lines = [told("coreweave", "llama", plan=plan, requests=1, prompt_tokens=10, cost_nano_usd=10)]
    assert costs(lines, fleet(STANDARD, OWN), HOUR).spill_over == []


def test_the_holders_price_is_its_cheapest_or_the_lists_or_not_known() -> None:
    dear = deployment("azure", "dear", price=Price(9_000_000_000, 90_000_000_000))
    listed = costs(LINES, fleet(PTU, OWN), HOUR).spill_over[0].at_holder_nano_usd
    assert listed == 2_000_000_000, "its capacity alone says nothing of a price by token: the list does"
    assert costs(LINES, fleet(dear, STANDARD, OWN), HOUR).spill_over[0].at_holder_nano_usd == 2_000_000_000
    unknown = replace(STANDARD, model="another")
    (row,) = costs(LINES, fleet(unknown, OWN), HOUR).spill_over
    assert (row.at_holder_nano_usd, row.dearer_nano_usd) == (None, None)


def test_capacity_is_used_by_what_it_has_to_read_and_to_write() -> None:
    """Ten thousand tokens a minute are 600,000 an hour; what was cached is not read again."""
    assert costs(LINES, fleet(STANDARD, PTU), HOUR).capacity == [
        Capacity("azure/ptu", "azure", 100 * 10**9, 220_000, 575_000_000, 120_000 / 600_000)
    ]
    unknown = replace(PTU, tpm=None)
    assert costs(LINES, fleet(unknown), HOUR).capacity[0].utilisation is None
