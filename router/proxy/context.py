"""All that one request is, from its head to its last byte."""

from collections.abc import Mapping
from math import inf
from typing import Final

from router.accounting.billing import presumed_usage, prompt_filtered
from router.base.errors import RouterError
from router.config.snapshot import Snapshot
from router.limits.fair import Share
from router.model.decision import Offer
from router.model.keys import ApiKey
from router.model.outcome import AttemptRecord, Usage
from router.proxy.allowance import Allowance, Charge, Gates
from router.proxy.answer import Answer
from router.proxy.backend import Target
from router.proxy.facts import Facts
from router.proxy.fleet import LivePlan
from router.proxy.surface import Ask
from router.resilience.attempts import AttemptBudget
from router.telemetry.trace_context import Parent, Trace
from router.transport.inbound import Inbound


class Attempt:
    """One deployment being asked. It ends once, with an outcome in the words of `AttemptRecord`."""

    __slots__ = (
        "answer",
        "began",
        "completion_tokens",
        "connect_s",
        "health_permit",
        "hedge",
        "reused",
        "span_id",
        "target",
        "tls_s",
        "tokens",
    )

    def __init__(self, target: Target, tokens: float, health_permit: int, now: float) -> None:
        self.target = target
        self.tokens = tokens  # its outstanding work, as the deployment's meter has it
        self.completion_tokens = 0.0  # of them those of a stream's answer, once it flows
        self.health_permit = health_permit
        self.began = now
        self.reused = False
        self.connect_s = self.tls_s = 0.0  # of the dial that it waited for
        self.hedge = False  # a second copy, sent while the first was silent
        self.span_id = ""  # where the request is traced
        self.answer: Answer | None = None

    def record(self, outcome: str, now: float, arrived_at: float, prompt_tokens: int) -> AttemptRecord:
        """What became of it, and what it most likely billed. `arrived_at`: the request; `prompt_tokens`: an estimate.

        Both moments in monotonic seconds.
        """
        answer, target = self.answer, self.target
        head, first_byte_at, usage, estimated = None, 0.0, None, False
        if answer is not None:
            head, first_byte_at, usage = answer.head, answer.first_byte_at, answer.usage()
            if usage is None:
                usage = _presumed(answer, outcome, prompt_tokens)
                estimated = usage is not None
        began = self.began
        return AttemptRecord(  # by place, as the request's record is
            target.id,
            target.cloud,
            outcome,
            head.status if head is not None else 0,
            self.reused,
            (first_byte_at - began) * 1000 if first_byte_at else 0.0,
            (now - began) * 1000,
            _request_id(head.fields) if head is not None else "",
            self.hedge,
            self.connect_s * 1000,
            self.tls_s * 1000,
            (began - arrived_at) * 1000,
            self.span_id,
            usage,
            estimated,
            target.cost_nano_usd(usage) if usage is not None else 0,
            target.price_version if usage is not None else "",
        )


class Caller:
    """What follows from a request's head alone. Kept with the head, and good while the configuration is the same.

    It is filled in as the head is read; what an error leaves out is as it stands on the class.
    """

    key: ApiKey | None = None
    ask: Ask | None = None
    client = ""  # its address, where the log is to have it
    patience_s = inf  # how long it waits without a byte, as an SDK says it
    reveal = False  # it may see who served it
    parent: Parent | None = None  # the span that the client was in
    trace_id = ""
    up_lines = b""  # the header lines that go up
    allowance: Allowance | None = None  # what limits its key; None: nothing does

    def __init__(self, snapshot: Snapshot | None, client_id: str) -> None:
        self.snapshot = snapshot
        self.client_id = client_id  # the client's own id for its request, or empty
        self.plans: dict[str, LivePlan] = {}  # by the model's name as its requests wrote it


NOBODY: Final = Caller(None, "")


class Context:
    """The state of a request; `lifecycle.serve` fills it in, phase by phase.

    What stands on the class is how every request begins: most change little of it.
    """

    trace: Trace | None = None  # where this request is traced
    facts: Facts | None = None
    tokens = 0  # what it most likely costs, prompt and completion
    admitted: Allowance | None = None  # has taken what an arrival takes of these limits, until `settle`,
    charged: Charge | None = None  # and what its body takes,
    reserved_nano_usd = 0  # of which this is the money,
    untaken: Gates = ()  # but for what it takes of these: they only count
    plan: LivePlan | None = None
    _budget: AttemptBudget | None = None
    holder_failures = 0
    left_holder = False  # its refusals are recorded: other clouds may be asked
    tier = 0  # of the attempt that runs
    wait_until = 0.0  # monotonic seconds: the end of its time in the waiting room; 0: it never waited
    queued_s = 0.0
    turn: Share | None = None  # what its tokens were counted for, where others wait
    attempt: Attempt | None = None  # the one that runs
    hedge: Attempt | None = None  # its second copy
    answer: Answer | None = None
    status = 0  # what the client was sent
    error: RouterError | None = None

    def __init__(self, request_id: str, inbound: Inbound, snapshot: Snapshot) -> None:
        self.id = request_id
        self.caller = NOBODY
        self.inbound = inbound
        self.snapshot = snapshot  # the configuration that the request began with
        self.total_at = inbound.started_at + snapshot.timeouts.total_s
        self.attempts: list[AttemptRecord] = []  # that have ended
        self.tried: list[Target] = []
        self.refusals: dict[Target, str] = {}  # why each that was passed over, or asked in vain, did not serve

    @property
    def budget(self) -> AttemptBudget:
        """What may still be tried. Made when the first attempt fails: most never do."""
        if self._budget is None:
            self._budget = AttemptBudget(single_send=self.facts is not None and self.facts.stores)
        return self._budget

    @property
    def operation_name(self) -> str:
        ask = self.caller.ask
        return ask.name if ask is not None else ""

    def refused_offers(self) -> tuple[Offer, ...]:
        """Every deployment that this request was offered to and that did not serve it, in order."""
        offers = tuple(Offer(target.id, target.cloud, why) for target, why in self.refusals.items())
        plan = self.plan
        if plan is not None and plan.holder and not plan.holder_tiers:
            return (Offer("", plan.holder, "no_deployment"), *offers)
        return offers

    def refused_for_certain(self, refusals: tuple[Offer, ...]) -> tuple[Offer, ...]:
        """Those of `refusals` that prove something: before the holder was left, another cloud was offered nothing.

        A look at it found that it would not serve either. Had it been asked all the same, it stays: that is for an
        auditor to see.
        """
        plan = self.plan
        if plan is None or not plan.holder or self.left_holder:
            return refusals
        asked = {target.id for target in self.tried}
        return tuple(offer for offer in refusals if offer.cloud == plan.holder or offer.deployment in asked)


def _presumed(answer: Answer, outcome: str, prompt_tokens: int) -> Usage | None:
    """What an answer billed that did not say so."""
    if answer.in_error:
        return None  # an error in place of the first content is a refusal, whatever its head said
    status = answer.head.status if answer.head is not None else 0
    if status == 400 and prompt_filtered(answer.held_body()):
        return Usage(prompt_tokens)
    return presumed_usage(answer.target.operation.name, outcome, status, prompt_tokens, answer.tokens_so_far())


def _request_id(fields: Mapping[bytes, bytes]) -> str:
    """The upstream's own id of its answer, for its support; cut, since it goes into logs."""
    value = fields.get(b"apim-request-id") or fields.get(b"x-request-id")
    return value[:128].decode("latin-1") if value is not None else ""
