"""From a request to its answer: the cloud without its sockets."""

import math
import random
import uuid
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from router.base.clock import Clock
from router.emulator.answer import Answer, Ask, Headers, RefusedError
from router.emulator.answers import ANSWERS
from router.emulator.answers.responses import whole_response
from router.emulator.bodies import About
from router.emulator.credentials.tokens import ISSUING, issuer_of
from router.emulator.dialects import MODELS, Target, dialect_of
from router.emulator.multipart import MultipartError, parse_multipart
from router.emulator.quota import Quota, Verdict, estimate, prompt_tokens
from router.emulator.received import Request
from router.emulator.sessions import PATHS, REALTIME, Session, model_in_query
from router.emulator.settings import Deployment, Endpoint
from router.emulator.stored import Store


@dataclass(slots=True)
class Handled:
    """An answer and what it was about, as far as the request was understood. `headers`: what any answer here has."""

    answer: Answer = field(default_factory=lambda: Answer(500, "application/json"))
    operation: str | None = None
    deployment: str | None = None
    about: About = field(default_factory=About)
    headers: Headers = ()


class Service:
    """Answers as `endpoint` would; holds its quota counters and random source."""

    def __init__(self, endpoint: Endpoint, clock: Clock) -> None:
        self.endpoint, self._clock = endpoint, clock
        self.rng = random.Random(f"{endpoint.settings.seed}/{endpoint.id}")
        self._issuer = issuer_of(endpoint.known, endpoint.settings.token_life_s, clock, self.rng)
        self._dialect = dialect_of(endpoint, clock, self._issuer)
        self.store = Store(self.rng, clock.wall)
        self._deployments = {deployment.name: deployment for deployment in endpoint.deployments}
        self._quotas: dict[str, Quota] = {}
        for deployment in endpoint.deployments:
            pool = self._pool(deployment)
            if pool not in self._quotas:  # the first of a pool says how large it is
                self._quotas[pool] = Quota(deployment.tpm, deployment.rpm)

    def handle(self, request: Request) -> Handled:
        """Never raises for what a client sent: a refusal is an answer."""
        handled = Handled(about=About(dialect=self.endpoint.dialect))
        request_id = str(uuid.UUID(int=self.rng.getrandbits(128), version=4))
        handled.headers = self._dialect.headers(request_id, None)
        try:
            handled.answer = self._answer(request, request_id, handled)
        except RefusedError as refused:
            handled.answer = refused.answer
        return handled

    def _answer(self, request: Request, request_id: str, handled: Handled) -> Answer:
        if self._issuer is not None and (issued := self._issuer.answer(request)) is not None:
            handled.operation = ISSUING
            return issued
        self._dialect.check(request)
        target = self._dialect.target(request)
        handled.operation = target.operation
        if target.operation == MODELS:
            return self._dialect.models(target)
        if target.stored is not None:
            fields, files = self._body(request) if request.body else ({}, {})
            query = request.target.partition("?")[2]
            return self.store.answer(request.method, target.stored, query, fields, files)
        fields, files = self._body(request)
        deployment = self._deployment(target, fields)
        handled.deployment = deployment.name
        tokens = round(estimate(fields) * self.endpoint.settings.quota_estimate)
        verdict = self._quotas[self._pool(deployment)].charge(tokens, self._clock.monotonic())
        handled.headers = self._dialect.headers(request_id, self._shown(verdict))
        handled.about = self._about(target, deployment, verdict, streamed=fields.get("stream") is True)
        if self.endpoint.settings.quota and not verdict.allowed:
            raise self._dialect.throttled(verdict, handled.about)
        if deployment.operations is not None and target.operation not in deployment.operations:
            raise self._dialect.unsupported(deployment, target.operation)
        self._dialect.check_fields(target, fields)
        self.store.check(fields)
        asked = self._ask(target.operation, fields, files, deployment, request_id)
        answer = ANSWERS[target.operation](asked)
        if target.operation == "responses" and fields.get("store") is not False:
            self.store.keep_response(whole_response(asked), fields.get("input"))
        return answer

    def session(self, request: Request) -> tuple[Handled, Session | None]:
        """A session that is asked for, or the answer that refuses it."""
        handled = Handled(about=About(dialect=self.endpoint.dialect))
        handled.headers = self._dialect.headers(str(uuid.UUID(int=self.rng.getrandbits(128), version=4)), None)
        try:
            self._dialect.check(request)
            path = request.path.removeprefix(self.endpoint.path)
            operation = PATHS.get(
                path.removeprefix("/openai/v1").removeprefix("/openai") if self._dialect.azure else path
            )
            handled.operation = operation
            if operation is None:
                handled.answer = self.handle(request).answer
                return handled, None
            deployment = None
            if operation == REALTIME:
                deployment = self._deployment(Target(operation, model_in_query(request)), {})
                handled.deployment = deployment.name
        except RefusedError as refused:
            handled.answer = refused.answer
            return handled, None
        return handled, Session(operation, deployment, self.endpoint.settings, self.rng)

    def _body(self, request: Request) -> tuple[dict[str, Any], dict[str, bytes]]:
        content_type = request.header("content-type") or ""
        if content_type.lower().startswith("multipart/"):
            try:
                return parse_multipart(content_type, bytes(request.body))
            except (MultipartError, UnicodeDecodeError) as error:
                raise self._dialect.bad_request(f"The form cannot be read: {error}") from error
        try:
            fields = orjson.loads(request.body)
        except orjson.JSONDecodeError as error:
            raise self._dialect.bad_request("The body of your request is not valid JSON.") from error
        if not isinstance(fields, dict):
            raise self._dialect.bad_request("The body of your request is not a JSON object.")
        return fields, {}

    def _deployment(self, target: Target, fields: dict[str, Any]) -> Deployment:
        name = target.deployment if target.deployment is not None else fields.get("model")
        if not isinstance(name, str):
            raise self._dialect.bad_request("You must provide a model parameter.")
        if name not in self._deployments:
            raise self._dialect.unknown_deployment(name)
        return self._deployments[name]

    def _about(self, target: Target, deployment: Deployment, verdict: Verdict, *, streamed: bool) -> About:
        return About(
            deployment=deployment.name,
            model=deployment.model,
            region=self.endpoint.region,
            operation=target.operation,
            api_version=target.api_version,
            wait_s=math.ceil(verdict.wait_s) or 60,
            dialect=self.endpoint.dialect,
            streamed=streamed,
        )

    def lower_quotas(self, share: float) -> None:
        """Leaves this share of every pool's limits, until it is called with another."""
        for quota in self._quotas.values():
            quota.lower(share)

    def _shown(self, verdict: Verdict) -> Verdict | None:
        """What the headers tell of it."""
        match self.endpoint.settings.quota_headers:
            case "missing":
                return None
            case "untracked":
                return replace(verdict, limit_requests=-1, remaining_requests=-1, limit_tokens=-1, remaining_tokens=-1)
        return verdict

    def _ask(
        self, operation: str, fields: dict[str, Any], files: dict[str, bytes], deployment: Deployment, request_id: str
    ) -> Ask:
        settings = self.endpoint.settings
        filtered = self._dialect.azure if settings.content_filter is None else settings.content_filter
        return Ask(
            operation=operation,
            fields=fields,
            files=files,
            deployment=deployment,
            settings=settings,
            source=self.endpoint.id,
            request_id=request_id,
            created=int(self._clock.wall()),
            length=max(1, round(settings.tokens.sample(self.rng))),
            prompt_tokens=prompt_tokens(fields),
            azure=self._dialect.azure,
            filtered=filtered,
        )

    def _pool(self, deployment: Deployment) -> str:
        return f"pool:{deployment.quota_pool}" if deployment.quota_pool else f"deployment:{deployment.name}"
