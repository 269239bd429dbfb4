"""What tokens cost. List prices are a default that the configuration overrides; agreements are not in them."""

from functools import cache
from importlib.resources import files

import msgspec

from router.model.fleet import Price
from router.model.outcome import Usage

_MTOK = 1_000_000


def list_price(provider: str, model: str, deployment_name: str) -> Price | None:
    """The list price at `provider` (a dialect), or None where there is none. Reads its data at the first call.

    What the endpoint calls it decides. An Azure deployment may have any name, so there the model is looked up as well;
    elsewhere clients may ask for `gpt-4o` and get another model, whose price is not known.
    """
    listed = _listed().get(provider, {})
    names = [deployment_name, model] if provider == "azure_openai" else [deployment_name]
    if provider == "vertex":
        names.append(deployment_name.partition("/")[2])  # publisher/model, where the list has the model alone
    for name in names:
        figures = listed.get(name.lower())
        if figures is not None:
            return Price(*figures)
    return None


def cost_nano_usd(price: Price, prompt: int, completion: int, cached: int = 0) -> int:
    """The cost of so many tokens, rounded half up to whole nano-dollars. `cached`: those of `prompt` that were."""
    if cached > prompt:  # some upstreams count them beside the prompt, and what was served has never cost less than 0
        cached = prompt
    cached_price = price.cached_nano_usd_per_mtok
    if cached_price is None:
        cached_price = price.prompt_nano_usd_per_mtok
    total = (
        (prompt - cached) * price.prompt_nano_usd_per_mtok
        + cached * cached_price
        + completion * price.completion_nano_usd_per_mtok
    )
    return (total + _MTOK // 2) // _MTOK


def spoken_cost_nano_usd(price: Price, usage: Usage) -> int:
    """The cost of tokens of which some are audio, each kind by its own price. Rounded once a kind."""
    audio, audio_cached = usage.audio_prompt_tokens, min(usage.audio_cached_tokens, usage.audio_prompt_tokens)
    audio = min(audio, usage.prompt_tokens)
    audio_completion = min(usage.audio_completion_tokens, usage.completion_tokens)
    prompt_price = _or(price.audio_prompt_nano_usd_per_mtok, price.prompt_nano_usd_per_mtok)
    cached_price = price.audio_cached_nano_usd_per_mtok
    if cached_price is None and price.audio_prompt_nano_usd_per_mtok is None:
        cached_price = price.cached_nano_usd_per_mtok
    completion_price = _or(price.audio_completion_nano_usd_per_mtok, price.completion_nano_usd_per_mtok)
    by_audio = Price(prompt_price, completion_price, cached_price)
    text = cost_nano_usd(
        price,
        usage.prompt_tokens - audio,
        usage.completion_tokens - audio_completion,
        max(0, usage.cached_tokens - audio_cached),
    )
    return text + cost_nano_usd(by_audio, audio, audio_completion, audio_cached)


def _or(price: int | None, other: int) -> int:
    return price if price is not None else other


@cache
def _listed() -> dict[str, dict[str, tuple[int, ...]]]:
    data = files("router.balancing").joinpath("model_prices.json").read_bytes()
    return msgspec.json.decode(data, type=dict[str, dict[str, tuple[int, ...]]])
