"""What the control plane needs of the router that it controls."""

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from router.admin.keys import KeyOffice
from router.config.changes import RESTART
from router.config.compare import Comparison
from router.config.faults import Fault
from router.telemetry import names
from router.telemetry.reading import Numbers, Reading


class Refusal(enum.Enum):
    """Why the old configuration stays in force."""

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


class Reloads:
    """Those of one router: each is counted, and told to the log."""

    def __init__(self, event: Callable[..., None]) -> None:
        self.event = event
        self._counts = dict.fromkeys((None, *Refusal), 0)

    def ended(self, result: ReloadResult, was: str) -> ReloadResult:
        """Returns the result. `was`: the version that was in force before."""
        self._counts[result.refusal] += 1
        if result.refusal is not None:
            faults = [str(fault) for fault in result.faults]
            self.event("reload_refused", config_version=was, reason=result.refusal.value, faults=faults)
        elif result.changed is not None:
            changes, loosened = result.changed.changes, [change.name for change in result.changed.loosened]
            self.event(
                "reloaded", config_version=result.version, was=was, changes=len(changes), exclusive_loosened=loosened
            )
        return result

    def numbers(self) -> Numbers:
        return {
            names.RELOADS.name: {
                ("refused", refusal.value) if refusal is not None else ("ok", ""): count
                for refusal, count in self._counts.items()
            }
        }


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
