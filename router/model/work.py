"""What a request will cost a deployment, as far as its body tells before anything ran."""

from typing import Protocol


class Work(Protocol):
    """Read by balancing and limits. The proxy's facts about a body are one; tests make their own."""

    @property
    def prompt_tokens(self) -> int:
        """An estimate from the body's bytes; at least 1."""
        ...

    @property
    def completion_tokens_max(self) -> int:
        """What the client allows (all choices together); 0 where it does not say."""
        ...

    @property
    def stream(self) -> bool: ...

    @property
    def affinity(self) -> int:
        """Requests that may share a prompt cache have the same number; 0: none."""
        ...
