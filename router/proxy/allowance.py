"""What limits the requests of one key, sorted by when it is taken, so that a request only walks along."""

from typing import Final

from router.limits.source import Source
from router.limits.terms import Rate, Terms
from router.proxy.fleet import LivePlan

_MTOK: Final = 1_000_000
_ROUND_UP: Final = 0.999  # before the rest is cut off


class Gate:
    """One limit of a key, a workload or a model, as it is now. It stays the same object for as long as there is one.

    `take`, `put` and `left` are its source's.
    """

    __slots__ = (
        *("full", "id", "left", "limit", "name", "put", "refused", "scope", "shadow", "shadowed", "take", "terms"),
        "unit_ms",
    )

    def __init__(self, scope: str, name: str, limit: str, terms: Terms, source: Source) -> None:
        self.scope, self.name, self.limit = scope, name, limit
        self.id = f"{scope}/{name}/{limit}"  # as all processes know it
        self.take, self.put, self.left = source.take, source.put, source.left
        self.shadow = False  # counts, and refuses nobody
        self.refused = self.shadowed = 0  # requests: refused, and such as would have been
        self.adopt(terms)

    def adopt(self, terms: Terms) -> None:
        """Other figures, which the source has too."""
        self.terms, self.full = terms, terms.full
        self.unit_ms = 1000 / terms.per_s if isinstance(terms, Rate) else 0.0  # until one that was taken is back

    def retire(self) -> None:
        """There is no such limit any more: requests that began while there was pass."""
        self.take, self.put, self.left = _let_pass, _take_nothing, self._full

    def _full(self, now: float) -> float:  # noqa: ARG002 - as of every source
        return self.full


def _let_pass(units: float, now: float) -> float:  # noqa: ARG001
    return 0.0


def _take_nothing(units: float, now: float) -> None: ...


Gates = tuple[Gate, ...]


class Charge:
    """What a request of one plan takes once its body is read. `arrival`: one unit each.

    `all_places`: of them and of those that were taken before it, what comes back.
    """

    __slots__ = ("_completion_price", "_prompt_price", "all_places", "arrival", "gates", "money", "tokens")

    def __init__(self, allowance: "Allowance", model: Gates, plan: LivePlan) -> None:
        """`model`: the gates of the plan's model."""
        every = allowance.gates + model
        self.arrival = tuple(gate for gate in model if gate.limit in ("rpm", "concurrent"))
        self.all_places = places_of(every)
        self.tokens = tuple(gate for gate in every if gate.limit == "tpm")
        self.money = tuple(gate for gate in every if gate.limit in ("day_usd", "month_usd"))
        self.gates = (*self.arrival, *self.tokens, *self.money)  # in the order in which they are taken
        prices = [target.price for target in plan.targets() if target.price is not None]
        self._prompt_price = max((price.prompt_nano_usd_per_mtok for price in prices), default=0)
        self._completion_price = max((price.completion_nano_usd_per_mtok for price in prices), default=0)

    def cost_nano_usd(self, prompt_tokens: int, completion_tokens: int) -> int:
        """What to reserve: nobody knows yet where it will be served, so what it costs at the dearest.

        At least 1, since a budget that is used up serves nobody.
        """
        return 1 + (prompt_tokens * self._prompt_price + completion_tokens * self._completion_price) // _MTOK


class Allowance:
    """All that limits one key. `arrival`: taken before the body is read; `places`: those of them that come back."""

    __slots__ = ("_shown", "_template", "arrival", "charges", "gates", "places")

    def __init__(self, key: Gates, workload: Gates) -> None:
        self.gates = key + workload
        self.arrival = tuple(gate for gate in self.gates if gate.limit in ("rpm", "concurrent"))
        self.places = places_of(self.arrival)
        self.charges: dict[LivePlan | None, Charge] = {}
        own = {gate.limit: gate for gate in key if not gate.shadow}
        shown = [(own[limit], what) for limit, what in (("rpm", "requests"), ("tpm", "tokens")) if limit in own]
        self._shown = tuple(gate for gate, _ in shown)
        self._template = b"".join(_lines(gate, what) for gate, what in shown)

    def lines(self, now: float) -> bytes:
        """The key's own limits as header lines, or nothing where it has none.

        What remains, and the time until all of that is back, are of the burst: so much may come now.
        """
        shown = self._shown
        if len(shown) == 2:  # written out: it is a part of most answers
            one, two = shown
            left, other_left = one.left(now), two.left(now)
            return self._template % (
                left if left > 0.0 else 0,
                (one.full - left) * one.unit_ms + _ROUND_UP,
                other_left if other_left > 0.0 else 0,
                (two.full - other_left) * two.unit_ms + _ROUND_UP,
            )
        figures: list[float] = []
        for gate in shown:
            left = gate.left(now)
            figures += max(0.0, left), (gate.full - left) * gate.unit_ms + _ROUND_UP
        return self._template % tuple(figures)


def places_of(gates: Gates) -> Gates:
    return tuple(gate for gate in gates if gate.limit == "concurrent")


def _lines(gate: Gate, what: str) -> bytes:
    """With two places for figures."""
    assert isinstance(gate.terms, Rate)
    return (
        f"x-ratelimit-limit-{what}: {round(gate.terms.per_s * 60)}\r\n"
        f"x-ratelimit-remaining-{what}: %d\r\n"
        f"x-ratelimit-reset-{what}: %dms\r\n"
    ).encode()
