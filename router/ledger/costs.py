"""What a period cost: by cloud, beyond the holder of a right of first refusal, and where capacity is paid by the month.

Pure. Prices are those of the configuration at hand, as are the flat ones; what was billed by tokens was reckoned when
it was sent, and is only added up.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from router.balancing.prices import cost_nano_usd, list_price
from router.model.fleet import Deployment, Kind, Price

MONTH_S: Final = 730 * 3600
"""As the clouds reckon a month of capacity."""
PARTS: Final = ("workload", "model", "cloud", "deployment", "plan")
"""What the lines must be made by."""
_FIRST_REFUSAL: Final = "first_refusal:"  # how a plan's reason begins; then comes the holder


class Line(Protocol):
    """A line of `reports.usage`."""

    @property
    def of(self) -> tuple[str, ...]: ...

    @property
    def sums(self) -> Mapping[str, int]: ...


@dataclass(slots=True)
class Tokens:
    """Of attempts: what was billed."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0

    def add(self, sums: Mapping[str, int]) -> None:
        self.prompt += sums["prompt_tokens"]
        self.cached += sums["cached_tokens"]
        self.completion += sums["completion_tokens"]

    @property
    def total(self) -> int:
        return self.prompt + self.completion


@dataclass(slots=True)
class CloudCost:
    """One cloud. Shares are of all clouds together."""

    cloud: str
    requests: int = 0
    tokens: int = 0
    by_token_nano_usd: int = 0
    flat_nano_usd: int = 0  # of provisioned capacity, used or not
    request_share: float = 0.0
    cost_share: float = 0.0

    @property
    def cost_nano_usd(self) -> int:
        return self.by_token_nano_usd + self.flat_nano_usd


@dataclass(slots=True)
class SpillOver:
    """What one workload had of a model at one cloud, since the holder of the first refusal had refused it."""

    workload: str
    model: str
    holder: str
    cloud: str
    requests: int = 0
    tokens: int = 0
    cost_nano_usd: int = 0
    at_holder_nano_usd: int | None = None  # the same tokens at the holder's own price; None: it is not known

    @property
    def dearer_nano_usd(self) -> int | None:
        """What the refusals have cost; below 0 where the others were cheaper."""
        return self.cost_nano_usd - self.at_holder_nano_usd if self.at_holder_nano_usd is not None else None


@dataclass(slots=True)
class Capacity:
    """One provisioned deployment."""

    deployment: str
    cloud: str
    flat_nano_usd: int
    tokens: int
    by_token_nano_usd: int | None  # what its tokens would have cost at that cloud's price; None: it is not known
    utilisation: float | None  # of its tokens a minute; cached ones take none of them. None: `tpm` is not configured


@dataclass(slots=True)
class Costs:
    """Each in order."""

    clouds: list[CloudCost] = field(default_factory=list)
    spill_over: list[SpillOver] = field(default_factory=list)
    capacity: list[Capacity] = field(default_factory=list)


def costs(lines: Iterable[Line], deployments: Mapping[str, Deployment], length_s: float) -> Costs:
    """`lines`: by `PARTS`, of a period of so many seconds."""
    clouds: dict[str, CloudCost] = {}
    spilt: dict[tuple[str, str, str, str], tuple[SpillOver, Tokens]] = {}
    sent: dict[str, Tokens] = defaultdict(Tokens)
    for line in lines:
        workload, model, cloud, deployment, plan = line.of
        if not cloud:
            continue  # nobody served it, and nobody was asked
        here = clouds.setdefault(cloud, CloudCost(cloud))
        here.requests += line.sums["requests"]
        here.by_token_nano_usd += line.sums["cost_nano_usd"]
        here.tokens += line.sums["prompt_tokens"] + line.sums["completion_tokens"]
        sent[deployment].add(line.sums)
        holder = plan.removeprefix(_FIRST_REFUSAL)
        if holder not in (plan, cloud):
            place = workload, model, holder, cloud
            there, tokens = spilt.setdefault(place, (SpillOver(*place), Tokens()))
            there.requests += line.sums["requests"]
            there.cost_nano_usd += line.sums["cost_nano_usd"]
            tokens.add(line.sums)
    provisioned = [each for _, each in sorted(deployments.items()) if each.kind is Kind.PROVISIONED]
    capacity = [_capacity(each, sent[each.id], deployments.values(), length_s) for each in provisioned]
    for part in capacity:
        clouds.setdefault(part.cloud, CloudCost(part.cloud)).flat_nano_usd += part.flat_nano_usd
    for there, tokens in spilt.values():
        there.tokens = tokens.total
        there.at_holder_nano_usd = price_at(there.holder, there.model, tokens, deployments.values())
    return Costs(_shared(clouds), [spilt[place][0] for place in sorted(spilt)], capacity)


def price_at(cloud: str, model: str, tokens: Tokens, deployments: Iterable[Deployment]) -> int | None:
    """What tokens cost at a cloud that bills them: the least of its standard deployments' prices, else its list's."""
    there = [each for each in deployments if (each.cloud, each.model) == (cloud, model)]
    prices: list[Price | None] = [each.price for each in there if each.kind is Kind.STANDARD]
    if not any(prices):
        prices = [list_price(each.endpoint.provider, model, each.name) for each in there]
    found = [cost_nano_usd(price, tokens.prompt, tokens.completion, tokens.cached) for price in prices if price]
    return min(found, default=None)


def _capacity(deployment: Deployment, tokens: Tokens, deployments: Iterable[Deployment], length_s: float) -> Capacity:
    used = tokens.total - min(tokens.cached, tokens.prompt)
    return Capacity(
        deployment.id,
        deployment.cloud,
        round(deployment.flat_nano_usd_per_month * length_s / MONTH_S),
        tokens.total,
        price_at(deployment.cloud, deployment.model, tokens, deployments),
        used / (deployment.tpm * length_s / 60) if deployment.tpm is not None and length_s > 0 else None,
    )


def _shared(clouds: Mapping[str, CloudCost]) -> list[CloudCost]:
    """The dearest first."""
    found: Sequence[CloudCost] = list(clouds.values())
    requests, cost = sum(each.requests for each in found), sum(each.cost_nano_usd for each in found)
    for each in found:
        each.request_share = each.requests / requests if requests else 0.0
        each.cost_share = each.cost_nano_usd / cost if cost else 0.0
    return sorted(found, key=lambda each: (-each.cost_nano_usd, each.cloud))
