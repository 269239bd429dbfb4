"""Google Vertex AI, where it is compatible with OpenAI: `.../endpoints/openapi`, or an endpoint of one's own."""

from typing import ClassVar

from router.model.fleet import AuthKind
from router.providers.openai import OpenAI


class Vertex(OpenAI):
    """Chat alone: embeddings speak another dialect there. A model has its publisher in front: `google/gemini-2.5-pro`.

    Errors are Google's: a numeric `code`, a `status` in capitals, and in streams sometimes an array around it all.
    """

    identities: ClassVar[frozenset[AuthKind]] = frozenset({AuthKind.GOOGLE})
    operations: ClassVar[frozenset[str]] = frozenset({"chat"})
