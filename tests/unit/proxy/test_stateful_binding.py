"""Which ids of an answer become the key's own: those that its endpoint made for it, never the client's own words."""

from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest

from router.proxy.answer import Answer
from router.proxy.context import Context
from router.proxy.runtime import Runtime
from router.proxy.stateful.binding import StreamBinding, bind_response

OWN, FOREIGN = "cntr_own", "cntr_foreign"
# Whatever a client says here comes back in its answer.
ECHOED: dict[str, Any] = {
    "metadata": {"container_id": FOREIGN},
    "tools": [{"type": "function", "parameters": {"properties": {"container_id": FOREIGN}}}],
}
SAYS_NOTHING: list[dict[str, Any]] = [
    {"type": "mcp_list_tools", "tools": [{"annotations": [{"container_id": FOREIGN}], "container_id": FOREIGN}]},
    {"type": "file_search_call", "results": [{"attributes": {"container_id": FOREIGN}}]},
    {"type": "message", "content": [{"type": "output_text", "text": f'"container_id":"{FOREIGN}"'}]},
]
SAYS_OWN: list[dict[str, Any]] = [
    {"type": "code_interpreter_call", "container_id": OWN},
    {"type": "shell_call", "environment": {"type": "container_reference", "container_id": OWN}},
    {"type": "message", "content": [{"annotations": [{"type": "container_file_citation", "container_id": OWN}]}]},
]


class Site:
    """What binding needs of a request, with the ids that were bound."""

    def __init__(self) -> None:
        self.bound: dict[str, str] = {}
        endpoint = SimpleNamespace(deployment=SimpleNamespace(endpoint=SimpleNamespace(id="east")))
        homes = SimpleNamespace(bind=lambda _, name, kind, __: self.bound.update({name: kind}))
        body = b'{"tools":[{"type":"code_interpreter"}],"metadata":{"container_id":"cntr_foreign"}}'
        key = SimpleNamespace(name="api", workload="api")
        inbound = SimpleNamespace(body=body)
        self.ctx = cast("Context", SimpleNamespace(inbound=inbound, caller=SimpleNamespace(key=key)))
        self.rt = cast("Runtime", SimpleNamespace(homes=homes))
        self.answer = cast("Answer", SimpleNamespace(target=SimpleNamespace(backend=endpoint), before_events=None))

    def whole(self, output: Any) -> dict[str, str]:
        body = orjson.dumps({"id": "resp_1", "output": output, **ECHOED})
        bind_response(self.ctx, self.rt, self.answer, body)
        return self.bound

    def stream(self, *events: dict[str, Any]) -> dict[str, str]:
        binding = StreamBinding(self.ctx, self.rt, self.answer)
        for event in ({"type": "response.created", "response": {"id": "resp_1", **ECHOED}}, *events):
            binding(b"event: %b\ndata: %b\n\n" % (event["type"].encode(), orjson.dumps(event)))
        return self.bound


@pytest.mark.parametrize("output", [[], SAYS_NOTHING, None, "x", [None], [{"type": "message", "content": [1]}]])
def test_what_a_client_has_written_itself_is_not_its_own_for_that(output: Any) -> None:
    assert Site().whole(output) == {"resp_1": "response"}
    assert Site().stream({"type": "response.completed", "response": {"id": "resp_1", "output": output, **ECHOED}}) == {
        "resp_1": "response"
    }


@pytest.mark.parametrize("item", SAYS_NOTHING)
def test_nor_in_the_items_of_a_stream(item: dict[str, Any]) -> None:
    events = [{"type": f"response.output_item.{what}", "item": item} for what in ("added", "done")]
    assert Site().stream(*events) == {"resp_1": "response"}


@pytest.mark.parametrize("item", SAYS_OWN)
def test_containers_that_were_made_for_an_answer(item: dict[str, Any]) -> None:
    expected = {"resp_1": "response", OWN: "container"}
    assert Site().whole([*SAYS_NOTHING, item]) == expected
    assert Site().stream({"type": "response.output_item.done", "item": item}) == expected
    assert Site().stream({"type": "response.completed", "response": {"output": [item], **ECHOED}}) == expected


def test_a_container_that_an_annotation_names() -> None:
    annotation = {"type": "container_file_citation", "container_id": OWN}
    event = {"type": "response.output_text.annotation.added", "annotation": annotation}
    assert Site().stream(event) == {"resp_1": "response", OWN: "container"}
