"""What a self-hosted engine answers beside its API: is it alive, and how busy it is. As vLLM, SGLang and NIM do.

The pages want no credential. They show the requests that this cloud is answering: the first `slots` of them as running,
the rest as waiting, although nothing here makes them wait.
"""

from collections.abc import Callable, Mapping
from typing import Final

from router.emulator.answer import Answer
from router.emulator.received import Request
from router.emulator.service import Handled

SLOTS: Final = 64
_HEALTH: Final[Mapping[str, tuple[str, ...]]] = {
    "vllm": ("/health",),
    "sglang": ("/health", "/health_generate"),
    "nim": ("/v1/health/ready", "/v1/health/live"),
}
ENGINES: Final = tuple(_HEALTH)
_METRICS: Final[Mapping[str, str]] = {"vllm": "/metrics", "sglang": "/metrics", "nim": "/v1/metrics"}
_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Engine:
    """One cloud's. `busy` counts the requests that it is answering."""

    def __init__(self, kind: str, model: str, busy: Callable[[], int]) -> None:
        self.kind, self.slots = kind, SLOTS
        self._model, self._busy = model, busy

    def handle(self, request: Request) -> Handled | None:
        """The answer to a question about the engine; None: it is about something else."""
        if request.method != "GET":
            return None
        if request.path in _HEALTH[self.kind]:
            # vLLM says nothing but 200; NIM and SGLang have been seen to say a word, which nobody should need.
            return Handled(
                Answer(200, "application/json", b"" if self.kind == "vllm" else b'{"status":"ok"}'), "health"
            )
        if request.path == _METRICS[self.kind]:
            return Handled(Answer(200, _CONTENT_TYPE, self._page().encode()), "metrics")
        return None

    def _page(self) -> str:
        busy = self._busy()
        running, waiting, used = min(busy, self.slots), max(0, busy - self.slots), min(1.0, busy / self.slots)
        if self.kind == "sglang":
            labels = f'{{model_name="{self._model}",engine_type="unified",tp_rank="0",pp_rank="0"}}'
            gauges = {
                "sglang:num_running_reqs": ("The number of running requests.", running),
                "sglang:num_queue_reqs": ("The number of requests in the waiting queue.", waiting),
                "sglang:token_usage": ("The token usage.", used),
            }
        else:
            labels = f'{{engine="0",model_name="{self._model}"}}'
            gauges = {
                "vllm:num_requests_running": ("Number of requests in model execution batches.", running),
                "vllm:num_requests_waiting": ("Number of requests waiting to be processed.", waiting),
                "vllm:kv_cache_usage_perc": ("KV-cache usage. 1 means 100 percent usage.", used),
            }
        return "".join(
            f"# HELP {name} {text}\n# TYPE {name} gauge\n{name}{labels} {float(value)}\n"
            for name, (text, value) in gauges.items()
        )
