"""Which clouds a router file wants emulated, and how each behaves.

The file is read leniently, only for the keys that are needed here: the router's own check judges it. What stands
under an endpoint's `emulator:` belongs to this room and is read strictly. Its keys, all optional:

    key             type                              default
    seed            whole number                      0        of every random draw
    head_ms         distribution                      0        from the request's last byte to the answer's head
    first_token_ms  distribution                      0        from the head to the first event with a delta
    token_gap_ms    distribution                      0        between events
    tokens          distribution                      16       length of a completion, in words
    chunk_tokens    whole number, at least 1          1        words an event
    quota           true or false                     false    refuse what exceeds `tpm` and `rpm`
    quota_estimate  number                            1        a request's tokens count so many times what they are
    quota_headers   shown, missing or untracked       shown    x-ratelimit-*; untracked: there, with nothing but -1
    content_filter  true or false                     as the dialect: true on azure_openai, else false
    async_filter    true or false                     false    annotations after the text, not with it
    idle_timeout_s  number                            0        closes an idle connection; 0: never
    token_life_s    number                            3600     how long the tokens that it issues live
    tls_cert        text, a path                      none     PEM; needed where base_url is https
    tls_key         text, a path                      none     PEM
    faults          list of mappings                  []       as in `faults.Fault`

A distribution is a number (always that) or `{median: number, sigma: number}`, log-normal; sigma defaults to 0.
Relative paths start from the folder of the file. An answer that is not streamed takes what its stream would take.
"""

import ipaddress
import math
import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from router.base.references import ReferenceMissingError, resolve_reference
from router.emulator import shapes
from router.emulator.credentials.known import Known
from router.emulator.credentials.load import read_known
from router.emulator.faults import Fault, read_faults
from router.emulator.shapes import EmulatorConfigError

DIALECTS: Final = ("azure_openai", "openai", "oci", "bedrock", "vertex")


@dataclass(frozen=True, slots=True)
class Distribution:
    """Log-normal around `median`; sigma 0: always the median."""

    median: float
    sigma: float = 0.0

    def sample(self, rng: random.Random) -> float:
        return self.median * math.exp(self.sigma * rng.gauss(0.0, 1.0)) if self.sigma else self.median


NOTHING: Final = Distribution(0.0)


