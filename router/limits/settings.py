"""What an operator may set about limits."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """The defaults suit a deployment that nobody has measured yet."""

    adaptive: bool = True  # learn how many requests a deployment takes at one time
    concurrency_start: int = 1000
    concurrency_min: int = 4
    waiting_max: int = 1000  # requests in the waiting room
    quota_twin: bool = True  # predict an Azure deployment's 429s
