"""Who sends a request, found once for every route that needs to know."""

from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer

from videogen.serving.access import Access, is_loopback, require
from videogen.serving.jobs import Caller

KEY = HTTPBearer(
    scheme_name="key",
    description="A key that `videogen keys create` printed. As long as none was ever made, calls need none from the "
    "service's own machine, or from anywhere with `--insecure`.",
    auto_error=False,
)
"""Declares what a route needs, for the OpenAPI document; `Access` is what looks at it."""


async def caller_of(request: Request, _: Annotated[object, Security(KEY)]) -> Caller:
    """Raises Unauthenticated, and Forbidden for a key without the scope `user`."""
    access: Access = request.app.state.access
    peer_is_loopback = request.client is None or is_loopback(request.client.host)
    caller = await access.authenticate(request.headers.get("authorization"), peer_is_loopback)
    require(caller, "user")
    return caller


Known = Annotated[Caller, Depends(caller_of)]


async def reader_of(request: Request, caller: Known) -> Caller:
    """Takes a look out of what the caller may have; what is left goes into the answer's headers. Raises RateLimited."""
    request.state.allowance = (await request.app.state.limits.read(caller)).headers()
    return caller


async def canceller_of(request: Request, caller: Known) -> Caller:
    """Takes a cancellation out of what the caller may have, as `reader_of` takes a look."""
    request.state.allowance = (await request.app.state.limits.read(caller, "cancel")).headers()
    return caller


Reading = Annotated[Caller, Depends(reader_of)]
Cancelling = Annotated[Caller, Depends(canceller_of)]
