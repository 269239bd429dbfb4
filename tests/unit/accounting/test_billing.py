"""What an attempt billed that never said so: the prompt once it was taken, and what had come of the answer."""

import pytest

from router.accounting.billing import presumed_usage, prompt_filtered
from router.model.fleet import Price
from router.model.outcome import Usage


@pytest.mark.parametrize(
    ("outcome", "status", "billed"),
    [
        ("client_gone", 200, Usage(100, 7)),
        ("broken", 200, Usage(100, 7)),
        ("timeout", 200, Usage(100, 7)),
        ("served", 200, Usage(100, 7)),  # an upstream that does not report
        # No head came, but it was at work: a refusal comes at once.
        ("client_gone", 0, Usage(100, 7)),
        ("hedge_lost", 0, Usage(100, 7)),
        ("slow", 0, Usage(100, 7)),
        ("timeout", 0, Usage(100, 7)),
        # Nothing was done.
        ("broken", 0, None),
        ("stale", 0, None),
        ("connect", 0, None),
        ("withdrawn", 0, None),
        ("violation", 0, None),
        ("throttled", 429, None),
        ("overloaded", 503, None),
        ("server_error", 500, None),
        ("answered", 400, None),
        ("hedge_lost", 503, None),
    ],
)
def test_what_was_taken_is_billed_and_what_was_refused_is_not(outcome: str, status: int, billed: Usage | None) -> None:
    assert presumed_usage("chat", outcome, status, 100, 7) == billed


@pytest.mark.parametrize("operation", ["speech", "transcriptions", "images_generations", "moderations"])
def test_what_is_not_billed_by_its_text_is_not_guessed(operation: str) -> None:
    assert presumed_usage(operation, "served", 200, 100, 0) is None


@pytest.mark.parametrize(
    ("body", "filtered"),
    [
        (b'{"error":{"message":"...","param":"prompt","code":"content_filter","status":400}}', True),
        (b'{"error": {"code" : "content_filter"}}', True),
        (b'{"error":{"message":"no content_filter of mine","code":"invalid_value"}}', False),
        (b"", False),
    ],
)
def test_a_filtered_prompt_is_told_by_its_code(body: bytes, filtered: bool) -> None:
    assert prompt_filtered(body) is filtered


def test_a_prices_version_is_a_name_for_its_figures() -> None:
    """It stands in the ledger for years: what it is may not change."""
    assert Price(2_500, 10_000, 1_250).version == Price(2_500, 10_000, 1_250).version
    assert len({Price(*figures).version for figures in ((1, 2), (2, 1), (1, 2, 0), (1, 2, 1), (12, 0))}) == 5
    assert Price(2_500_000_000, 10_000_000_000, 1_250_000_000).version == "3bc18dcb7861"
