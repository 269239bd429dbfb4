"""Issues tokens as the clouds' own services do, on the cloud's own port, and knows them again until their end."""

import base64
import binascii
import random
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs

import orjson

from router.base.clock import Clock
from router.emulator.answer import Answer, RefusedError, json_answer
from router.emulator.credentials.check import Problem
from router.emulator.credentials.known import EntraApplication, GoogleAccount, Known
from router.emulator.credentials.rsa import is_signed
from router.emulator.received import Request

ISSUING: Final = "token"  # the operation, as scripted faults and the counts call it
AZURE_AUDIENCES: Final = ("https://cognitiveservices.azure.com", "https://ai.azure.com")
GOOGLE_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
_ENTRA_PATH: Final = "/oauth2/v2.0/token"
_IMDS_PATH: Final = "/metadata/identity/oauth2/token"
_GOOGLE_PATH: Final = "/token"
_EXCHANGE_PATH: Final = "/v1/token"
_JWT_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_EXCHANGE_GRANT: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
_ASSERTION_LIFE_MAX_S: Final = 3600.0
_CLOCK_SKEW_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class _Issued:
    audience: str
    expires_at: float  # wall seconds


class TokenIssuer:
    """The token services of one cloud. `life_s`: how long what it issues lives."""

    def __init__(
        self, known: EntraApplication | GoogleAccount, life_s: float, clock: Clock, rng: random.Random
    ) -> None:
        self._known, self._life_s, self._clock, self._rng = known, life_s, clock, rng
        self._issued: dict[str, _Issued] = {}

    def answer(self, request: Request) -> Answer | None:
        """The answer to a request for a token; None for any other. Raises RefusedError."""
        if isinstance(self._known, EntraApplication):
            if request.method == "POST" and request.path.endswith(_ENTRA_PATH):
                return self._entra(self._known, request)
            if request.method == "GET" and request.path == _IMDS_PATH:
                return self._managed(self._known, request)
        elif request.method == "POST" and request.path == _GOOGLE_PATH:
            return self._google(self._known, request)
        elif request.method == "POST" and request.path == _EXCHANGE_PATH:
            return self._exchanged(self._known, request)
        return None

    def problem(self, request: Request) -> Problem | None:
        """As `Check.problem`."""
        scheme, _, token = (request.header("authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return Problem.MISSING
        issued = self._issued.get(token)
        if issued is None:
            return Problem.UNKNOWN
        if self._clock.wall() >= issued.expires_at:
            return Problem.EXPIRED
        right = AZURE_AUDIENCES if isinstance(self._known, EntraApplication) else (GOOGLE_SCOPE,)
        return None if issued.audience in right else Problem.SCOPE

    def _entra(self, known: EntraApplication, request: Request) -> Answer:
        form = _form(request)
        tenant = request.path.removesuffix(_ENTRA_PATH).strip("/")
        if known.tenant not in (None, tenant):
            raise _entra_error(400, "invalid_request", 90002, f"Tenant '{tenant}' not found.")
        if known.client_id not in (None, form.get("client_id")):
            raise _entra_error(400, "unauthorized_client", 700016, "Application was not found in the directory.")
        if form.get("grant_type") != "client_credentials":
            raise _entra_error(400, "unsupported_grant_type", 70003, "The grant type is not supported.")
        if known.client_secret is not None and form.get("client_secret") != known.client_secret:
            raise _entra_error(401, "invalid_client", 7000215, "Invalid client secret provided.")
        if known.assertion is not None and form.get("client_assertion") != known.assertion:
            raise _entra_error(401, "invalid_client", 700211, "No matching federated identity record found.")
        scope = form.get("scope", "").split(" ")[0]
        if not scope.endswith("/.default"):
            raise _entra_error(400, "invalid_scope", 1002012, "The provided value for scope is not valid.")
        token = self._issue(scope.removesuffix("/.default"))
        return json_answer(
            {"token_type": "Bearer", "expires_in": self._life(), "ext_expires_in": self._life(), "access_token": token}
        )

    def _managed(self, known: EntraApplication, request: Request) -> Answer:
        """The instance metadata service of a virtual machine."""
        query = {key: values[-1] for key, values in parse_qs(request.target.partition("?")[2]).items()}
        if request.header("metadata") != "true" or known.client_id not in (None, query.get("client_id")):
            raise RefusedError(
                400, orjson.dumps({"error": "invalid_request", "error_description": "Identity not found"})
            )
        token = self._issue(query.get("resource", "").rstrip("/"))
        return json_answer(
            {
                "access_token": token,
                "client_id": query.get("client_id", ""),
                "expires_in": str(self._life()),
                "expires_on": str(int(self._clock.wall()) + self._life()),
                "resource": query.get("resource", ""),
                "token_type": "Bearer",
            }
        )

    def _google(self, known: GoogleAccount, request: Request) -> Answer:
        form = _form(request)
        claims = _claims(form.get("assertion", ""), known.public_key)
        if form.get("grant_type") != _JWT_GRANT or claims is None:
            raise _google_error("Invalid JWT Signature.")
        if known.email not in (None, claims.get("iss")):
            raise _google_error("Invalid grant: account not found")
        now, begin, end = self._clock.wall(), claims.get("iat"), claims.get("exp")
        if not isinstance(begin, int) or not isinstance(end, int) or end - begin > _ASSERTION_LIFE_MAX_S:
            raise _google_error("Invalid JWT: Token must be a short-lived token (60 minutes).")
        if not begin - _CLOCK_SKEW_S <= now <= end + _CLOCK_SKEW_S:
            raise _google_error("Invalid JWT: Token must be in a reasonable timeframe. Check your iat and exp values.")
        token = self._issue(str(claims.get("scope", "")))
        return json_answer({"access_token": token, "expires_in": self._life(), "token_type": "Bearer"})

    def _exchanged(self, known: GoogleAccount, request: Request) -> Answer:
        """The security token service: another authority's token for one of ours."""
        form = _form(request)
        if form.get("grant_type") != _EXCHANGE_GRANT or known.subject_token not in (None, form.get("subject_token")):
            raise _google_error("The given credential is rejected by the attribute condition.")
        return json_answer(
            {
                "access_token": self._issue(form.get("scope", "")),
                "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
                "token_type": "Bearer",
                "expires_in": self._life(),
            }
        )

    def _life(self) -> int:
        """The services tell whole seconds."""
        return int(self._life_s)

    def _issue(self, audience: str) -> str:
        """A token that looks like one: three parts that only this issuer can read."""
        parts = ({"alg": "RS256", "typ": "JWT"}, {"aud": audience, "jti": f"{self._rng.getrandbits(128):032x}"})
        head, claims = (base64.urlsafe_b64encode(orjson.dumps(part)).rstrip(b"=").decode() for part in parts)
        token = f"{head}.{claims}.{self._rng.getrandbits(256):064x}"
        self._issued[token] = _Issued(audience, self._clock.wall() + self._life_s)
        return token


def issuer_of(known: Known | None, life_s: float, clock: Clock, rng: random.Random) -> TokenIssuer | None:
    """The issuer that a cloud needs, where its callers come with tokens."""
    return TokenIssuer(known, life_s, clock, rng) if isinstance(known, EntraApplication | GoogleAccount) else None


def _form(request: Request) -> dict[str, str]:
    return {key: values[-1] for key, values in parse_qs(bytes(request.body).decode("utf-8", "replace")).items()}


def _claims(assertion: str, public_key: bytes | None) -> dict[str, Any] | None:
    """The claims of a JWT with a right RS256 signature; without a key any signature is right."""
    signed, _, signature = assertion.rpartition(".")
    try:
        if public_key is not None and not is_signed(signed.encode(), _decoded(signature), public_key):
            return None
        claims = orjson.loads(_decoded(signed.partition(".")[2]))
    except (binascii.Error, orjson.JSONDecodeError):
        return None
    return claims if isinstance(claims, dict) else None


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _entra_error(status: int, error: str, code: int, text: str) -> RefusedError:
    body = {"error": error, "error_description": f"AADSTS{code}: {text}", "error_codes": [code]}
    return RefusedError(status, orjson.dumps(body))


def _google_error(text: str) -> RefusedError:
    return RefusedError(400, orjson.dumps({"error": "invalid_grant", "error_description": text}))
