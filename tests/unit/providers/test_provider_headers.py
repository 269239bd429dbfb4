"""Which headers of an answer reach the client."""

import pytest

from router.providers.headers import UP, answer_headers, retry_headers

ANSWER = {
    b"content-type": b"application/json",
    b"content-length": b"12",
    b"transfer-encoding": b"chunked",
    b"connection": b"keep-alive",
    b"set-cookie": b"a=b",
    b"server": b"azure",
    b"apim-request-id": b"42",
    b"x-ms-region": b"East US 2",
    b"x-ms-deployment-name": b"gpt-4o-ptu",
    b"azureml-model-session": b"d1",
    b"x-request-id": b"theirs",
    b"openai-processing-ms": b"17",
    b"x-ratelimit-remaining-tokens": b"99",
    b"x-ratelimit-limit-requests": b"-1",
    b"retry-after": b"7",
    b"retry-after-ms": b"7000",
    b"x-should-retry": b"true",
}


def test_only_what_is_named_goes_down() -> None:
    assert answer_headers(ANSWER, reveal=False) == b"content-type: application/json\r\nopenai-processing-ms: 17\r\n"


def test_revealed_the_providers_limits_go_down_under_another_name() -> None:
    lines = answer_headers(ANSWER, reveal=True).split(b"\r\n")
    assert sorted(lines) == [
        b"",
        b"apim-request-id: 42",
        b"content-type: application/json",
        b"openai-processing-ms: 17",
        b"x-ms-region: East US 2",
        b"x-upstream-ratelimit-limit-requests: -1",
        b"x-upstream-ratelimit-remaining-tokens: 99",
    ]


def test_the_wait_goes_down_only_where_it_is_asked_for() -> None:
    assert retry_headers(ANSWER) == b"retry-after: 7\r\nretry-after-ms: 7000\r\nx-should-retry: true\r\n"
    assert retry_headers({}) == b""


def test_a_file_keeps_its_name_and_its_odd_bytes() -> None:
    value = b'attachment; filename="gr\xf6\xdfe.mp3"'
    headers = answer_headers({b"content-disposition": value}, reveal=False)
    assert headers == b"content-disposition: " + value + b"\r\n"


@pytest.mark.parametrize("name", [b"authorization", b"api-key", b"cookie", b"host", b"x-stainless-lang", b"user-agent"])
def test_no_credential_and_no_client_trait_goes_up(name: bytes) -> None:
    assert name not in UP
