"""The routes of the control plane."""

import asyncio
import logging
from collections.abc import Awaitable, Collection
from typing import Any, Final

import orjson
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from router.admin.answers import error, json_answer, json_body
from router.admin.console import add_console
from router.admin.control import ControlledRouter
from router.admin.guard import guard
from router.admin.headers import set_headers
from router.admin.keys import OVERLAP_S, KeyRefusedError
from router.base.errors import place_of
from router.model.fleet import Secret
from router.telemetry.exposition import render
from router.transport.channel import NO_ANSWER

SEEN_S: Final = 0.5
"""All who look at the console's picture within this time see the same one."""

_logger: Final = logging.getLogger(__name__)

_CODES: Final = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}
_MESSAGES: Final = {
    404: "There is nothing at this path. This is the router's control plane: the console is at /console, /status says "
    "what can be served, /metrics counts. Clients ask at the address of `server.listen`.",
}


def build_app(router: ControlledRouter, token: Secret | None, origins: Collection[str] = ()) -> web.Application:
    """Makes the application. `token` None: only for a listener on loopback. Raises ValueError for an empty token.

    `origins`: as for `guard`.
    """
    app = web.Application(middlewares=[_as_json, guard(token, origins)])
    app.on_response_prepare.append(set_headers)
    _Routes(router).add_to(app.router)
    add_console(app.router)
    return app


class _Routes:
    """The handlers; each answers from the one call that it makes.

    What a large fleet makes long (tens of milliseconds) is made by a thread: with one process, this loop also serves.
    """

    def __init__(self, router: ControlledRouter) -> None:
        self._router = router
        self._picture, self._seen_until = b"", 0.0
        self._looking = asyncio.Lock()

    def add_to(self, table: web.UrlDispatcher) -> None:
        table.add_get("/healthz", self._healthz)
        table.add_get("/readyz", self._readyz)
        table.add_get("/status", self._status)
        table.add_get("/explain", self._explain)
        table.add_get("/metrics", self._metrics)
        table.add_get("/live", self._live)
        table.add_get("/requests/{id:.+}", self._story)
        table.add_post("/reload", self._reload)
        table.add_get("/keys", self._keys)
        table.add_post("/keys", self._add_key)
        table.add_post("/keys/{name}/rotate", self._rotate_key)
        table.add_post("/keys/{name}/revoke", self._revoke_key)
        # A deployment's id has a slash in it.
        table.add_post("/deployments/{id:.+}/drain", self._drain)
        table.add_post("/deployments/{id:.+}/undrain", self._undrain)

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _readyz(self, _: web.Request) -> web.Response:
        return web.Response(status=200 if self._router.is_ready() else 503)

    async def _status(self, _: web.Request) -> web.Response:
        return json_answer(await self._router.status())

    async def _explain(self, request: web.Request) -> web.Response:
        query = request.query
        if not query.get("key") or not query.get("model"):
            return error(
                400, "missing_parameter", "Ask as in /explain?key=NAME&model=MODEL, if need be with &operation=."
            )
        try:
            operation = query.get("operation", "")
            return json_answer(await self._router.explain(query["key"], query["model"], operation))
        except LookupError as unknown:
            said = str(unknown)
            return error(404, "unknown_name", f"{said[:1].upper()}{said[1:]}.")

    async def _metrics(self, request: web.Request) -> web.Response:
        accept = ",".join(request.headers.getall(hdrs.ACCEPT, []))
        reading = await self._router.reading()
        page, content_type = await asyncio.get_running_loop().run_in_executor(None, render, reading, accept)
        return web.Response(body=page, headers={hdrs.CONTENT_TYPE: content_type})

    async def _live(self, _: web.Request) -> web.Response:
        loop = asyncio.get_running_loop()
        async with self._looking:
            if loop.time() >= self._seen_until:
                self._picture = json_body(await self._router.live())
                self._seen_until = loop.time() + SEEN_S
        return web.Response(body=self._picture, content_type="application/json")

    async def _story(self, request: web.Request) -> web.Response:
        story = await self._router.story(request.match_info["id"])
        if story is None:
            return error(
                404, "request_not_found", "No request with this id is in memory or in the last part of the logs."
            )
        return json_answer(story)

    async def _reload(self, _: web.Request) -> web.Response:
        result = await self._router.reload()
        await self._forget_picture()
        if result.refusal is None:
            return json_answer({"version": result.version, "changed": result.changed})
        return error(
            409,
            "configuration_refused",
            f"The configuration was refused; version {result.version} stays in force.",
            version=result.version,
            reason=result.refusal,
            faults=result.faults,
        )

    async def _drain(self, request: web.Request) -> web.Response:
        return await self._set_drain(request, draining=True)

    async def _undrain(self, request: web.Request) -> web.Response:
        return await self._set_drain(request, draining=False)

    async def _set_drain(self, request: web.Request, *, draining: bool) -> web.Response:
        deployment_id = request.match_info["id"]
        if not await self._router.set_drain(deployment_id, draining):
            return error(
                404, "deployment_not_found", f"There is no deployment `{deployment_id}`; `GET /status` lists them."
            )
        await self._forget_picture()
        return json_answer({"deployment": deployment_id, "draining": draining})

    async def _keys(self, _: web.Request) -> web.Response:
        return json_answer({"keys": await self._router.keys.shown()})

    async def _add_key(self, request: web.Request) -> web.Response:
        terms = await _asked(request)
        name, sha256 = _word(terms, "name", needed=True), _word(terms, "sha256")
        return await _changed(self._router.keys.add(name, terms, sha256 or None), status=201)

    async def _rotate_key(self, request: web.Request) -> web.Response:
        asked = await _asked(request)
        overlap_s, sha256 = asked.pop("overlap_s", OVERLAP_S), _word(asked, "sha256")
        if isinstance(overlap_s, bool) or not isinstance(overlap_s, int | float) or asked:
            raise BadRequestError("A rotation takes `overlap_s`, a number of seconds, and `sha256`, both if need be.")
        return await _changed(self._router.keys.rotate(request.match_info["name"], overlap_s, sha256 or None))

    async def _revoke_key(self, request: web.Request) -> web.Response:
        return await _changed(self._router.keys.revoke(request.match_info["name"]))

    async def _forget_picture(self) -> None:
        """Who has just changed something sees what has come of it."""
        async with self._looking:
            self._seen_until = 0.0


