"""What each error seen on the wire means, and the wait that it names."""

import json
from collections.abc import Mapping

import pytest

from router.providers import DIALECTS
from router.providers.dialect import Fault, Judgement
from router.providers.faults import judge_answer

FILTERED = (
    b'{"error":{"message":"The response was filtered due to the prompt triggering Azure OpenAI\'s content management '
    b'policy.","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":'
    b'"ResponsibleAIPolicyViolation","content_filter_result":{"jailbreak":{"filtered":true,"detected":true}}}}}'
)
QUOTA = (
    b'{"error":{"code":"429","message":"Requests to the ChatCompletions_Create Operation under Azure OpenAI API version'
    b" 2024-05-01-preview have exceeded token rate limit of your current OpenAI S0 pricing tier. Please retry after "
    b'86400 seconds."}}'
)
CAPACITY = (
    b'{"error":{"message":"The system is currently experiencing high demand and cannot process your request. Your '
    b'request exceeds the maximum usage size allowed during peak load. Please retry after 20 seconds."}}'
)


def body(**error: object) -> bytes:
    return json.dumps({"error": error}).encode()


CASES = [
    # Azure
    (400, FILTERED, Fault.ANSWER, None),
    (400, FILTERED.replace(b"innererror", b"inner_error"), Fault.ANSWER, None),
    (
        400,
        body(code="unsupported_parameter", param="max_tokens", message="Use 'max_completion_tokens'"),
        Fault.ANSWER,
        None,
    ),
    (400, body(code="unsupported_value", param="temperature"), Fault.ANSWER, None),
    (400, body(code="context_length_exceeded", message="maximum context length is 128000"), Fault.ANSWER, None),
    (400, body(type="invalid_request_error", param="service_tier"), Fault.ANSWER, None),
    (400, body(message="Model not supported"), Fault.MISSING, None),
    (400, b"Model not supported.", Fault.MISSING, None),
    (400, body(message="Bad value: 'Model not supported'"), Fault.ANSWER, None),  # a client's words do no harm
    (400, body(message="Bad value: 'request queue is full, overloaded'"), Fault.ANSWER, None),
    (400, body(code="OperationNotSupported"), Fault.MISSING, None),
    (401, body(code="401", message="Access denied due to invalid subscription key"), Fault.CREDENTIAL, None),
    (401, body(code="Unauthorized"), Fault.CREDENTIAL, None),
    (401, b'{"statusCode":401,"message":"Unauthorized. Access token is missing"}', Fault.CREDENTIAL, None),
    (403, body(code="403", message="resource has been temporarily blocked"), Fault.CREDENTIAL, None),
    (404, body(code="DeploymentNotFound", message="does not exist"), Fault.MISSING, None),
    (404, body(code="404", message="Resource not found"), Fault.MISSING, None),
    (408, body(code="Timeout", message="The operation was timeout."), Fault.SERVER_ERROR, None),
    (409, body(message="lock timeout"), Fault.ANSWER, None),
    (429, QUOTA, Fault.THROTTLED, 86400.0),
    (429, body(message="in East US 2 have exceeded. Please retry after 60 seconds."), Fault.THROTTLED, 60.0),
    (429, CAPACITY, Fault.THROTTLED, 20.0),
    (424, b"", Fault.SERVER_ERROR, None),
    (499, b"", Fault.SERVER_ERROR, None),
    (500, body(code="500", message="Internal server error"), Fault.SERVER_ERROR, None),
    (502, b"<html><body>Bad Gateway</body></html>", Fault.SERVER_ERROR, None),
    (503, b"<html>", Fault.OVERLOADED, None),
    (504, b"", Fault.SERVER_ERROR, None),
    (301, b"", Fault.SERVER_ERROR, None),
    (307, b"", Fault.SERVER_ERROR, None),
    (204, b"", Fault.SERVER_ERROR, None),
    # OpenAI
    (429, body(code="rate_limit_exceeded", message="Please try again in 1m3.5s."), Fault.THROTTLED, 63.5),
    (429, body(code="rate_limit_exceeded", message="Please try again in 250ms."), Fault.THROTTLED, 0.25),
    (429, body(code="insufficient_quota", type="insufficient_quota"), Fault.CREDENTIAL, None),
    (429, body(code="credit_balance_exhausted"), Fault.CREDENTIAL, None),
    (429, body(code="slow_down"), Fault.OVERLOADED, None),
    (503, body(code="slow_down"), Fault.OVERLOADED, None),
    (401, body(code="invalid_api_key", type="invalid_request_error"), Fault.CREDENTIAL, None),
    (404, body(code="model_not_found", type="invalid_request_error", param=None), Fault.MISSING, None),
    (404, body(code="previous_response_not_found", param="previous_response_id"), Fault.ANSWER, None),
    (400, body(code="model_not_found", param="model"), Fault.MISSING, None),
    (413, b"too large", Fault.ANSWER, None),
    (415, b"", Fault.ANSWER, None),
    (422, b'{"detail":[{"loc":["body","n"],"msg":"not an integer"}]}', Fault.ANSWER, None),
    # Bedrock
    (403, b'{"message":"AccessDenied"}', Fault.CREDENTIAL, None),
    (408, b'{"message":"ModelTimeoutException"}', Fault.SERVER_ERROR, None),
    (400, b'{"__type":"ValidationException","message":"bad"}', Fault.ANSWER, None),
    (400, b'{"__type":"ThrottlingException","message":"Rate exceeded"}', Fault.THROTTLED, None),
    (529, b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', Fault.OVERLOADED, None),
    # OCI
    (429, b'{"code":"TooManyRequests","message":"slow"}', Fault.THROTTLED, None),
    (404, b'{"code":"NotAuthorizedOrNotFound","message":"no"}', Fault.MISSING, None),
    # Google
    (
        429,
        b'{"error":{"code":429,"message":"Resource exhausted.","status":"RESOURCE_EXHAUSTED"}}',
        Fault.THROTTLED,
        None,
    ),
    (429, b'[{"error":{"code":429,"message":"retry after 3s","status":"RESOURCE_EXHAUSTED"}}]', Fault.THROTTLED, 3.0),
    (400, b'{"error":{"code":400,"status":"INVALID_ARGUMENT"}}', Fault.ANSWER, None),
    (503, b'{"error":{"code":503,"status":"UNAVAILABLE"}}', Fault.OVERLOADED, None),
    # CoreWeave
    (402, body(message="credits used up"), Fault.CREDENTIAL, None),
    (503, body(message="The engine is currently overloaded, please try again later"), Fault.OVERLOADED, None),
    # vLLM, SGLang
    (400, b'{"object":"error","message":"x","type":"BadRequestError","param":null,"code":400}', Fault.ANSWER, None),
    (
        404,
        b'{"object":"error","message":"no model","type":"NotFoundError","param":"model","code":404}',
        Fault.MISSING,
        None,
    ),
    (500, b'{"error":{"message":"The request queue is full.","code":500}}', Fault.OVERLOADED, None),
    (405, b'{"detail":"Method Not Allowed"}', Fault.MISSING, None),
    (500, b'{"error":{"message":"boom","type":"invalid_request_error"}}', Fault.SERVER_ERROR, None),
]


@pytest.mark.parametrize("provider", sorted(DIALECTS))
@pytest.mark.parametrize(("status", "answer", "fault", "wait_s"), CASES)
def test_an_answer_means_what_was_seen_on_the_wire(
    provider: str, status: int, answer: bytes, fault: Fault, wait_s: float | None
) -> None:
    judgement = DIALECTS[provider].judge(status, {}, answer)
    assert judgement == Judgement(fault, wait_s)
    assert judgement.retry is (fault is not Fault.ANSWER)


def test_the_name_of_an_aws_error_stands_in_a_header() -> None:
    judge = DIALECTS["openai"].judge
    assert judge(429, {b"x-amzn-errortype": b"ModelNotReadyException:http://x/"}, b"").kind is Fault.OVERLOADED
    assert judge(400, {b"x-amzn-errortype": b"ThrottlingException"}, b"").kind is Fault.THROTTLED


@pytest.mark.parametrize("provider", sorted(DIALECTS))
@pytest.mark.parametrize(
    ("error", "fault", "wait_s"),
    [
        (
            {"type": "server_error", "code": "rate_limit_exceeded", "message": "Try again in 26 seconds."},
            Fault.THROTTLED,
            26.0,
        ),
        ({"type": "error", "code": "too_many_requests", "message": "m"}, Fault.THROTTLED, None),
        ({"message": "Streaming response failed: [503] The request queue is full."}, Fault.OVERLOADED, None),
        ({"message": "aborted by a higher priority request, queue is full"}, Fault.OVERLOADED, None),
        ({"message": "x", "code": 400}, Fault.ANSWER, None),
        ({"message": "x", "code": 429}, Fault.THROTTLED, None),
        ({"message": "x", "code": "401"}, Fault.CREDENTIAL, None),
        ({"code": "content_filter", "message": "filtered"}, Fault.ANSWER, None),
        ({"type": "invalid_request_error", "message": "x"}, Fault.ANSWER, None),
        ({"code": "insufficient_quota"}, Fault.CREDENTIAL, None),
        ({"code": "server_error", "message": "x"}, Fault.SERVER_ERROR, None),
        ({"code": 12345}, Fault.SERVER_ERROR, None),
        ("plain", Fault.SERVER_ERROR, None),
        (7, Fault.SERVER_ERROR, None),
        (None, Fault.SERVER_ERROR, None),
        ([], Fault.SERVER_ERROR, None),
    ],
)
def test_an_error_inside_a_stream_means_what_its_status_would(
    provider: str, error: object, fault: Fault, wait_s: float | None
) -> None:
    assert DIALECTS[provider].judge_event(error) == Judgement(fault, wait_s)


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({b"retry-after-ms": b"1200"}, 1.2),
        ({b"retry-after-ms": b"1200", b"retry-after": b"9"}, 1.2),
        ({b"retry-after": b"9"}, 9.0),
        ({b"retry-after": b"0"}, 0.0),
        ({b"retry-after": b" 1.5 "}, 1.5),
        ({b"retry-after": b"86400"}, 86400.0),
        ({b"retry-after-ms": b"soon", b"retry-after": b"2"}, 2.0),
        ({b"retry-after-ms": b"-5", b"retry-after": b"2"}, 2.0),
        ({b"retry-after": b"-1"}, None),
        ({b"retry-after": b"nan"}, None),
        ({b"retry-after": b"inf"}, None),
        ({b"retry-after": b"1e9"}, None),
        ({b"retry-after": b""}, None),
        ({b"retry-after": b"\xb2"}, None),
        ({b"retry-after": b"9" * 400}, None),
        (
            {b"retry-after": b"Wed, 21 Oct 2026 07:28:30 GMT", b"date": b"Wed, 21 Oct 2026 07:28:00 GMT"},
            30.0,
        ),
        (
            {b"retry-after": b"Wed, 21 Oct 2026 07:27:30 GMT", b"date": b"Wed, 21 Oct 2026 07:28:00 GMT"},
            0.0,
        ),
        ({b"retry-after": b"Wed, 21 Oct 2026 07:28:30 GMT"}, None),  # without their clock it says nothing
        ({b"retry-after": b"tomorrow", b"date": b"Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({b"x-ratelimit-reset-tokens": b"12"}, 12.0),
        ({b"x-rate-limit-reset-tokens": b"7"}, 7.0),
        ({b"x-ratelimit-reset-requests": b"6m0s"}, 360.0),
        ({b"x-ratelimit-reset-requests": b"12ms"}, 0.012),
        ({b"x-ratelimit-reset-tokens": b"1h2m3.5s"}, 3723.5),
        ({b"x-ratelimit-reset-requests": b"1s", b"x-ratelimit-reset-tokens": b"9s"}, 9.0),
        (
            {
                b"x-ratelimit-reset-requests": b"1",
                b"x-ratelimit-remaining-requests": b"0",
                b"x-ratelimit-reset-tokens": b"50",
                b"x-ratelimit-remaining-tokens": b"1000",
            },
            1.0,
        ),
        ({b"x-ratelimit-reset-tokens": b"0", b"x-ratelimit-remaining-tokens": b"-1"}, None),
        ({b"x-ratelimit-reset-tokens": b"5 apples"}, None),
        ({}, None),
    ],
)
def test_the_wait_is_read_wherever_it_stands(headers: Mapping[bytes, bytes], wait_s: float | None) -> None:
    assert DIALECTS["azure_openai"].judge(429, headers, b"").wait_s == pytest.approx(wait_s)


def test_a_text_about_this_refusal_goes_before_the_reset_of_the_whole_quota() -> None:
    headers = {b"x-ratelimit-reset-tokens": b"6m0s"}
    assert DIALECTS["openai"].judge(429, headers, body(message="Please try again in 2s.")).wait_s == 2.0
    assert DIALECTS["openai"].judge(429, headers | {b"retry-after": b"3"}, CAPACITY).wait_s == 3.0


@pytest.mark.parametrize("text", ["retry after 5 Minutes", "Try again in 5 minutes"])
def test_minutes_are_read(text: str) -> None:
    assert DIALECTS["openai"].judge_event({"code": "rate_limit_exceeded", "message": text}).wait_s == 300.0


def test_the_wait_of_an_overloaded_server_counts_too() -> None:
    assert DIALECTS["openai"].judge(503, {b"retry-after": b"4"}, b"") == Judgement(Fault.OVERLOADED, 4.0)


def test_too_many_at_one_time_is_no_quota() -> None:
    """CoreWeave's: it ends as soon as a request does, so nothing need cool down for it."""
    body = b'{"error": {"message": "Concurrency limit reached for requests", "type": "too_many_requests"}}'
    found = judge_answer(429, {}, body)
    assert (found.kind, found.too_many, found.wait_s) == (Fault.OVERLOADED, True, None)
    assert judge_answer(429, {b"retry-after": b"2"}, body).wait_s == 2.0
    assert not judge_answer(429, {}, b'{"error": {"message": "Rate limit reached"}}').too_many
    assert not judge_answer(400, {}, body).too_many, "a client's own words decide nothing"
