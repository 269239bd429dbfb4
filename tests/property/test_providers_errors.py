"""Laws of errors: whatever an upstream answers, it is judged, and the client gets OpenAI's shape and no name."""

import json
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from router.model.fleet import AuthKind, BaseUrl, Credential, Deployment, Endpoint
from router.model.operation import OPERATIONS
from router.providers import DIALECTS, dialect
from router.providers.dialect import Fault, Judgement
from router.providers.errors import client_error
from router.providers.headers import answer_headers

LAW = settings(deadline=None, max_examples=200)  # a loaded machine is no failure

HOST = "contoso-eastus2.openai.azure.com"
SECRET_NAMES = (HOST, "azure-eastus2", "gpt-4o-ptu", "eastus2", "East US 2", f"https://{HOST}/openai/x")
ENDPOINT = Endpoint(
    "azure-eastus2", "azure", "azure_openai", BaseUrl("https", HOST, 443, ""), Credential(AuthKind.NONE), "eastus2"
)
DEPLOYMENT = Deployment(ENDPOINT, "gpt-4o", "gpt-4o-ptu", frozenset({"chat"}))

STATUS = st.integers(100, 999)
TEXT = st.text(max_size=20) | st.sampled_from(SECRET_NAMES) | st.just("retry after 3 seconds")
LEAF = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
KEYS = st.sampled_from(["error", "message", "code", "type", "param", "status", "statusCode", "innererror", "detail"])
JSON = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=12
)
BODY = JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60)
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            b"retry-after",
            b"retry-after-ms",
            b"date",
            b"x-ratelimit-reset-tokens",
            b"x-ratelimit-remaining-tokens",
            b"x-ratelimit-reset-requests",
            b"x-amzn-errortype",
            b"content-type",
        ]
    ),
    st.binary(max_size=30)
    | st.sampled_from([b"Wed, 21 Oct 2026 07:28:00 GMT", b"1e400", b"-0", b"9" * 30, b"1h", b"Mon, 99 Foo 0000 -9999"])
    | st.floats().map(lambda value: str(value).encode()),
)


@LAW
@given(st.sampled_from(sorted(DIALECTS)), STATUS, HEADERS, BODY)
def test_every_answer_is_judged(provider: str, status: int, headers: dict[bytes, bytes], body: bytes) -> None:
    judgement = dialect(provider).judge(status, headers, body)
    assert judgement.wait_s is None or (judgement.wait_s >= 0 and math.isfinite(judgement.wait_s))
    if not 400 <= status < 500:
        assert judgement.retry


@LAW
@given(JSON)
def test_every_error_event_is_judged(error: object) -> None:
    judgement = dialect("openai").judge_event(error)
    assert judgement.wait_s is None or judgement.wait_s >= 0


@LAW
@given(STATUS, BODY, st.sampled_from(Fault), st.booleans())
def test_the_client_always_gets_the_shape_of_openai(status: int, body: bytes, fault: Fault, reveal: bool) -> None:
    answer = client_error(status, body, Judgement(fault), DEPLOYMENT, reveal=reveal)
    assert 400 <= answer.status < 600
    error = json.loads(answer.body)["error"]
    if answer.body != body:
        assert isinstance(error["message"], str)
        assert isinstance(error["code"], str)
        assert isinstance(error["type"], str)
        assert error["param"] is None or isinstance(error["param"], str)


@LAW
@given(STATUS, BODY, st.sampled_from(Fault))
def test_a_name_of_the_deployment_never_shows(status: int, body: bytes, fault: Fault) -> None:
    answer = client_error(status, body, Judgement(fault), DEPLOYMENT, reveal=False)
    if answer.body != body:
        for name in SECRET_NAMES:
            assert name.encode() not in answer.body


@LAW
@given(st.dictionaries(st.sampled_from([b"content-type", b"x-ms-region", b"set-cookie"]), st.binary()), st.booleans())
def test_headers_pass_as_whole_lines(headers: dict[bytes, bytes], reveal: bool) -> None:
    lines = answer_headers(headers, reveal)
    assert not lines or lines.endswith(b"\r\n")
    assert b"set-cookie: " not in lines or any(b"set-cookie: " in value for value in headers.values())


@LAW
@given(st.text(min_size=1), st.sampled_from(sorted(OPERATIONS)), st.sampled_from(["v1", "2025-04-01-preview"]))
def test_a_target_is_always_one_clean_token(name: str, operation: str, api_version: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        return  # a lone surrogate cannot stand in a configuration file
    endpoint = Endpoint("e", "azure", "azure_openai", ENDPOINT.base_url, ENDPOINT.credential, api_version=api_version)
    route = dialect("azure_openai").route(Deployment(endpoint, "m", name, frozenset()), OPERATIONS[operation])
    if route is not None:
        assert route.target.startswith(b"/openai/")
        assert all(0x21 <= byte <= 0x7E for byte in route.target)
        assert route.target.count(b"?") <= 1
        assert b"#" not in route.target