class BadRequestError(Exception):
    """What was asked cannot be read. The text says why, and quotes nothing."""


async def _asked(request: web.Request) -> dict[str, Any]:
    """The body, which is a JSON object or nothing. Raises BadRequestError."""
    try:
        body = orjson.loads(await request.read() or b"{}")
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise BadRequestError("The body must be a JSON object.")
    return body


def _word(asked: dict[str, Any], name: str, *, needed: bool = False) -> str:
    """Takes a text out of what was asked; empty where it is left out. Raises BadRequestError."""
    word = asked.pop(name, "")
    if not isinstance(word, str) or (needed and not word):
        raise BadRequestError(f"The body needs a `{name}`, a text.")
    return word


async def _changed(change: Awaitable[dict[str, object]], status: int = 200) -> web.Response:
    try:
        return json_answer(await change, status)
    except KeyRefusedError as refused:
        return error(409, "key_refused", str(refused), faults=refused.faults)
    except LookupError as unknown:
        return error(404, "key_not_found", str(unknown))
    except NO_ANSWER as away:
        return error(503, "key_store_unavailable", str(away) or "The store of keys does not answer.")


@web.middleware
async def _as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The outermost edge: every failure becomes a JSON error that says nothing of our insides."""
    try:
        return await handler(request)
    except web.HTTPException as raised:
        status = raised.status
        allowed = raised.headers.get(hdrs.ALLOW)
        said = f"This path takes {allowed.replace(',', ' or ')}." if allowed else _MESSAGES.get(status, raised.reason)
        answer = error(status, _CODES.get(status, "http_error"), said)
        if allowed:
            answer.headers[hdrs.ALLOW] = allowed
        return answer
    except BadRequestError as bad:
        return error(400, "bad_request", str(bad))
    except Exception as failure:  # noqa: BLE001 - above this is the library alone, which may show a trace
        _logger.error("a handler of the control plane failed: %s at %s", type(failure).__name__, place_of(failure))
        return error(500, "internal_error", "The router failed to answer; its log says why.")
