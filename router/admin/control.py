"""What the control plane needs of the router that it controls."""

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from router.admin.keys import KeyOffice
from router.config.changes import RESTART
from router.config.compare import Comparison
from router.config.faults import Fault
from router.telemetry.reading import Reading
from router.telemetry.reloads import Reloads


class Refusal(enum.Enum):
    """Why the old configuration stays in force: `telemetry.reloads.REASONS`."""

    FAULTS = "faults"  # of the new one
    RESTART = "restart"  # it is good, and changes what only a restart can change
    WORKER = "worker"  # one could not take it over


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """`version`: of the configuration in force after the reload, which is the old one where there is a `refusal`.

    `changed`: what the new one changes; None where it is refused.
    """

    version: str
    refusal: Refusal | None = None
    faults: tuple[Fault, ...] = ()
    changed: Comparison | None = None

    @property
    def ok(self) -> bool:
        return self.refusal is None


def refusal_of(faults: Iterable[Fault]) -> Refusal:
    """By the faults of a new configuration."""
    return Refusal.RESTART if all(fault.message == RESTART for fault in faults) else Refusal.FAULTS


def ended(result: ReloadResult, reloads: Reloads, was: str) -> ReloadResult:
    """Counts and tells it, and returns it. `was`: the version that was in force before."""
    if result.refusal is not None:
        reloads.refused(result.refusal.value, was, [str(fault) for fault in result.faults])
    elif result.changed is not None:
        loosened = [change.name for change in result.changed.loosened]
        reloads.adopted(result.version, was, len(result.changed.changes), loosened)
    return result


class ControlledRouter(Protocol):
    """The running router, as its operators see it: one process, or all of them through their supervisor.

    Called on the event loop only.
    """

    @property
    def keys(self) -> KeyOffice:
        """Clients' keys."""
        ...

    def is_ready(self) -> bool:
        """Configuration loaded, listening, not draining. An outage of a cloud does not change it."""
        ...

    async def status(self) -> dict[str, object]:
        """What can be served now and why not, as plain JSON values; never a secret."""
        ...

    async def explain(self, key: str, model: str, operation: str) -> dict[str, object]:
        """Where a request of this key's name for this model would go now, and what keeps it from elsewhere.

        Raises LookupError for a name that is not known; its text may be shown.
        """
        ...

    async def reload(self) -> ReloadResult:
        """Puts the configuration's new content in force, or keeps the old one and says why."""
        ...

    async def set_drain(self, deployment_id: str, draining: bool) -> bool:
        """Starts or ends the draining of a deployment; False where there is no such deployment."""
        ...

    async def reading(self) -> Reading:
        """All numbers, of all processes."""
        ...

    async def live(self) -> dict[str, object]:
        """The console's picture (`admin/picture.py`), as plain JSON values."""
        ...

    async def story(self, request_id: str) -> dict[str, object] | None:
        """All that is known of a request that has ended, by the router's id or its client's; None: nothing."""
        ...
