"""How each cloud reads paths and credentials, and the shape of its refusals, errors and headers."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from router.base.clock import Clock
from router.emulator.credentials.tokens import TokenIssuer
from router.emulator.dialects.azure import AzureDialect
from router.emulator.dialects.bedrock import BedrockDialect
from router.emulator.dialects.oci import OciDialect
from router.emulator.dialects.openai import OpenAIDialect
from router.emulator.dialects.shape import MODELS, PATHS, Dialect, Target
from router.emulator.dialects.vertex import VertexDialect
from router.emulator.settings import Endpoint

__all__ = ["MODELS", "PATHS", "Dialect", "Target", "dialect_of"]

_DIALECTS: Final[Mapping[str, Callable[[Endpoint, Clock, TokenIssuer | None], Dialect]]] = MappingProxyType(
    {
        "azure_openai": AzureDialect,
        "openai": OpenAIDialect,
        "oci": OciDialect,
        "bedrock": BedrockDialect,
        "vertex": VertexDialect,
    }
)


def dialect_of(endpoint: Endpoint, clock: Clock, issuer: TokenIssuer | None) -> Dialect:
    """`issuer`: who issued the tokens that callers come with, where they come with tokens."""
    return _DIALECTS[endpoint.dialect](endpoint, clock, issuer)
