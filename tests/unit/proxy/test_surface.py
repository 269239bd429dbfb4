"""Paths: which operation each family of clients asks for, and that nothing else is served."""

import pytest

from router.base.errors import NotFoundError
from router.model.operation import OPERATIONS
from router.proxy.surface import MethodNotAllowedError, find_ask

SCOPED = [op for op in OPERATIONS.values() if op.deployment_scoped]

POSTED = [op for op in OPERATIONS.values() if not op.socket]


@pytest.mark.parametrize("operation", POSTED, ids=lambda op: op.name)
@pytest.mark.parametrize("base", ["/v1", "/openai/v1"])
@pytest.mark.parametrize("query", ["", "?", "?api-version=2024-10-21", "?a=/v1/models"])
def test_every_operation_under_every_base(operation, base: str, query: str) -> None:
    ask = find_ask(b"POST", f"{base}{operation.path}{query}".encode())
    assert (ask.operation, ask.model) == (operation, None)


@pytest.mark.parametrize("operation", SCOPED, ids=lambda op: op.name)
def test_the_classic_shape_names_the_model_in_the_path(operation) -> None:
    for name, model in (
        ("gpt-4o", "gpt-4o"),
        ("a%2Fb", "a/b"),
        ("%67pt", "gpt"),
        ("a%252Fb", "a%2Fb"),
        ("%C3%A4", "ä"),
    ):
        path = f"/openai/deployments/{name}{operation.path}?api-version=2024-10-21"
        ask = find_ask(b"POST", path.encode())
        assert (ask.operation, ask.model) == (operation, model)


@pytest.mark.parametrize("base", ["/v1/models", "/openai/v1/models", "/openai/models"])
def test_models(base: str) -> None:
    assert find_ask(b"GET", base.encode()).operation is None
    assert find_ask(b"GET", f"{base}?api-version=x".encode()).model is None
    assert find_ask(b"GET", f"{base}/gpt-4o".encode()).model == "gpt-4o"
    assert find_ask(b"GET", f"{base}/ft%3Agpt%2Fx?y".encode()).model == "ft:gpt/x"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "*",
        "",
        "/v1",
        "/v1/",
        "/v1/models/",
        "//v1/models",
        "/v1//models",
        "/v1/./models",
        "/v2/../v1/models",
        "/v1/model%73",
        "/V1/models",
        "/v1/models;x",
        "/v1/chat/completions/",
        "/v1/chat%2Fcompletions",
        "/chat/completions",
        "/openai/chat/completions",
        "/openai/deployments/",
        "/openai/deployments/gpt-4o",
        "/openai/deployments//chat/completions",
        "/openai/deployments/a/b/chat/completions",
        "/openai/deployments/gpt-4o/chat/completions/",
        "/openai/deployments/gpt-4o/responses",
        "/openai/deployments/gpt-4o/moderations",
        "/openai/deployments/%ff/chat/completions",
        "/v1/files/../models",
        "/v1/files/a%2fb",
        "/v1/batches/batch_1/files",
        "/v1/messages",
        "/healthz",
        "/metrics",
        "/reload",
    ],
)
def test_nothing_else_is_served(path: str) -> None:
    for method in (b"GET", b"POST", b"OPTIONS"):
        with pytest.raises(NotFoundError) as caught:
            find_ask(method, path.encode())
        assert caught.value.status == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        (b"GET", b"/v1/chat/completions", "POST"),
        (b"HEAD", b"/v1/chat/completions", "POST"),
        (b"PUT", b"/v1/embeddings", "POST"),
        (b"OPTIONS", b"/v1/responses", "POST"),
        (b"POST", b"/v1/models", "GET"),
        (b"HEAD", b"/v1/models", "GET"),
        (b"DELETE", b"/v1/models/gpt-4o", "GET"),
    ],
)
def test_the_wrong_method_is_told_the_right_one(method: bytes, path: bytes, allowed: str) -> None:
    with pytest.raises(MethodNotAllowedError) as caught:
        find_ask(method, path)
    assert caught.value.status == 405
    assert caught.value.headers == {"allow": allowed}


@pytest.mark.parametrize("base", ["/v1", "/openai/v1"])
def test_a_keys_usage_is_no_model_and_no_operation(base: str) -> None:
    ask = find_ask(b"GET", f"{base}/usage?since=2031-01-01".encode())
    assert (ask.name, ask.operation, ask.model) == ("usage", None, None)
    assert find_ask(b"GET", f"{base}/models".encode()).name == "models"
    with pytest.raises(MethodNotAllowedError):
        find_ask(b"POST", f"{base}/usage".encode())
