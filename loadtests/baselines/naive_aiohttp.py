"""A gateway as one writes it in an afternoon: `aiohttp.web` in front, a `ClientSession` behind, bytes relayed as read.

It checks the benchmark itself: its cost is known to be 6 to 12 times nginx's, so a round that says otherwise measured
the machine's mood and not the proxies.
"""

import argparse
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import aiohttp
import uvloop
from aiohttp import web

_OF_THE_HOP: Final = {"connection", "keep-alive", "transfer-encoding", "host", "content-length"}


def end_to_end(headers: aiohttp.typedefs.LooseHeaders) -> list[tuple[str, str]]:
    """Leaves out what belongs to one connection only."""
    pairs = headers.items() if hasattr(headers, "items") else headers
    return [(str(name), str(value)) for name, value in pairs if str(name).lower() not in _OF_THE_HOP]


def relay_to(upstream: str, session: aiohttp.ClientSession) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def relay(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = end_to_end(request.headers)
        async with session.request(request.method, upstream + request.path_qs, data=body, headers=headers) as answer:
            response = web.StreamResponse(status=answer.status, headers=end_to_end(answer.headers))
            if answer.content_length is not None:
                response.content_length = answer.content_length
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response

    return relay


async def make_app(upstream: str) -> web.Application:
    app = web.Application(client_max_size=64 << 20)

    async def client(_: web.Application) -> AsyncIterator[None]:
        connector = aiohttp.TCPConnector(limit=0, ssl=False)  # as nginx here: the upstream is not verified
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:
            app["relay"] = relay_to(upstream, session)
            yield

    async def entry(request: web.Request) -> web.StreamResponse:
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]] = app["relay"]
        return await handler(request)

    app.cleanup_ctx.append(client)
    app.router.add_route("*", "/{path:.*}", entry)
    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True, help="for example http://127.0.0.1:8000")
    args = parser.parse_args()
    uvloop.install()
    web.run_app(make_app(args.upstream), host="127.0.0.1", port=args.port, access_log=None, print=None, backlog=4096)


if __name__ == "__main__":
    main()
