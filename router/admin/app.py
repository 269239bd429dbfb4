"""The routes of the control plane."""

import asyncio
import logging
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from router.admin.answers import error, json_answer, json_body
from router.admin.console import add_console
from router.admin.control import ControlledRouter
from router.admin.guard import guard
from router.model.fleet import Secret
from router.telemetry.exposition import render

SEEN_S: Final = 0.5
"""All who look at the console's picture within this time see the same one."""

_logger: Final = logging.getLogger(__name__)

_CODES: Final = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}
_MESSAGES: Final = {404: "There is nothing at this path.", 405: "This path does not know the method."}


def build_app(router: ControlledRouter, token: Secret | None) -> web.Application:
    """Makes the application. `token` None: only for a listener on loopback. Raises ValueError for an empty token."""
    app = web.Application(middlewares=[_as_json, guard(token)])
    app.on_response_prepare.append(_set_headers)
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
        if result.ok:
            return json_answer({"version": result.version})
        return error(
            409,
            "configuration_refused",
            f"The configuration was refused; version {result.version} stays in force.",
            version=result.version,
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

    async def _forget_picture(self) -> None:
        """Who has just changed something sees what has come of it."""
        async with self._looking:
            self._seen_until = 0.0


@web.middleware
async def _as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The outermost edge: every failure becomes a JSON error that says nothing of our insides."""
    try:
        return await handler(request)
    except web.HTTPException as raised:
        status = raised.status
        answer = error(status, _CODES.get(status, "http_error"), _MESSAGES.get(status, raised.reason))
        if hdrs.ALLOW in raised.headers:
            answer.headers[hdrs.ALLOW] = raised.headers[hdrs.ALLOW]
        return answer
    except Exception:  # nothing is above this but the library, which may show a trace
        _logger.exception("a handler of the control plane failed")
        return error(500, "internal_error", "The router failed to answer; its log says why.")


async def _set_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.pop(hdrs.SERVER, None)
    response.headers[hdrs.CACHE_CONTROL] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
