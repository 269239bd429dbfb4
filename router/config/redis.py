"""The section `redis`: where several routers share their limits."""

import importlib.util
import re
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlsplit

from router.config.document import Document
from router.config.faults import Path
from router.config.hosts import is_loopback
from router.config.schema import RedisSection
from router.config.words import check_name, read_ca_file
from router.leasing.settings import INSTALL, RedisSettings
from router.model.fleet import Secret

_HERE: Final[Path] = ("redis",)
_SCHEMES: Final = ("redis", "rediss", "unix")
_DATABASE: Final = re.compile(r"/?[0-9]{0,4}", re.ASCII)


def read_redis(doc: Document, section: RedisSection | None) -> tuple[RedisSettings | None, list[str]]:
    """Returns the settings, and warnings."""
    if section is None:
        return None, []
    if importlib.util.find_spec("redis") is None:
        doc.fault(_HERE, f"needs a package that is not installed: {INSTALL}")
    url = _parse(section.url)
    if isinstance(url, str):
        doc.fault((*_HERE, "url"), url)
    if section.prefix is not None:
        check_name(doc, (*_HERE, "prefix"), section.prefix)
    if section.ca_file is not None and not section.url.startswith("rediss:"):
        doc.fault((*_HERE, "ca_file"), "needs a `url` that begins with rediss://")
    changed = section.model_dump(exclude_none=True, include={"prefix", "on_loss", "routers"})
    ca_file = read_ca_file(doc, (*_HERE, "ca_file"), section.ca_file)
    return RedisSettings(Secret(section.url), ca_file=ca_file, **changed), _warnings(url)


def _parse(text: str) -> SplitResult | str:
    """A URL that can be used, or what is wrong with it; which shows nothing of it."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return "is not a URL: write redis://HOST:PORT, rediss://… or unix:///PATH"
    options = dict(parse_qsl(url.query, keep_blank_values=True))
    if url.scheme not in _SCHEMES:
        return "is not a URL of Redis: it begins with redis://, rediss:// or unix://"
    if url.scheme == "unix" and (url.hostname or not url.path.strip("/")):
        return "names no socket: write unix:///PATH"
    if url.scheme != "unix" and (not url.hostname or port == 0):
        return "names no server: write HOST:PORT behind the scheme"
    if url.scheme != "unix" and not _DATABASE.fullmatch(url.path):
        return "has a path that is no number of a database"
    if url.fragment or options.keys() - {"db"} or not options.get("db", "0").isdigit():
        return "has options that are not supported: write user, password and database alone"
    return url


def _warnings(url: SplitResult | str) -> list[str]:
    if isinstance(url, str):
        return []
    if url.scheme == "redis" and not is_loopback(url.hostname or ""):
        return ["redis.url: is spoken to in the clear; rediss:// is not"]
    return []
