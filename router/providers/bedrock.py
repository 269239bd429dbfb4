"""AWS Bedrock, where it is compatible with OpenAI: the runtime's `/openai/v1`, and Mantle's `/v1` or `/openai/v1`."""

import re
from collections.abc import Mapping
from typing import ClassVar, Final

from router.model.fleet import AuthKind
from router.providers.dialect import Fault, Judgement
from router.providers.faults import decode_error, read_error
from router.providers.openai import OpenAI

# What AWS says of a model's name, which is ours: a 400 that is not the client's.
_NO_SUCH_MODEL: Final = re.compile(
    r"the provided model identifier is invalid\.?|(?:the )?model .{1,128} isn.t supported on this route\.?",
    re.IGNORECASE | re.ASCII,
)


class Bedrock(OpenAI):
    """The native services (binary event streams, embeddings) speak another dialect, which is not ours."""

    identities: ClassVar[frozenset[AuthKind]] = frozenset({AuthKind.BEARER, AuthKind.SIGV4})
    operations: ClassVar[frozenset[str]] = frozenset({"chat", "responses"})

    def judge(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> Judgement:
        judgement = super().judge(status, headers, body)
        if judgement.kind is Fault.ANSWER and _NO_SUCH_MODEL.fullmatch(read_error(decode_error(body)).message.strip()):
            return Judgement(Fault.MISSING)
        return judgement
