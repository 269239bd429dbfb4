"""Dialects: how each provider writes paths, credentials, headers and errors.

Decides what an answer means, never what to do about it, and opens no connection.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from router.providers.azure_openai import AzureOpenAI
from router.providers.bedrock import Bedrock
from router.providers.dialect import Dialect
from router.providers.oci import Oci
from router.providers.openai import OpenAI
from router.providers.vertex import Vertex

DIALECTS: Final[Mapping[str, Dialect]] = MappingProxyType(
    {
        "azure_openai": AzureOpenAI(),
        "openai": OpenAI(),
        "oci": Oci(),
        "bedrock": Bedrock(),
        "vertex": Vertex(),
    }
)


def dialect(provider: str) -> Dialect:
    """Returns the dialect that an endpoint's `provider` names. Raises KeyError for one that we do not speak."""
    return DIALECTS[provider]
