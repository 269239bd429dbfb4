"""What an attempt most likely billed, where its answer never said.

Clouds bill what they worked on: the prompt once it was accepted, and every token that was generated, whoever reads it.
An answer that was cut has told neither, so both are estimated here, and marked as estimates by whoever records them.
"""

import re
from typing import Final

from router.model.operation import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES
from router.model.outcome import Usage

# Operations that are billed by the tokens of their text; speech is by characters, images and recordings have a price.
_BY_TEXT: Final = frozenset(operation.name for operation in (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES))
# Ends without a word from the deployment that most likely was at work: a refusal would have come at once.
_AT_WORK: Final = frozenset({"timeout", "slow", "hedge_lost", "client_gone"})
# A prompt that its content filter stops is read first, so Azure charges for it.
_FILTERED: Final = re.compile(rb'"code"\s*:\s*"content_filter"')


def presumed_usage(
    operation: str, outcome: str, status: int, prompt_tokens: int, completion_tokens: int
) -> Usage | None:
    """Returns an estimate for an attempt that was sent and reported no usage; None where it billed nothing.

    `outcome`: as in `AttemptRecord`; `status`: of the answer's head, 0 where none came. `prompt_tokens`: estimated from
    the body; `completion_tokens`: those that had come when it ended.
    """
    taken = outcome in _AT_WORK if status == 0 else 200 <= status < 300
    if not taken or operation not in _BY_TEXT:
        return None
    return Usage(prompt_tokens, completion_tokens)


def prompt_filtered(body: bytes) -> bool:
    """Whether a 400 is the content filter's word on the prompt, which is charged all the same."""
    return _FILTERED.search(body) is not None
