"""Requests whose identity is a signature over their head and body: made in a worker thread, never on the loop."""

from collections.abc import Sequence

from router.providers.identity import IdentityError
from router.proxy.backend import Target
from router.proxy.context import Context
from router.proxy.failures import IdentityLostError, total_passed
from router.proxy.outgoing import length_line, request_body
from router.proxy.runtime import Runtime
from router.transport.fiber import Parking


async def signed_parts(
    ctx: Context, rt: Runtime, target: Target, up_lines: bytes, waiter: Parking
) -> list[bytes | memoryview]:
    """Like `request_parts`, with the signature's lines last in the head. Raises IdentityLostError."""
    pieces = request_body(ctx, target)
    length = length_line(sum(map(len, pieces)))
    lines = target.head.split(b"\r\n", 1)[1] + up_lines + length
    host = target.backend.deployment.endpoint.base_url.authority.encode()
    signing = rt.loop.run_in_executor(
        rt.signers, target.identity.sign, target.method, host, target.route.target, _fields(lines), pieces
    )
    signing.add_done_callback(lambda _: ctx.inbound.wake())
    try:
        while not signing.done():
            await waiter.park(ctx.total_at, total_passed)
    except BaseException:
        signing.cancel()
        raise
    try:
        signature = signing.result()
    except IdentityError as error:
        raise IdentityLostError(f"The request could not be signed: {error}") from None
    return [b"".join((target.head, up_lines, length, signature, b"\r\n")), *pieces]


def _fields(lines: bytes) -> Sequence[tuple[bytes, bytes]]:
    pairs = (line.partition(b": ") for line in lines.split(b"\r\n") if line)
    return [(name.lower(), value) for name, _, value in pairs]
