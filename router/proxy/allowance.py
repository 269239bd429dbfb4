"""What limits the requests of one key, sorted by when it is taken, so that a request only walks along."""

from typing import Final, NamedTuple

from router.limits.source import Source
from router.limits.terms import Rate, Terms
from router.proxy.fleet import LivePlan

_MTOK: Final = 1_000_000


class Gate:
    """One limit of a key, a workload or a model, as it is now. It stays the same object for as long as there is one.

    `take` and `put` are its source's.
    """

    __slots__ = ("id", "limit", "name", "put", "refused", "scope", "shadow", "shadowed", "source", "take", "terms")

    def __init__(self, scope: str, name: str, limit: str, terms: Terms, source: Source) -> None:
        self.scope, self.name, self.limit = scope, name, limit
        self.id = f"{scope}/{name}/{limit}"  # as its source is known to all processes
        self.terms, self.source = terms, source
        self.take, self.put = source.take, source.put
        self.shadow = False  # counts, and refuses nobody
        self.refused = self.shadowed = 0  # requests: refused, and such as would have been


Gates = tuple[Gate, ...]


class Stop(NamedTuple):
    """A gate that a request does not pass now. `wait_s`: see `Source.take`."""

    gate: Gate
    wait_s: float


class Charge:
    """What a request of one plan takes once its body is read. `arrival`: one unit each; `places`: come back."""

    __slots__ = ("arrival", "completion_price", "money", "places", "prompt_price", "tokens")

    def __init__(self, model: Gates, every: Gates, plan: LivePlan) -> None:
        """`model`: all of the model's; `every`: all of key, workload and model."""
        self.arrival = tuple(gate for gate in model if gate.limit in ("rpm", "concurrent"))
        self.places = places_of(self.arrival)
        self.tokens = tuple(gate for gate in every if gate.limit == "tpm")
        self.money = tuple(gate for gate in every if gate.limit in ("day_usd", "month_usd"))
        prices = [target.price for target in plan.targets() if target.price is not None]
        # Where it will be served nobody knows yet, so it is reserved what it costs at the dearest.
        self.prompt_price = max((price.prompt_nano_usd_per_mtok for price in prices), default=0)
        self.completion_price = max((price.completion_nano_usd_per_mtok for price in prices), default=0)

    def cost_nano_usd(self, prompt_tokens: int, completion_tokens: int) -> int:
        """What to reserve: at least 1, since a budget that is used up serves nobody."""
        return 1 + (prompt_tokens * self.prompt_price + completion_tokens * self.completion_price) // _MTOK


class Allowance:
    """All that limits one key. `arrival`: taken before the body is read; `places`: those of them that come back."""

    __slots__ = ("_requests", "_tokens", "arrival", "charges", "gates", "places")

    def __init__(self, key: Gates, workload: Gates) -> None:
        self.gates = key + workload
        self.arrival = tuple(gate for gate in self.gates if gate.limit in ("rpm", "concurrent"))
        self.places = places_of(self.arrival)
        self.charges: dict[LivePlan, Charge] = {}
        shown = {gate.limit: gate for gate in key if not gate.shadow}
        self._requests = Shown("requests", shown["rpm"]) if "rpm" in shown else None
        self._tokens = Shown("tokens", shown["tpm"]) if "tpm" in shown else None

    def lines(self, now: float) -> bytes:
        """The key's own limits as header lines, or nothing where it has none."""
        requests, tokens = self._requests, self._tokens
        if requests is None:
            return tokens.lines(now) if tokens is not None else b""
        return requests.lines(now) + tokens.lines(now) if tokens is not None else requests.lines(now)


class Shown:
    """A rate as `x-ratelimit-*` tells it. What remains, and the time until all is back, are of the burst."""

    __slots__ = ("_left", "_lines", "_reset_s")

    def __init__(self, what: str, gate: Gate) -> None:
        assert isinstance(gate.terms, Rate)
        self._left, self._reset_s = gate.source.left, gate.source.reset_s
        self._lines = (
            f"x-ratelimit-limit-{what}: {round(gate.terms.per_s * 60)}\r\n"
            f"x-ratelimit-remaining-{what}: %d\r\n"
            f"x-ratelimit-reset-{what}: %dms\r\n"
        ).encode()

    def lines(self, now: float) -> bytes:
        left = self._left(now)
        return self._lines % (left if left > 0.0 else 0, self._reset_s(now) * 1000 + 0.999)


def places_of(gates: Gates) -> Gates:
    return tuple(gate for gate in gates if gate.limit == "concurrent")
