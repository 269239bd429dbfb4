"""A second copy of a request whose first is silent for longer than usual: whoever answers first serves.

Only before the first byte, only in the first copy's tier, and at the expense of the retry budget. The loser is ended
at once, and both are recorded.
"""

from math import inf
from time import monotonic

from router.base.errors import RouterError
from router.model.plan import Permit
from router.proxy.answer import Answer
from router.proxy.asking import ask
from router.proxy.backend import Target
from router.proxy.choice import choose_hedge
from router.proxy.context import Attempt, Context
from router.proxy.ending import begin_attempt, first_byte_came
from router.proxy.failures import HedgeLostError
from router.proxy.runtime import Runtime
from router.transport.fiber import Branch


async def ask_hedged(ctx: Context, rt: Runtime, target: Target, permit: Permit) -> Answer:
    """Like one `ask`, with a second one beside it where the first is late. Raises the error of the last that failed."""
    assert ctx.plan is not None
    assert ctx.facts is not None
    hedging = ctx.plan.traffic.hedging
    assert hedging is not None
    if not ctx.attempts:
        hedging.request(monotonic())
    race = _Race(ctx, rt)
    race.enter(target, permit)
    wait_s = hedging.after_s(target.meter, ctx.facts.stream)
    hedge_at = monotonic() + wait_s if wait_s is not None else inf
    try:
        while race.winner is None:
            now = monotonic()
            if now >= hedge_at:
                hedge_at = inf
                race.hedge(now)
            await ctx.inbound.park(min(race.deadline, hedge_at), _nothing)
            race.step(monotonic())
    except BaseException as error:
        race.end(error)
        raise
    attempt, answer = race.winner
    race.end(lost := HedgeLostError("The other copy of the request was faster."))
    lost.__traceback__ = None  # it leads to frames that hold it: a cycle that only the collector would end
    ctx.attempt, ctx.hedge = attempt, None
    first_byte_came(ctx, attempt)
    return answer


class _Race:
    """The copies of one request that are under way."""

    def __init__(self, ctx: Context, rt: Runtime) -> None:
        self._ctx, self._rt = ctx, rt
        self._running: dict[Branch[Answer], Attempt] = {}
        self.winner: tuple[Attempt, Answer] | None = None

    @property
    def deadline(self) -> float:
        return min((branch.deadline for branch in self._running), default=inf)

    def enter(self, target: Target, permit: Permit, *, hedge: bool = False) -> None:
        """Asks one more. Raises its error where it fails at once, and no other runs."""
        ctx = self._ctx
        attempt = begin_attempt(ctx, target, monotonic())
        attempt.hedge = hedge
        if hedge:
            ctx.hedge = attempt
        else:
            ctx.attempt = attempt
        branch: Branch[Answer] = Branch()
        self._running[branch] = attempt
        branch.start(ask(ctx, self._rt, attempt, permit, branch))
        self._collect(branch)

    def hedge(self, now: float) -> None:
        """Sends the second copy, where the first is silent and everything allows it."""
        ctx, plan = self._ctx, self._ctx.plan
        assert plan is not None
        first = ctx.attempt
        if first is None or (first.answer is not None and first.answer.head is not None):
            return
        if not ctx.budget.allows_another or plan.traffic.retries.left(now) < 1.0:
            return
        permit = self._rt.permit(ctx)
        target = choose_hedge(ctx, permit, now, plan.queue if self._rt.waiting.count else None)
        hedging = plan.traffic.hedging
        assert hedging is not None
        if target is not None and hedging.spend(now):
            plan.traffic.retries.spend(now)
            plan.traffic.hedged += 1
            self.enter(target, permit, hedge=True)

    def step(self, now: float) -> None:
        """Lets every copy look at its condition again. Raises the error of the last one where all have failed."""
        for branch in tuple(self._running):
            if self.winner is None:
                branch.step(now)
                self._collect(branch)

    def end(self, error: BaseException) -> None:
        """Ends what still runs."""
        running, self._running = self._running, {}
        for branch in running:
            branch.throw(error)

    def _collect(self, branch: Branch[Answer]) -> None:
        if not branch.finished:
            return
        attempt = self._running.pop(branch)
        if branch.failure is None:
            assert branch.result is not None
            self.winner = attempt, branch.result
            return
        if not self._running or not isinstance(branch.failure, RouterError):
            raise branch.failure
        self._ctx.budget.failed(branch.failure.retry)  # the other copy goes on: this send is counted here
        branch.failure.__traceback__ = None  # as of one that has lost


def _nothing() -> None:
    """Passing the deadline is a wake like any other: whose it was is found out by looking."""
