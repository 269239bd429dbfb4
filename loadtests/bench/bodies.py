"""The requests that are sent: chat completions of a given size, with the key of `config/bench.yaml`."""

import http.client
import ssl
from typing import Final

import orjson

from loadtests.bench.processes import BenchError

KEY: Final = "sk-ir-bench"
MODEL: Final = "gpt-4o"


def chat_body(size: int, *, stream: bool = False, usage: bool = False) -> bytes:
    """A chat request of exactly `size` bytes. `usage`: the client itself asks for the usage chunk."""
    words = "The quick brown fox jumps over the lazy dog, and nobody asks it why. "
    messages = [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": ""}]
    body: dict[str, object] = {"model": MODEL, "messages": messages, "temperature": 0.7, "max_tokens": 256}
    if stream:
        body["stream"] = True
    if usage:
        body["stream_options"] = {"include_usage": True}
    missing = size - len(orjson.dumps(body))
    if missing < 0:
        raise ValueError(f"a chat request has at least {size - missing} bytes")
    messages[1]["content"] = (words * (missing // len(words) + 1))[:missing]
    return orjson.dumps(body)


def raw_request(path: str, body: bytes) -> bytes:
    """The request's bytes on the wire."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def fetch(port: int, path: str, body: bytes, timeout_s: float = 30.0, *, tls: bool = False) -> bytes:
    """One request and its whole answer. Raises BenchError when it is not a 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    if tls:  # with a certificate of the benchmark's own, on this machine
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=timeout_s, context=context)
    try:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
        connection.request("POST", path, body=body, headers=headers)
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise BenchError(f"port {port} did not answer a request: {error!r}") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise BenchError(f"port {port} answered {answer.status}: {content[:500].decode(errors='replace')}")
    return content
