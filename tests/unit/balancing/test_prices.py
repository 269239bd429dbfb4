"""List prices, and what a request costs to the nano-dollar."""

import pytest

from router.balancing.prices import cost_nano_usd, list_price
from router.model.fleet import Price

GPT_4O = Price(2_500_000_000, 10_000_000_000, 1_250_000_000)


def test_an_azure_deployment_may_have_any_name() -> None:
    assert list_price("azure_openai", "gpt-4o", "our-gpt") == GPT_4O


def test_what_the_endpoint_calls_it_comes_first() -> None:
    """A data zone's deployment costs more than the model does elsewhere."""
    price = list_price("azure_openai", "gpt-4o", "eu/gpt-4o-2024-11-20")
    assert price is not None
    assert price.prompt_nano_usd_per_mtok > GPT_4O.prompt_nano_usd_per_mtok


def test_another_model_behind_a_clients_name_has_no_price() -> None:
    assert list_price("openai", "gpt-4o", "llama-4-70b") is None
    assert list_price("openai", "gpt-4o", "gpt-4o") == GPT_4O


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ("oci", "openai.gpt-5"),
        ("bedrock", "amazon.nova-lite-v1:0"),
        ("vertex", "google/gemini-2.5-flash"),
        ("vertex", "gemini-2.5-flash"),
        ("azure_openai", "GPT-4O"),
    ],
)
def test_every_dialect_has_a_list(provider: str, name: str) -> None:
    price = list_price(provider, "", name)
    assert price is not None
    assert price.completion_nano_usd_per_mtok >= price.prompt_nano_usd_per_mtok > 0


def test_who_is_not_listed_has_no_price() -> None:
    assert list_price("nobody", "gpt-4o", "gpt-4o") is None
    assert list_price("azure_openai", "unheard-of", "unheard-of") is None


def test_cached_tokens_have_their_own_price() -> None:
    assert cost_nano_usd(GPT_4O, prompt=1000, completion=100, cached=400) == 600 * 2500 + 400 * 1250 + 100 * 10_000


def test_more_cached_tokens_than_there_are_in_the_prompt_never_cost_less_than_nothing() -> None:
    """The total is a counter, which must not fall."""
    assert cost_nano_usd(GPT_4O, prompt=10, completion=0, cached=1000) == 10 * 1250


def test_without_one_they_cost_what_others_do() -> None:
    price = Price(3_000_000_000, 0)
    assert cost_nano_usd(price, 10, 0, cached=7) == cost_nano_usd(price, 10, 0) == 30_000


@pytest.mark.parametrize(("tokens", "cost"), [(1, 0), (2, 1), (3, 1), (5, 1), (6, 2), (10, 3)])
def test_halves_are_rounded_up(tokens: int, cost: int) -> None:
    """At a quarter of a nano-dollar each: 2 tokens come to a half, 5 to 1.25, 10 to 2.5."""
    assert cost_nano_usd(Price(250_000, 0), tokens, 0) == cost
