"""Entries as a router makes them: a day of two kinds of traffic, over some keys, models and clouds."""

import random
from collections.abc import Iterator
from typing import Final

from msgspec.structs import replace

from router.model.outcome import AttemptRecord, RequestRecord, Usage

KEYS: Final = 100
_PLACES: Final = (
    ("azure", "azure-eastus2", "azure-eastus2/gpt-4o-ptu", "gpt-4o"),
    ("azure", "azure-eastus2", "azure-eastus2/gpt-4o-std", "gpt-4o"),
    ("azure", "azure-sweden", "azure-sweden/gpt-4o-std", "gpt-4o"),
    ("azure", "azure-sweden", "azure-sweden/gpt-4o-mini", "gpt-4o-mini"),
    ("oracle", "oci-chicago", "oci-chicago/llama-70b", "llama-70b"),
    ("coreweave", "coreweave-ord", "coreweave-ord/llama-70b", "llama-70b"),
)
_PRICE: Final = "0123456789ab"
_RETRIED: Final = 0.02  # of requests, that were answered at the second attempt


def entries(count: int, since: float, until: float, seed: int = 1) -> Iterator[RequestRecord]:
    """So many requests, evenly over a time (wall seconds), by the ids of one process."""
    rng = random.Random(seed)
    prefix = f"req_{rng.getrandbits(48):012x}-"
    for number in range(1, count + 1):
        yield _request(rng, f"{prefix}{number}", since + (until - since) * number / count)


def _request(rng: random.Random, name: str, at: float) -> RequestRecord:
    cloud, endpoint, deployment, model = _PLACES[int(rng.random() * len(_PLACES))]
    internal = model == "llama-70b"
    usage = Usage(int(rng.random() * 4000), int(rng.random() * 800))
    total_ms = 400 + 2000 * rng.random()
    cost_nano_usd = usage.prompt_tokens * 2500 + usage.completion_tokens * 10_000
    served = AttemptRecord(
        deployment,
        cloud,
        "served",
        200,
        reused=True,
        first_byte_ms=150.0 * rng.random(),
        waited_ms=total_ms,
        upstream_request_id=f"{rng.getrandbits(128):032x}",
        began_ms=0.25,
        usage=usage,
        cost_nano_usd=cost_nano_usd,
        price=_PRICE,
    )
    lost = replace(served, outcome="broken", usage=Usage(usage.prompt_tokens), estimated=True)
    attempts = (lost, served) if rng.random() < _RETRIED else (served,)
    workload, plan = ("internal", "first_refusal:azure") if internal else ("api", "exclusive:azure")
    return RequestRecord(
        name,
        at,
        "ok",
        200,
        total_ms,
        key=f"key-{int(rng.random() * KEYS)}",
        workload=workload,
        model=model,
        operation="chat",
        plan=plan,
        rule_version=_PRICE,
        stream=True,
        served_by=deployment,
        cloud=cloud,
        attempts=attempts,
        first_byte_ms=151.5,
        overhead_ms=0.125,
        bytes_in=1024,
        bytes_out=6000,
        usage=usage,
        cost_nano_usd=cost_nano_usd,
        first_token_ms=160.5,
        endpoint=endpoint,
    )
