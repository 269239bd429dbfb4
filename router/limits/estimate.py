"""What a request counts for when it arrives, before anybody knows how long its answer will be."""

from typing import Final

from router.model.work import Work

COMPLETION_TOKENS_UNSAID: Final = 16
"""Azure's documented default of `max_tokens`. Newer models count more; the twin learns by how much."""


def tokens_of(work: Work) -> int:
    """The prompt's estimate and the most that the answer may have: Azure charges both on arrival, not what it bills."""
    return work.prompt_tokens + (work.completion_tokens_max or COMPLETION_TOKENS_UNSAID)