@dataclass(frozen=True, slots=True)
class Settings:
    """How one cloud behaves; the module's text says what each key means."""

    seed: int = 0
    head_ms: Distribution = NOTHING
    first_token_ms: Distribution = NOTHING
    token_gap_ms: Distribution = NOTHING
    tokens: Distribution = Distribution(16.0)
    chunk_tokens: int = 1
    quota: bool = False
    quota_estimate: float = 1.0
    quota_headers: str = "shown"
    content_filter: bool | None = None
    async_filter: bool = False
    idle_timeout_s: float = 0.0
    token_life_s: float = 3600.0
    tls_cert: str | None = None
    tls_key: str | None = None
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class Deployment:
    """One model of a cloud. `operations` None: all of them. `tpm`, `rpm` None: not limited."""

    name: str
    model: str = "gpt-4o"
    tpm: int | None = None
    rpm: int | None = None
    operations: frozenset[str] | None = None
    quota_pool: str | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One cloud to emulate. `key` None: any credential is right. `path`: what base_url has behind the host."""

    dialect: str = "azure_openai"
    deployments: tuple[Deployment, ...] = (Deployment("gpt-4o"),)
    id: str = "emulated"
    region: str = "eastus2"
    host: str = "127.0.0.1"
    port: int = 0
    path: str = ""
    tls: bool = False
    key: str | None = None
    known: Known | None = None  # who signs, or comes with tokens that this cloud issues
    engine: str = ""  # of a self-hosted one, whose health and load it shows: `vllm`, `sglang`, `nim`
    settings: Settings = Settings()


def _distribution(raw: object) -> Distribution:
    if isinstance(raw, Mapping):
        found = shapes.fields(raw, "distribution", {"median": shapes.number, "sigma": shapes.number})
        if "median" not in found:
            raise EmulatorConfigError("has no median")
        return Distribution(**found)
    return Distribution(shapes.number(raw))


def _at_least_one(raw: object) -> int:
    value = shapes.whole(raw)
    if value < 1:
        raise EmulatorConfigError("must be at least 1")
    return value


_SETTINGS: Final[dict[str, Callable[[object], Any]]] = {
    "seed": shapes.signed,
    "head_ms": _distribution,
    "first_token_ms": _distribution,
    "token_gap_ms": _distribution,
    "tokens": _distribution,
    "chunk_tokens": _at_least_one,
    "quota": shapes.boolean,
    "quota_estimate": shapes.number,
    "quota_headers": shapes.one_of("shown", "missing", "untracked"),
    "content_filter": shapes.optional(shapes.boolean),
    "async_filter": shapes.boolean,
    "idle_timeout_s": shapes.number,
    "token_life_s": shapes.number,
    "tls_cert": shapes.optional(shapes.text),
    "tls_key": shapes.optional(shapes.text),
    "faults": read_faults,
}


def read_settings(raw: object, where: str = "emulator") -> Settings:
    """Reads the mapping under `emulator:`. Raises EmulatorConfigError."""
    return Settings(**shapes.fields(raw, where, _SETTINGS))


def load_endpoints(file: Path, environ: Mapping[str, str] = os.environ) -> tuple[Endpoint, ...]:
    """The endpoints of a router file that are marked `emulated: true`.

    Raises EmulatorConfigError when the file cannot be read, or says what cannot be emulated.
    """
    try:
        document = YAML(typ="safe", pure=True).load(file)
    except (OSError, YAMLError, UnicodeDecodeError) as error:
        raise EmulatorConfigError(f"{file}: cannot be read: {error}") from error
    endpoints = document.get("endpoints") if isinstance(document, Mapping) else None
    if not isinstance(endpoints, Mapping):
        raise EmulatorConfigError(f"{file}: has no endpoints")
    found = []
    for name, raw in endpoints.items():
        if isinstance(raw, Mapping) and raw.get("emulated") is True:
            try:
                found.append(_endpoint(str(name), raw, environ, file.parent))
            except (EmulatorConfigError, ReferenceMissingError) as error:
                raise EmulatorConfigError(f"{file}: endpoints.{name}: {error}") from error
    if not found:
        raise EmulatorConfigError(f"{file}: no endpoint is marked `emulated: true`")
    return tuple(found)


def _endpoint(name: str, raw: Mapping[str, Any], environ: Mapping[str, str], base: Path) -> Endpoint:
    dialect = raw.get("provider")
    if dialect not in DIALECTS:
        raise EmulatorConfigError(f"provider {dialect!r} is not emulated; known: {', '.join(DIALECTS)}")
    url = urlsplit(resolve_reference(str(raw.get("base_url", "")), environ, base))
    if url.scheme not in ("http", "https") or not url.hostname:
        raise EmulatorConfigError("base_url must be an http or https URL")
    if not _is_loopback(url.hostname):
        raise EmulatorConfigError(f"base_url: an emulated endpoint must be on loopback, not at {url.hostname}")
    settings = read_settings(raw.get("emulator") or {})
    if url.scheme == "https" and not (settings.tls_cert and settings.tls_key):
        raise EmulatorConfigError("base_url is https: emulator.tls_cert and emulator.tls_key are needed")
    return Endpoint(
        dialect=dialect,
        deployments=tuple(_deployment(each) for each in raw.get("deployments") or ()),
        id=name,
        region=str(raw.get("region") or "loopback"),
        host=url.hostname,
        port=url.port or (443 if url.scheme == "https" else 80),
        path=url.path.rstrip("/"),
        tls=url.scheme == "https",
        key=_key(raw.get("auth"), environ, base),
        known=read_known(raw.get("auth"), str(raw.get("region") or ""), environ, base),
        engine=str(raw.get("load") or ""),
        settings=replace(
            settings,
            tls_cert=settings.tls_cert and str(base / settings.tls_cert),
            tls_key=settings.tls_key and str(base / settings.tls_key),
        ),
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _key(auth: object, environ: Mapping[str, str], base: Path) -> str | None:
    """The key that is right here, where a key is what it takes."""
    if isinstance(auth, Mapping):
        for kind in ("api_key", "bearer"):
            if isinstance(auth.get(kind), str):
                return resolve_reference(auth[kind], environ, base)
    return None


def _deployment(raw: object) -> Deployment:
    if not isinstance(raw, Mapping) or not isinstance(raw.get("name"), str):
        raise EmulatorConfigError(f"a deployment needs a name, and is {raw!r}")
    operations = raw.get("operations")
    return Deployment(
        name=raw["name"],
        model=str(raw.get("model") or raw["name"]),
        tpm=shapes.optional(shapes.whole)(raw.get("tpm")),
        rpm=shapes.optional(shapes.whole)(raw.get("rpm")),
        operations=frozenset(operations) if isinstance(operations, list) else None,
        quota_pool=shapes.optional(shapes.text)(raw.get("quota_pool")),
    )
