"""What the client sees of an upstream's error."""

import json
from typing import Any

import pytest

from router.base.errors import ThrottledError, UnauthorizedError
from router.model.error_body import error_body
from router.model.fleet import AuthKind, BaseUrl, Credential, Deployment, Endpoint
from router.providers import dialect
from router.providers.dialect import Fault, Judgement
from router.providers.errors import ClientError, client_error

HOST = "contoso-eastus2.openai.azure.com"
ENDPOINT = Endpoint(
    "azure-eastus2", "azure", "azure_openai", BaseUrl("https", HOST, 443, ""), Credential(AuthKind.NONE), "eastus2"
)
DEPLOYMENT = Deployment(ENDPOINT, "gpt-4o", "gpt-4o-ptu", frozenset({"chat"}))


def seen(status: int, body: bytes, *, reveal: bool = False) -> ClientError:
    return client_error(status, body, dialect("azure_openai").judge(status, {}, body), DEPLOYMENT, reveal=reveal)


def error_of(answer: ClientError) -> dict[str, Any]:
    error = json.loads(answer.body)["error"]
    assert {"message", "type", "param", "code"} <= error.keys()
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["type"], str)
    assert isinstance(error["code"], str)
    return dict(error)


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("reveal", [False, True])
def test_a_clients_own_error_passes_byte_for_byte(status: int, reveal: bool) -> None:
    body = b'{ "error": {"code":"content_filter", "innererror":{"a":1} , "param":null}, "more":1 }\n'
    assert seen(status, body, reveal=reveal) == ClientError(status, body)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, b'{"message":"bad","code":"ValidationException"}', "bad"),
        (422, b'{"detail":"bad"}', "bad"),
        (400, b'{"error":"bad"}', None),
        (400, b"plain words of a proxy", None),
        (413, b"<html>nginx</html>", None),
        (409, b'{"error":{"message":"lock timeout","code":409}}', "lock timeout"),
    ],
)
def test_other_shapes_are_normalised(status: int, body: bytes, expected: str | None) -> None:
    answer = seen(status, body)
    assert answer.status == status
    assert error_of(answer)["message"] == (expected or f"The request failed with status {status}.")
    assert error_of(answer)["type"] == "invalid_request_error"


def test_the_rest_of_a_normalised_object_stays() -> None:
    error = error_of(seen(500, b'{"error":{"message":"boom","code":500,"type":null,"innererror":{"a":[1]}}}'))
    expected = {"message": "boom", "code": "500", "type": "server_error", "param": None, "innererror": {"a": [1]}}
    assert error == expected


@pytest.mark.parametrize(
    ("status", "body", "shown", "code"),
    [
        (429, b'{"error":{"code":"429","message":"gpt-4o-ptu in East US 2"}}', 429, "rate_limit_exceeded"),
        (401, b'{"statusCode":401,"message":"audience"}', 502, "upstream_error"),
        (403, b'{"error":{"message":"firewall"}}', 502, "upstream_error"),
        (402, b"", 502, "upstream_error"),
        (404, b'{"error":{"code":"DeploymentNotFound","message":"gpt-4o-ptu"}}', 502, "upstream_error"),
        (400, b'{"error":{"message":"Model not supported"}}', 502, "upstream_error"),
        (429, b'{"error":{"code":"insufficient_quota","message":"billing"}}', 502, "upstream_error"),
    ],
)
def test_our_own_affairs_get_our_own_words(status: int, body: bytes, shown: int, code: str) -> None:
    answer = seen(status, body)
    assert answer.status == shown
    assert error_of(answer)["code"] == code
    for name in (b"gpt-4o-ptu", b"East US", b"billing", b"firewall", b"audience", b"supported"):
        assert name not in answer.body


def test_revealed_our_affairs_are_told_but_never_as_the_clients_401() -> None:
    body = b'{"statusCode":401,"message":"audience is incorrect"}'
    answer = seen(401, body, reveal=True)
    assert answer.status == 502
    assert error_of(answer)["message"] == "audience is incorrect"
    assert error_of(answer)["code"] == "401"
    answer = seen(429, b'{"error":{"code":"429","message":"gpt-4o-ptu in East US 2"}}', reveal=True)
    assert answer.status == 429
    assert error_of(answer)["message"] == "gpt-4o-ptu in East US 2"


@pytest.mark.parametrize(
    ("status", "shown"),
    [(500, 500), (502, 502), (503, 503), (529, 529), (408, 504), (424, 502), (301, 502), (204, 502)],
)
def test_a_servers_failure_is_never_a_redirect_or_a_clients_fault(status: int, shown: int) -> None:
    answer = seen(status, b"<html>oops</html>")
    assert answer.status == shown
    assert error_of(answer)["message"] == f"The request failed with status {shown}."


def test_names_of_the_deployment_are_taken_out_unless_revealed() -> None:
    body = json.dumps(
        {
            "error": {
                "message": f"gpt-4o-ptu at {HOST} (https://{HOST}/openai?x=1) in East US 2 / EASTUS2 failed",
                "code": "500",
                "inner": [{"endpoint": "azure-eastus2"}],
            }
        }
    ).encode()
    error = error_of(seen(500, body))
    assert error["message"] == "gpt-4o at (host) ((address) in (region) / (region) failed"
    assert error["inner"] == [{"endpoint": "(endpoint)"}]
    assert error_of(seen(500, body, reveal=True))["message"].startswith("gpt-4o-ptu at contoso")


def test_a_short_region_leaves_other_words_alone() -> None:
    endpoint = Endpoint("e", "azure", "azure_openai", ENDPOINT.base_url, Credential(AuthKind.NONE), "us")
    deployment = Deployment(endpoint, "m", "m", frozenset())
    body = b'{"error":{"message":"because the bus stopped"}}'
    answer = client_error(500, body, Judgement(Fault.SERVER_ERROR), deployment, reveal=False)
    assert error_of(answer)["message"] == "because the bus stopped"


def test_json_that_cannot_be_written_again_becomes_our_words() -> None:
    nested = b'{"error":{"message":"m","x":' + b"[" * 600 + b"]" * 600 + b"}}"
    huge = b'{"error":{"message":"m","x":123456789012345678901234567890}}'
    for body in (nested, huge):
        for reveal in (False, True):
            assert error_of(seen(500, body, reveal=reveal))


def test_the_routers_own_errors_have_the_same_shape() -> None:
    assert json.loads(error_body(ThrottledError("Wait."))) == {
        "error": {"message": "Wait.", "type": "rate_limit_error", "param": None, "code": "rate_limit_exceeded"}
    }
    assert json.loads(error_body(UnauthorizedError("No.", param="p")))["error"]["param"] == "p"
