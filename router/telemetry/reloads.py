"""The reloads of one router: each is counted, and told to the log."""

from collections.abc import Callable, Sequence
from typing import Final

from router.telemetry import names
from router.telemetry.reading import Labels, Number, Numbers

REASONS: Final = ("faults", "restart", "worker")
"""Why one is refused: the new configuration has faults, changes what only a restart can, or is none for a worker."""


class Reloads:
    """Since the start."""

    def __init__(self, event: Callable[..., None]) -> None:
        self.event = event
        self._ok = 0
        self._refused = dict.fromkeys(REASONS, 0)

    def refused(self, reason: str, version: str, faults: Sequence[str]) -> None:
        """`version`: of the configuration that stays in force."""
        self._refused[reason] += 1
        self.event("reload_refused", config_version=version, reason=reason, faults=faults)

    def adopted(self, version: str, was: str, changes: int, loosened: Sequence[str]) -> None:
        """`loosened`: the workloads and keys whose exclusive traffic may go further than before."""
        self._ok += 1
        self.event("reloaded", config_version=version, was=was, changes=changes, exclusive_loosened=loosened)

    def numbers(self) -> Numbers:
        counts: dict[Labels, Number] = {("refused", reason): count for reason, count in self._refused.items()}
        return {names.RELOADS.name: {("ok", ""): self._ok} | counts}
