"""The responses of one session: each takes of its key's limits like a request, and leaves a record of its own.

So costs are on time in sessions of hours, and what a client was told is in the ledger before it is told.
"""

from collections import deque
from typing import Final

from router.accounting.usage import session_usage_of
from router.balancing.prices import spoken_cost_nano_usd
from router.base.errors import LimitedError
from router.limits.estimate import COMPLETION_TOKENS_UNSAID
from router.model.outcome import AttemptRecord, RequestRecord, Usage
from router.proxy.allowance import Allowance, Gate
from router.proxy.backend import Target
from router.proxy.context import Context
from router.proxy.limiting import refusal_by
from router.proxy.realtime.events import ServerEvent
from router.proxy.runtime import Runtime

_AUDIO_BYTES_A_TOKEN: Final = 3200  # 50 ms of 24 kHz PCM16, in base64: what an audio token of an answer stands for
_FAILED: Final = frozenset({"failed"})


class Asked:
    """A response that was asked for, and what it has taken until it ends."""

    __slots__ = (
        "at",
        "completion_tokens",
        "erred",
        "event_id",
        "first_token_at",
        "money",
        "prompt_tokens",
        "stream_id",
        "taken",
        "tokens",
    )

    def __init__(self, event_id: str | None, stream_id: str | None, now: float) -> None:
        self.event_id, self.stream_id, self.at = event_id, stream_id, now
        self.erred = False  # the deployment has told an error while it ran, and may say no more of it
        self.first_token_at = 0.0
        self.prompt_tokens = 0  # an estimate,
        self.tokens = self.money = 0  # like these, which were taken
        self.completion_tokens = 0.0  # that have come, by a count of their bytes
        self.taken: list[Gate] = []


