"""What a request counts for on arrival."""

from dataclasses import dataclass

from router.limits.estimate import COMPLETION_TOKENS_UNSAID, tokens_of


@dataclass
class Asked:
    prompt_tokens: int
    completion_tokens_max: int
    stream: bool = False
    affinity: int = 0


def test_the_prompt_and_the_most_that_may_be_answered() -> None:
    assert tokens_of(Asked(100, 400)) == 500


def test_where_the_client_does_not_say_the_documented_default_counts() -> None:
    assert tokens_of(Asked(100, 0)) == 100 + COMPLETION_TOKENS_UNSAID
