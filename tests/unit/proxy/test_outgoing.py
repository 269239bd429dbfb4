"""What a deployment is sent: a head from scratch, and the client's body with the model's name in it."""

import pytest

from tests.router_kit import API_KEY
from tests.wire.whole_router import CLASSIC, Exchange, request

FORM = "multipart/form-data; boundary=b"
TRANSCRIPTION = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n\0\xff\r\n'
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
AS_PATH = "/openai/deployments/{}/{}?api-version=2030-01-01"


def model_part(name: bytes) -> bytes:
    return b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n%b\r\n' % name


def test_the_head_is_made_from_scratch() -> None:
    """An allow-list goes up, and the endpoint's credential comes last; nothing else of the client's head does."""
    fields = (
        "api-key: " + API_KEY + "\r\nCookie: a=b\r\nX-Forwarded-For: 1.2.3.4\r\nX-Stainless-Lang: python\r\n"
        f"Accept: text/event-stream\r\nTraceparent: {TRACEPARENT}\r\n"
        "Tracestate: a=b\r\nOpenAI-Beta: x\r\nX-Request-Id: mine\r\n"
        "x-ms-spillover-deployment: other\r\nConnection: x-secret\r\nX-Secret: 1\r\nAccept-Encoding: gzip\r\n"
        "Forwarded: for=1\r\nTE: trailers\r\nUser-Agent: x\r\napi_key: y\r\nX-HTTP-Method-Override: GET\r\n"
    )
    head, _ = Exchange(request(b'{"model":"gpt-4o"}', fields=fields)).sent
    assert head.split(b"\r\n") == [
        b"POST /openai/v1/chat/completions HTTP/1.1",
        b"host: 127.0.0.1:9",
        b"accept-encoding: identity",
        b"content-type: application/json",
        b"accept: text/event-stream",
        b"traceparent: " + TRACEPARENT.encode(),
        b"tracestate: a=b",
        b"openai-beta: x",
        b"content-length: 15",
        b"api-key: secret",
    ]


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (b'{"model":"gpt-4o"}', b'{"model":"dep"}'),
        (
            b' {"x":"\\"model\\":\\"gpt-4o\\"" , "model" : "gpt-4o" } ',
            b' {"x":"\\"model\\":\\"gpt-4o\\"" , "model" : "dep" } ',
        ),
        (b'{"tools":[{"model":"gpt-4o"}],"model":"gpt-4o"}', b'{"tools":[{"model":"gpt-4o"}],"model":"dep"}'),
        (b'{"mod\\u0065l":"gpt-4o"}', b'{"mod\\u0065l":"dep"}'),
        (
            b'{"model":"gpt\\u002d4o","n":1.50,"big":12345678901234567890}',
            b'{"model":"dep","n":1.50,"big":12345678901234567890}',
        ),
        (b'{"model":"gpt-4o","stream":true}', b'{"stream_options":{"include_usage":true},"model":"dep","stream":true}'),
    ],
)
def test_only_the_models_name_and_the_ask_for_usage_change(body: bytes, sent: bytes) -> None:
    assert Exchange(request(body)).sent[1] == sent


def test_a_long_body_goes_up_whole() -> None:
    content = b"x" * 300_000
    body = b'{"messages":"%b","model":"gpt-4o","z":1}' % content
    assert Exchange(request(body)).sent[1] == b'{"messages":"%b","model":"dep","z":1}' % content


@pytest.mark.parametrize("api_version", ["v1", CLASSIC])
@pytest.mark.parametrize(
    ("body", "v1", "classic"),
    [
        (b'{"n":1}', b'{"model":"dep","n":1}', b'{"n":1}'),
        (b"{}", b'{"model":"dep"}', b"{}"),
        (b" { } ", b' {"model":"dep" } ', b" { } "),
        (b'{"model":null,"n":1}', b'{"model":"dep","n":1}', b'{"model":"dep","n":1}'),
        (b'{"model":"other"}', b'{"model":"dep"}', b'{"model":"dep"}'),
        (
            b'{"stream":true}',
            b'{"stream_options":{"include_usage":true},"model":"dep","stream":true}',
            b'{"stream_options":{"include_usage":true},"stream":true}',
        ),
    ],
)
def test_a_model_that_the_path_names_is_written_where_the_deployment_reads_it(
    api_version: str, body: bytes, v1: bytes, classic: bytes
) -> None:
    one = Exchange(request(body, path=AS_PATH.format("gpt-4o", "chat/completions")), api_version=api_version)
    head, sent = one.sent
    if api_version == "v1":
        assert head.startswith(b"POST /openai/v1/chat/completions HTTP/1.1\r\n")
        assert sent == v1
    else:
        assert head.startswith(b"POST /openai/deployments/dep/chat/completions?api-version=2024-10-21 HTTP/1.1\r\n")
        assert sent == classic


def test_the_model_of_a_form_is_replaced_in_its_part() -> None:
    body = TRANSCRIPTION + model_part(b"whisper-1") + b"--b--\r\n"
    one = Exchange(request(body, path="/v1/audio/transcriptions", content_type=FORM), deployment="whisper-dep")
    head, sent = one.sent
    assert b"content-type: multipart/form-data; boundary=b\r\n" in head
    assert sent == TRANSCRIPTION + model_part(b"whisper-dep") + b"--b--\r\n"


@pytest.mark.parametrize("api_version", ["v1", CLASSIC])
def test_a_form_without_a_model_gets_a_part_where_one_is_read(api_version: str) -> None:
    body = TRANSCRIPTION + b"--b--\r\n"
    path = AS_PATH.format("whisper-1", "audio/transcriptions")
    one = Exchange(request(body, path=path, content_type=FORM), deployment="whisper-dep", api_version=api_version)
    expected = body if api_version == CLASSIC else model_part(b"whisper-dep") + body
    assert one.sent[1] == expected