class Responses:
    """Of one session at one deployment."""

    def __init__(self, ctx: Context, rt: Runtime, target: Target, operation: str, *, errors_end: bool) -> None:
        """`operation`: as the records of responses have it. `errors_end`: an error within a response may be its end."""
        self._ctx, self._rt, self._target, self._operation = ctx, rt, target, operation
        self._errors_end = errors_end
        self._asked: deque[Asked] = deque()  # and not begun yet
        self._running: dict[str, Asked] = {}  # by id
        self._ended = ""  # the last one's id
        self._context_tokens = 0  # of the last one: what it ended with is what the next one begins with
        self._count = 0

    @property
    def busy(self) -> bool:
        """One is asked for, or runs: the deployment has something to say."""
        return bool(self._asked) or any(not asked.erred for asked in self._running.values())

    def ask(
        self, event_id: str | None, stream_id: str | None, prompt_tokens: int, completion_tokens: int, now: float
    ) -> None:
        """A client asks for one. Raises LimitedError, and then nothing was taken."""
        asked = self._new(event_id, stream_id, prompt_tokens, completion_tokens, now)
        if error := self._take(asked, now):
            raise error
        self._asked.append(asked)

    def begun(self, event: ServerEvent, now: float) -> LimitedError | None:
        """One has begun. Returns why it may not run, where no client asked for it: the deployment heard a turn end."""
        response_id = event.response.id if event.response is not None else ""
        for name in [name for name, each in self._running.items() if each.erred and each.stream_id == event.stream_id]:
            self._give_up(self._running.pop(name), "upstream_error", now)
        asked, error = self._first(event.stream_id), None
        if asked is None:
            asked = self._new(None, event.stream_id, 1, 0, now)
            error = self._take(asked, now)
        self._running[response_id] = asked
        return error

    def flowed(self, event_type: str, size: int, now: float) -> None:
        """Something of an answer has come: `size` bytes."""
        for asked in self._running.values():  # almost always one
            asked.first_token_at = asked.first_token_at or now
            spoken = "audio" in event_type and "transcript" not in event_type
            asked.completion_tokens += size / _AUDIO_BYTES_A_TOKEN if spoken else 1
            break

    def refused(self, event: ServerEvent, now: float) -> None:
        """The deployment tells an error. A response that it refuses by that has taken nothing."""
        event_id = event.error.event_id if event.error is not None else None
        for asked in self._asked:
            if asked.stream_id == event.stream_id and asked.event_id == event_id:
                self._asked.remove(asked)
                self._give_back(asked, now)
                return
        if self._errors_end:
            for asked in self._running.values():
                asked.erred = asked.erred or asked.stream_id == event.stream_id

    def done(self, event: ServerEvent, now: float) -> None:
        """One has ended: settled, and written down before anybody is told."""
        response = event.response
        if response is None or response.id == self._ended:
            return
        self._ended = response.id
        asked = self._running.pop(response.id, None) or self._first(event.stream_id)
        if asked is None:  # its begin was not told, or by another id
            asked = self._new(None, event.stream_id, 1, 0, now)
        usage = session_usage_of(response.usage)
        if usage is not None:
            self._context_tokens = usage.prompt_tokens + usage.completion_tokens
        failed = response.status in _FAILED
        self._settle(asked, usage, "upstream_error" if failed else "ok", "server_error" if failed else "served", now)

    def cut(self, outcome: str, now: float) -> None:
        """The session is over. `outcome`: of its request."""
        while self._asked:
            self._give_back(self._asked.popleft(), now)
        while self._running:
            asked = self._running.popitem()[1]
            self._give_up(asked, "upstream_error" if asked.erred else outcome, now)

    def _give_up(self, asked: Asked, outcome: str, now: float) -> None:
        """No more will come of it: settled by what has come."""
        attempt = {"client_gone": "client_gone", "upstream_error": "server_error"}.get(outcome, "broken")
        usage = Usage(asked.prompt_tokens, round(asked.completion_tokens))
        self._settle(asked, usage, outcome, attempt, now, estimated=True)

    def _first(self, stream_id: str | None) -> Asked | None:
        """Takes out what was asked for first and has not begun."""
        asked = next((each for each in self._asked if each.stream_id == stream_id), None)
        if asked is not None:
            self._asked.remove(asked)
        return asked

    def _new(
        self, event_id: str | None, stream_id: str | None, prompt_tokens: int, completion_tokens: int, now: float
    ) -> Asked:
        asked = Asked(event_id, stream_id, now)
        asked.prompt_tokens = max(prompt_tokens, self._context_tokens)
        asked.tokens = asked.prompt_tokens + (completion_tokens or COMPLETION_TOKENS_UNSAID)
        return asked

    def _allowance(self) -> Allowance | None:
        key = self._ctx.caller.key
        assert key is not None
        return self._rt.limits.allowance(key)

    def _take(self, asked: Asked, now: float) -> LimitedError | None:
        """Takes what it will use, of all its gates or of none. Returns why it may not."""
        allowance = self._allowance()
        if allowance is None:
            return None
        charge = self._rt.limits.charge_of(self._ctx, allowance)
        rates = [gate for gate in (*allowance.arrival, *charge.arrival) if gate.limit == "rpm"]
        asked.money = charge.cost_nano_usd(asked.prompt_tokens, asked.tokens - asked.prompt_tokens)
        for gate in (*rates, *charge.tokens, *charge.money):
            units = _units(gate, asked.tokens, asked.money)
            wait_s = gate.take(units, now)
            if wait_s < 0.0:
                self._rt.limits.owe(gate, units, now)
            elif wait_s and gate.shadow:
                gate.shadowed += 1
                continue
            elif wait_s:
                self._give_back(asked, now)
                return refusal_by(gate, wait_s)
            asked.taken.append(gate)
        return None

    def _give_back(self, asked: Asked, now: float) -> None:
        for gate in asked.taken:
            gate.put(_units(gate, asked.tokens, asked.money), now)
        asked.taken.clear()

    def _settle(
        self, asked: Asked, usage: Usage | None, outcome: str, attempt: str, now: float, *, estimated: bool = False
    ) -> None:
        target = self._target
        price = target.price
        cost = spoken_cost_nano_usd(price, usage) if price is not None and usage is not None else 0
        used = usage.prompt_tokens + usage.completion_tokens if usage is not None else 0
        allowance = self._allowance()
        if asked.taken:
            for gate in asked.taken:
                if gate.limit != "rpm":
                    gate.put(_units(gate, asked.tokens - used, asked.money - cost), now)
        elif allowance is not None:  # it ran all the same: a debt
            charge = self._rt.limits.charge_of(self._ctx, allowance)
            for gate in (*charge.tokens, *charge.money):
                gate.put(-_units(gate, used, cost), now)
        twin = target.backend.quota.twin
        if twin is not None:
            twin.charge(used, now)
        self._rt.books.request(self._record(asked, usage, cost, outcome, attempt, now, estimated=estimated))

    def _record(
        self, asked: Asked, usage: Usage | None, cost: int, outcome: str, attempt: str, now: float, *, estimated: bool
    ) -> RequestRecord:
        ctx, target = self._ctx, self._target
        key, plan = ctx.caller.key, ctx.plan
        assert key is not None
        assert plan is not None
        self._count += 1
        deployment, cloud, endpoint, _ = target.serves
        model, _, reason, rule_version = plan.labels
        total_s = now - asked.at
        first_ms = (asked.first_token_at - asked.at) * 1000 if asked.first_token_at else 0.0
        price = target.price_version if usage is not None else ""
        return RequestRecord(
            id=f"{ctx.id}.{self._count}",
            at=self._rt.clock.wall() - total_s,
            outcome=outcome,
            status=200,
            total_ms=total_s * 1000,
            client_request_id=ctx.caller.client_id,
            key=key.name,
            workload=key.workload,
            model=model,
            operation=self._operation,
            plan=reason,
            rule_version=rule_version,
            stream=True,
            served_by=deployment,
            cloud=cloud,
            attempts=(
                AttemptRecord(
                    deployment=deployment,
                    cloud=cloud,
                    outcome=attempt,
                    status=200,
                    reused=True,
                    first_byte_ms=first_ms,
                    waited_ms=total_s * 1000,
                    usage=usage,
                    estimated=estimated,
                    cost_nano_usd=cost,
                    price=price,
                ),
            ),
            first_byte_ms=first_ms,
            usage=usage,
            trace_id=ctx.caller.trace_id,
            cost_nano_usd=cost,
            first_token_ms=first_ms,
            endpoint=endpoint,
        )


def _units(gate: Gate, tokens: float, money: float) -> float:
    return 1.0 if gate.limit == "rpm" else tokens if gate.limit == "tpm" else money
