"""What an operator may set about the limits that several routers share."""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from router.model.fleet import Secret

INSTALL: Final = "pip install '.[redis]'"

OnLoss: TypeAlias = Literal["share", "open", "closed"]


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """Where limits are shared, and what holds while that place does not answer. A reload changes none of it."""

    url: Secret  # redis://, rediss:// or unix://, with its credentials
    prefix: str = "inference-router"  # of every key there: routers of one prefix share their limits
    on_loss: OnLoss = "share"  # a router's part of each limit, no limit at all, or nothing for anybody
    routers: int = 1  # how many share, as long as Redis has never said
    ca_file: str | None = None  # whom a rediss server's certificate may be of; None: whom the world trusts
