"""What a hostile client, a restricted key or a poisoned request could once do to everybody else."""

import tracemalloc

import pytest

from router.model.operation import CHAT
from router.proxy.facts import json_facts

MIB = 1 << 20


@pytest.mark.parametrize(
    "field",
    ["max_tokens", "max_completion_tokens", "max_output_tokens", "n", "prompt_cache_key", "conversation"],
)
def test_a_field_that_is_only_looked_at_is_never_made_into_objects(field: str) -> None:
    """A million empty objects held the loop for a second, and took a hundred times the body's memory."""
    body = b'{"model":"m","messages":[],"%s":[%s{}]}' % (field.encode(), b"{}," * (MIB // 3))
    tracemalloc.start()
    try:
        json_facts(body, CHAT, None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * len(body)
