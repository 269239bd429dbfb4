"""The `auth` section of an endpoint: which credential it is, and whether all that it needs stands there."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from router.config.document import Document
from router.config.faults import Path, listed
from router.config.hosts import is_loopback
from router.config.schema import AwsSection, EndpointSection, EntraSection, GoogleSection, OciSection, Section
from router.config.words import check_secret
from router.model.fleet import (
    AuthKind,
    AwsSource,
    Credential,
    Endpoint,
    EntraSource,
    GoogleSource,
    OciPrincipal,
    OciSource,
    Secret,
)
from router.providers import DIALECTS, dialect
from router.providers.entra import SCOPE_CLASSIC, SCOPE_V1
from router.providers.identity import missing_extra


@dataclass(frozen=True, slots=True)
class Way:
    """One of the ways that a section offers, called by its key: what it needs beside that, and what may be there."""

    needs: tuple[str, ...] = ()
    may: tuple[str, ...] = ()


WAYS: Final[Mapping[AuthKind, Mapping[str, Way]]] = MappingProxyType(
    {
        AuthKind.ENTRA: {
            "managed_identity": Way(may=("client_id",)),
            "client_secret": Way(needs=("tenant_id", "client_id"), may=("authority",)),
            "token_file": Way(needs=("tenant_id", "client_id"), may=("authority",)),
        },
        AuthKind.GOOGLE: {"service_account_file": Way(), "workload_identity_file": Way(), "application_default": Way()},
        AuthKind.SIGV4: {
            "access_key_id": Way(needs=("secret_access_key",), may=("session_token",)),
            "profile": Way(),
            "default_chain": Way(),
        },
        AuthKind.OCI: {
            "key_file": Way(needs=("user", "fingerprint", "tenancy"), may=("passphrase",)),
            "config_file": Way(may=("profile",)),
            "instance_principal": Way(),
            "resource_principal": Way(),
        },
    }
)
_ANY_WAY: Final = frozenset({"scope", "quota_project", "service", "compartment"})
_SECRETS: Final = frozenset({"client_secret", "secret_access_key", "session_token", "passphrase"})
_FILES: Final = frozenset({"token_file", "service_account_file", "workload_identity_file", "key_file", "config_file"})
_MANTLE: Final = "bedrock-mantle"
_AWS_HOST: Final = re.compile(r"bedrock-(?:runtime|mantle)\.(?P<region>[a-z0-9-]+)\..+", re.ASCII)
_SERVICE: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)


def read_auth(doc: Document, path: Path, section: EndpointSection) -> Credential:
    """Reads `auth` at `path`. What is wrong with it becomes a fault; the credential then serves further checks only."""
    given = [kind for kind in AuthKind if kind is not AuthKind.NONE and _part(section, kind) is not None]
    if len(given) > 1:
        doc.fault(path, f"has both {' and '.join(kind.value for kind in given)}: an endpoint takes one credential")
        return Credential(AuthKind.NONE)
    kind = given[0] if given else AuthKind.NONE
    if not _fits_provider(doc, path, section, kind) or kind is AuthKind.NONE:
        return Credential(AuthKind.NONE)
    here = (*path, kind.value)
    if (install := missing_extra(kind)) is not None:
        doc.fault(here, f"needs a package that is not installed: {install}")
    part = _part(section, kind)
    if isinstance(part, str):
        check_secret(doc, here, part)
        return Credential(kind, Secret(part))
    assert isinstance(part, Section)
    way = _way(doc, here, part, WAYS[kind])
    if way is None:
        return Credential(kind)
    _check_values(doc, here, part)
    match part:
        case EntraSection():
            return Credential(kind, source=_entra(doc, here, part, section))
        case GoogleSection():
            return Credential(kind, source=_google(doc, part))
        case AwsSection():
            return Credential(kind, source=_aws(doc, path, part, section))
        case OciSection():
            return Credential(kind, source=_oci(doc, part, OciPrincipal(way)))
    raise AssertionError(part)


def written_secrets(doc: Document, endpoint: Endpoint) -> Iterator[str]:
    """The keys whose secrets stand in the file itself, as dotted paths below `auth`."""
    kind = endpoint.credential.kind
    path: Path = ("endpoints", endpoint.id, "auth", kind.value)
    if endpoint.credential.secret is not None and doc.literal(path):
        yield kind.value
    source = endpoint.credential.source
    for name in sorted(_SECRETS):
        if getattr(source, name, None) is not None and doc.literal((*path, name)):
            yield f"{kind.value}.{name}"


def _part(section: EndpointSection, kind: AuthKind) -> object:
    return getattr(section.auth, kind.value)


def _fits_provider(doc: Document, path: Path, section: EndpointSection, kind: AuthKind) -> bool:
    if section.provider not in DIALECTS:
        return True  # has its own fault
    takes = dialect(section.provider).identities
    if kind in takes or (kind is AuthKind.NONE and section.emulated):
        return True
    words = listed([each.value for each in AuthKind if each in takes])
    if kind is AuthKind.NONE:
        doc.fault(path, f"is none, but {section.provider} answers nobody without a credential: write {words}")
    else:
        doc.fault((*path, kind.value), f"is not for the provider {section.provider}, which takes {words}")
    return False


def _way(doc: Document, path: Path, part: Section, ways: Mapping[str, Way]) -> str | None:
    """Which way the section goes; None where it goes none, or lacks what that needs."""
    keys = {key for key, value in part if value is not None}
    chosen = [key for key in ways if key in keys]
    if len(chosen) != 1:
        which = f"has {' and '.join(chosen)}" if chosen else "does not say how"
        doc.fault(path, f"{which}: write one of {', '.join(ways)}")
        return None
    way = ways[chosen[0]]
    if missing := [key for key in way.needs if key not in keys]:
        doc.fault(path, f"needs {listed(missing).replace(' or ', ' and ')} beside {chosen[0]}")
        return None
    for key in sorted(keys - {chosen[0]} - {*way.needs, *way.may} - _ANY_WAY):
        doc.fault((*path, key), f"says nothing beside {chosen[0]}")
    return chosen[0]


def _check_values(doc: Document, path: Path, part: Section) -> None:
    for key, value in part:
        here = (*path, key)
        if value is False:
            doc.fault(here, "must be true, or left out")
        elif key in _FILES and isinstance(value, str):
            try:
                with _file(doc, value).open("rb"):
                    pass
            except OSError as error:
                doc.fault(here, f"is a file that cannot be read ({error.strerror})")
        elif isinstance(value, str):
            check_secret(doc, here, value)


def _file(doc: Document, written: str) -> FilePath:
    """Relative paths start from the folder of the configuration."""
    return FilePath(doc.file).parent / FilePath(written).expanduser()


def _path(doc: Document, written: str | None) -> str | None:
    return str(_file(doc, written)) if written is not None else None


def _secret(text: str | None) -> Secret | None:
    return Secret(text) if text is not None else None


def _entra(doc: Document, path: Path, part: EntraSection, section: EndpointSection) -> EntraSource:
    if part.scope is not None and not part.scope.endswith("/.default"):
        doc.fault((*path, "scope"), f"is no scope of an application: it ends in /.default, as {SCOPE_V1} does")
    if part.authority is not None:
        _check_authority(doc, (*path, "authority"), part.authority)
    if section.emulated and part.managed_identity is None and not is_loopback(_host(part.authority)):
        # What would be sent there is a real secret.
        doc.fault(path, "needs an authority on loopback: an emulated endpoint speaks to nobody else")
    classic = section.api_version is not None and section.api_version != "v1"
    return EntraSource(
        scope=part.scope or (SCOPE_CLASSIC if classic else SCOPE_V1),
        tenant_id=part.tenant_id,
        client_id=part.client_id,
        client_secret=_secret(part.client_secret),
        token_file=_path(doc, part.token_file),
        authority=part.authority,
    )


def _check_authority(doc: Document, path: Path, authority: str) -> None:
    try:
        url = urlsplit(authority)
        sound = (
            url.scheme == "https" and bool(url.hostname) and url.path in ("", "/") and not (url.query or url.port == 0)
        )
    except ValueError:
        sound = False
    if not sound:
        doc.fault(path, "is no authority: write https:// and its host alone, as in https://login.microsoftonline.us")


def _host(url: str | None) -> str:
    """Empty where there is none: what is no URL has its own fault."""
    try:
        return urlsplit(url or "").hostname or ""
    except ValueError:
        return ""


def _google(doc: Document, part: GoogleSection) -> GoogleSource:
    return GoogleSource(
        _path(doc, part.service_account_file), _path(doc, part.workload_identity_file), part.quota_project
    )


def _aws(doc: Document, path: Path, part: AwsSection, section: EndpointSection) -> AwsSource:
    if not section.region:
        doc.fault((*path[:-1], "region"), "is missing: a SigV4 signature is for one region")
    host = _host(section.base_url)
    if (found := _AWS_HOST.fullmatch(host)) is not None and found["region"] != section.region and section.region:
        doc.fault((*path[:-1], "region"), "is not the region of the host: its signatures would be refused")
    service = part.service or (_MANTLE if host.startswith(f"{_MANTLE}.") else "bedrock")
    if not _SERVICE.fullmatch(service):
        doc.fault((*path, "sigv4", "service"), "is no name of a service, such as bedrock or bedrock-mantle")
    return AwsSource(
        region=section.region,
        service=service,
        access_key_id=part.access_key_id,
        secret_access_key=_secret(part.secret_access_key),
        session_token=_secret(part.session_token),
        profile=part.profile,
    )


def _oci(doc: Document, part: OciSection, principal: OciPrincipal) -> OciSource:
    return OciSource(
        principal=principal,
        compartment=part.compartment,
        user=part.user,
        fingerprint=part.fingerprint,
        tenancy=part.tenancy,
        key_file=_path(doc, part.key_file),
        passphrase=_secret(part.passphrase),
        config_file=_path(doc, part.config_file),
        profile=part.profile or "DEFAULT",
    )
