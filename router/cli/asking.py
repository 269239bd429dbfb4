"""Asking a running router's control plane, for commands."""

import http.client
from collections.abc import Callable
from contextlib import closing
from functools import wraps
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click
import orjson

_TIMEOUT_S: Final = 10.0


def token_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that give the control plane's token; the command gets `token`, or None."""

    @click.option("--token", envvar="ROUTER_ADMIN_TOKEN", help="The control plane's token; or $ROUTER_ADMIN_TOKEN.")
    @click.option("--token-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Holds its token.")
    @wraps(command)
    def with_token(*args: Any, token: str | None, token_file: Path | None, **options: Any) -> None:
        if token_file is not None:  # what stands on a command line, other users of the machine can read
            token = token_file.read_text(encoding="utf-8").strip()
        command(*args, token=token, **options)

    return with_token


class RefusedByRouterError(click.ClickException):
    """The router's own word. `error`: its object, as it was sent; empty where there was none."""

    def __init__(self, text: str, error: dict[str, Any]) -> None:
        super().__init__(text)
        self.error = error


def ask(
    url: str,
    token: str | None,
    method: str,
    path: str,
    body: dict[str, Any] | None = None,
    within_s: float = _TIMEOUT_S,
) -> dict[str, Any]:
    """The answer, a JSON object. Raises RefusedByRouterError, or ClickException with what stood in the way.

    `url` was given by `--admin`.
    """
    parts = urlsplit(url)
    kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
    if parts.scheme not in kinds or not parts.hostname:
        raise click.BadParameter(f"{url!r} is no URL such as http://127.0.0.1:9090", param_hint="--admin")
    headers = {"content-type": "application/json"} if body is not None else {}
    if token:
        headers["authorization"] = f"Bearer {token}"
    try:
        with closing(kinds[parts.scheme](parts.hostname, parts.port, timeout=within_s)) as connection:
            sent = orjson.dumps(body) if body is not None else None
            connection.request(method, f"{parts.path.rstrip('/')}{path}", body=sent, headers=headers)
            answer = connection.getresponse()
            found = orjson.loads(answer.read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        where = "`--admin` says where it is: the address that its file has as `server.admin`."
        raise click.ClickException(f"{url} does not answer as a router's control plane: {error}. {where}") from None
    if not isinstance(found, dict) or answer.status >= http.client.MULTIPLE_CHOICES:
        told = found.get("error") if isinstance(found, dict) else None
        reason = told.get("message") if isinstance(told, dict) else None
        text = f"{url} answered {answer.status}: {reason or 'without a reason'}"
        raise RefusedByRouterError(text, told if isinstance(told, dict) else {})
    return found
