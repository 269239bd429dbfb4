"""Asking a running router's control plane, for commands."""

import http.client
from contextlib import closing
from typing import Any, Final
from urllib.parse import urlsplit

import click
import orjson

_TIMEOUT_S: Final = 10.0


def ask(
    url: str, token: str | None, method: str, path: str, body: dict[str, Any] | None = None, hint: str = "--url"
) -> dict[str, Any]:
    """The answer, a JSON object. Raises ClickException with the router's reason, or with what stood in the way.

    `hint`: the option that `url` was given by.
    """
    parts = urlsplit(url)
    kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
    if parts.scheme not in kinds or not parts.hostname:
        raise click.BadParameter(f"{url!r} is no URL such as http://127.0.0.1:9090", param_hint=hint)
    headers = {"content-type": "application/json"} if body is not None else {}
    if token:
        headers["authorization"] = f"Bearer {token}"
    try:
        with closing(kinds[parts.scheme](parts.hostname, parts.port, timeout=_TIMEOUT_S)) as connection:
            sent = orjson.dumps(body) if body is not None else None
            connection.request(method, f"{parts.path.rstrip('/')}{path}", body=sent, headers=headers)
            answer = connection.getresponse()
            found = orjson.loads(answer.read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise click.ClickException(f"{url} does not answer as a router's control plane: {error}") from None
    if not isinstance(found, dict) or answer.status >= http.client.MULTIPLE_CHOICES:
        told = found.get("error") if isinstance(found, dict) else None
        reason = told.get("message") if isinstance(told, dict) else None
        raise click.ClickException(f"{url} answered {answer.status}: {reason or 'without a reason'}")
    return found
