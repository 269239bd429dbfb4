"""Reads the load of a self-hosted engine from its Prometheus page: requests that run and wait, and the KV cache in use.

What a page does not say is unknown, never zero: an engine that hides its gauges would look idle.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """One reading; None: the page did not say. `at`: monotonic seconds."""

    running: float | None = None  # requests in the batch, over all data-parallel engines
    waiting: float | None = None  # requests queued, likewise
    kv_used: float | None = None  # share of the KV cache, 0 to 1, on average over the engines
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Names:
    """What an engine calls its gauges, all spellings that its versions have had, the newest first."""

    running: tuple[str, ...]
    waiting: tuple[str, ...]
    kv_used: tuple[str, ...]


def _vllm(prefix: str) -> Names:
    return Names(
        (f"{prefix}num_requests_running",),
        (f"{prefix}num_requests_waiting",),
        (f"{prefix}kv_cache_usage_perc", f"{prefix}gpu_cache_usage_perc"),  # the second one before 0.9
    )


_VLLM: Final = _vllm("vllm:")
_BARE: Final = _vllm("")
ENGINES: Final[Mapping[str, Names]] = MappingProxyType(
    {
        "vllm": _VLLM,
        "sglang": Names(  # an underscore in place of the colon from 0.5.4 on
            ("sglang_num_running_reqs", "sglang:num_running_reqs"),
            ("sglang_num_queue_reqs", "sglang:num_queue_reqs"),
            ("sglang_token_usage", "sglang:token_usage"),
        ),
        "nim": Names(  # 1.x without a prefix, 2.x is vLLM
            _VLLM.running + _BARE.running, _VLLM.waiting + _BARE.waiting, _VLLM.kv_used + _BARE.kv_used
        ),
    }
)


def read_gauges(text: str, engine: str, at: float = 0.0) -> EngineLoad:
    """Reads a page in Prometheus' text format. `engine`: a key of `ENGINES`. Never raises for what a page holds."""
    found: dict[str, list[float]] = {}
    for sample in _SAMPLES[engine].finditer(text):
        found.setdefault(sample["name"], []).append(_number(sample["value"]))
    names = ENGINES[engine]
    kv_used = _first(found, names.kv_used)
    mean = sum(kv_used) / len(kv_used) if kv_used else None
    return EngineLoad(
        _total(_first(found, names.running)),
        _total(_first(found, names.waiting)),
        min(mean, 1.0) if mean is not None else None,
        at,
    )


def _first(found: Mapping[str, list[float]], names: tuple[str, ...]) -> list[float]:
    """The samples of the first name that the page has; none where one of them is no count."""
    values = next((found[name] for name in names if name in found), [])
    return values if all(math.isfinite(value) and value >= 0 for value in values) else []


def _total(values: list[float]) -> float | None:
    return sum(values) if values else None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _pattern(names: Names) -> re.Pattern[str]:
    """A line with one of these samples. A page has thousands of others, which no Python code looks at one by one."""
    either = "|".join(map(re.escape, (*names.running, *names.waiting, *names.kv_used)))
    labels = r'\{(?:[^"}\n]|"(?:[^"\\\n]|\\.)*")*\}'
    return re.compile(rf"^(?P<name>{either})[ \t]*(?:{labels})?[ \t]+(?P<value>\S+)", re.MULTILINE)


_SAMPLES: Final = {engine: _pattern(names) for engine, names in ENGINES.items()}
