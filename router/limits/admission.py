"""What the process takes on, before a body byte is read."""

from router.base.errors import MalformedHttpError, RefusedError


def admit_body(length: int, bytes_max: int, buffered: int, buffered_max: int) -> None:
    """Raises a 413 for a body beyond its own bound and a 503 where all bodies together would pass theirs.

    `length`: from Content-Length, 0 where it is not known; all in bytes.
    """
    if length > bytes_max:
        raise MalformedHttpError(
            f"The request's body has {length} bytes; at most {bytes_max} are taken.", status=413, code="body_too_large"
        )
    if buffered + length > buffered_max:
        raise bodies_too_many()


def bodies_too_many() -> RefusedError:
    """The refusal of a body that does not fit beside the others, announced or found so while it comes."""
    return RefusedError(
        "The router holds as many request bodies as it may. Retry in a second.",
        code="overloaded",
        headers={"retry-after": "1", "retry-after-ms": "1000"},
    )
