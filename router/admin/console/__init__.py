"""The console's files: one page that asks the control plane for its data, and everything that it needs to do so.

They are served as they lie here, and name no other host. The page's policy lets the browser load nothing else: no
inline script, no other origin. So whatever a name or an id of a client holds, it stays text.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from aiohttp import web

from router.admin.headers import CONSOLE_POLICY

_FOLDER: Final = Path(__file__).parent
_PAGE: Final = "/console"
_TYPES: Final = {".html": "text/html", ".css": "text/css", ".mjs": "text/javascript", ".svg": "image/svg+xml"}

FILES: Final[Mapping[str, Path]] = {
    _PAGE: _FOLDER / "index.html",
    **{
        f"{_PAGE}/{file.relative_to(_FOLDER).as_posix()}": file
        for file in sorted(_FOLDER.rglob("*"))
        if file.suffix in _TYPES and file.name != "index.html"
    },
}
"""By path: all that is served, and nothing that is not in this table."""


def add_console(table: web.UrlDispatcher) -> None:
    """Adds a route for each file."""
    for path in FILES:
        table.add_get(path, _serve)


async def _serve(request: web.Request) -> web.Response:
    file = FILES[request.path]
    answer = web.Response(body=file.read_bytes(), content_type=_TYPES[file.suffix], charset="utf-8")
    answer.headers["Content-Security-Policy"] = CONSOLE_POLICY
    return answer
