"""What Oracle's, AWS's and Google's own shapes of errors mean, and what a client gets to see of them."""

import json

import pytest

from router.model.fleet import AuthKind, BaseUrl, Credential, Deployment, Endpoint
from router.providers import dialect
from router.providers.dialect import Fault, Judgement
from router.providers.errors import client_error
from router.providers.waits import wait_in_details

ENDPOINT = Endpoint(
    "e", "c", "vertex", BaseUrl("https", "cloud.example", 443, "/v1"), Credential(AuthKind.NONE), "us-x1"
)
DEPLOYMENT = Deployment(ENDPOINT, "gemini", "google/gemini-2.5-pro", frozenset({"chat"}))
NO_HEADERS: dict[bytes, bytes] = {}


def google(code: int, status: str, message: str = "", **more: object) -> bytes:
    return json.dumps({"error": {"code": code, "message": message, "status": status, **more}}).encode()


def amzn(name: str) -> dict[bytes, bytes]:
    return {b"x-amzn-errortype": name.encode() + b":http://internal.amazon.com/coral/"}


@pytest.mark.parametrize(
    ("provider", "status", "headers", "body", "fault"),
    [
        ("oci", 401, {}, b'{"code":"NotAuthenticated","message":"m"}', Fault.CREDENTIAL),
        ("oci", 404, {}, b'{"code":"NotAuthorizedOrNotFound","message":"m"}', Fault.MISSING),
        ("oci", 400, {}, b'{"code":"NotAuthorizedOrNotFound","message":"m"}', Fault.MISSING),
        ("oci", 400, {}, b'{"code":"InvalidParameter","message":"m"}', Fault.ANSWER),
        ("oci", 429, {}, b'{"code":"TooManyRequests","message":"m"}', Fault.THROTTLED),
        ("oci", 500, {}, b'{"code":"InternalServerError","message":"m"}', Fault.SERVER_ERROR),
        ("bedrock", 400, amzn("ValidationException"), b'{"message":"m"}', Fault.ANSWER),
        (
            "bedrock",
            400,
            amzn("ValidationException"),
            b'{"message":"The provided model identifier is invalid."}',
            Fault.MISSING,
        ),
        (
            "bedrock",
            400,
            {},
            b'{"error":{"message":"Model openai.gpt-oss-120b isn\'t supported on this route"}}',
            Fault.MISSING,
        ),
        (
            "bedrock",
            400,
            {},
            b'{"message":"Bad text: The provided model identifier is invalid."}',  # a client's words do no harm
            Fault.ANSWER,
        ),
        ("bedrock", 400, amzn("ServiceQuotaExceededException"), b'{"message":"m"}', Fault.THROTTLED),
        ("bedrock", 403, amzn("AccessDeniedException"), b'{"message":"m"}', Fault.CREDENTIAL),
        ("bedrock", 403, amzn("ExpiredTokenException"), b'{"message":"m"}', Fault.CREDENTIAL),
        ("bedrock", 408, amzn("ModelTimeoutException"), b"", Fault.SERVER_ERROR),
        ("bedrock", 424, amzn("ModelErrorException"), b"", Fault.SERVER_ERROR),
        ("bedrock", 429, amzn("ThrottlingException"), b'{"message":"m"}', Fault.THROTTLED),
        ("bedrock", 429, amzn("ModelNotReadyException"), b'{"message":"m"}', Fault.OVERLOADED),
        ("bedrock", 529, {}, b"", Fault.OVERLOADED),
        ("vertex", 400, {}, google(400, "INVALID_ARGUMENT"), Fault.ANSWER),
        ("vertex", 401, {}, b"[" + google(401, "UNAUTHENTICATED") + b"]", Fault.CREDENTIAL),
        ("vertex", 403, {}, google(403, "PERMISSION_DENIED"), Fault.CREDENTIAL),
        ("vertex", 404, {}, google(404, "NOT_FOUND"), Fault.MISSING),
        ("vertex", 429, {}, b"[" + google(429, "RESOURCE_EXHAUSTED") + b"]", Fault.THROTTLED),
        ("vertex", 499, {}, google(499, "CANCELLED"), Fault.SERVER_ERROR),
        ("vertex", 503, {}, google(503, "UNAVAILABLE"), Fault.OVERLOADED),
    ],
)
def test_each_clouds_own_words(
    provider: str, status: int, headers: dict[bytes, bytes], body: bytes, fault: Fault
) -> None:
    assert dialect(provider).judge(status, headers, body) == Judgement(fault)


@pytest.mark.parametrize(
    ("error", "judgement"),
    [
        ({"type": "throttlingException", "message": "m"}, Judgement(Fault.THROTTLED)),
        ({"type": "modelStreamErrorException", "message": "m"}, Judgement(Fault.SERVER_ERROR)),
        ({"type": "serviceUnavailableException", "message": "m"}, Judgement(Fault.OVERLOADED)),
        ({"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "m"}, Judgement(Fault.THROTTLED)),
        (
            {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [{"retryDelay": "12.5s"}]},
            Judgement(Fault.THROTTLED, 12.5),
        ),
        ({"code": 400, "status": "INVALID_ARGUMENT", "message": "m"}, Judgement(Fault.ANSWER)),
    ],
)
def test_errors_inside_a_stream(error: dict[str, object], judgement: Judgement) -> None:
    assert dialect("vertex").judge_event(error) == judgement


@pytest.mark.parametrize(
    ("details", "wait_s"),
    [
        ([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}], 34.0),
        ([{"violations": []}, {"retryDelay": "0.5s"}], 0.5),
        ([{"retryDelay": "soon"}, {"retryDelay": "7s"}], 7.0),
        ([{"retryDelay": 7}], None),
        (["x", None, {"retryDelay": "-1s"}], None),
        ({"retryDelay": "7s"}, None),
        (None, None),
    ],
)
def test_googles_retry_delay(details: object, wait_s: float | None) -> None:
    assert wait_in_details({"details": details}) == wait_s
    assert wait_in_details(None) is None


def test_a_header_outweighs_googles_retry_delay() -> None:
    body = google(429, "RESOURCE_EXHAUSTED", details=[{"retryDelay": "34s"}])
    assert dialect("vertex").judge(429, {b"retry-after": b"3"}, body).wait_s == 3.0
    assert dialect("vertex").judge(429, NO_HEADERS, body).wait_s == 34.0


@pytest.mark.parametrize("array", [False, True])
def test_googles_numbers_become_names_for_clients(array: bool) -> None:
    body = google(400, "INVALID_ARGUMENT", "google/gemini-2.5-pro in us-x1 has no such field", extra=[1])
    body = b"[" + body + b"]" if array else body
    seen = client_error(400, body, Judgement(Fault.ANSWER), DEPLOYMENT, reveal=False)

    assert seen.status == 400
    assert json.loads(seen.body)["error"] == {
        "message": "gemini in (region) has no such field",
        "type": "invalid_request_error",
        "param": None,
        "code": "INVALID_ARGUMENT",
        "status": "INVALID_ARGUMENT",
        "extra": [1],
    }


def test_a_numeric_code_without_a_name_becomes_text() -> None:
    body = b'{"error":{"message":"bad request","type":"BadRequestError","param":null,"code":400}}'
    seen = client_error(400, body, Judgement(Fault.ANSWER), DEPLOYMENT, reveal=False)

    assert json.loads(seen.body)["error"]["code"] == "400"
