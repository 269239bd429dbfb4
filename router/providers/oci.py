"""Oracle's Generative AI, where it is compatible with OpenAI: `/openai/v1`, before that `/20231130/actions/v1`."""

from typing import ClassVar

from router.model.fleet import AuthKind
from router.providers.openai import OpenAI


class Oci(OpenAI):
    """Embeddings and reranking speak another dialect there, which is not ours.

    Errors are `{"code", "message"}` without an `error`; a 404 says that something is missing or that we may not see it.
    """

    identities: ClassVar[frozenset[AuthKind]] = frozenset({AuthKind.BEARER, AuthKind.OCI})
    operations: ClassVar[frozenset[str]] = frozenset({"chat", "responses"})
