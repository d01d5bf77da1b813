"""Calls to addresses that a caller chose: https to public addresses only, each checked after its name is resolved.

The connection goes to the very address that was checked, so a name that is resolved anew cannot lead elsewhere, and
every redirect is checked in the same way.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from videogen.errors import InvalidRequest

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""From a host's name and a port to its addresses, [] if it has none."""
MAX_URL_CHARACTERS = 2_048
MAX_REDIRECTS = 3
RESOLVE_S = 5.0
LOOK_UPS = 8
"""At once; a slow resolver keeps nothing else waiting."""
CALL_S = 10.0
"""Until a connection, and between two parts of an answer."""
POST_S = 60.0
"""For all of it, redirects included: an answer may come a byte at a time."""
KEEPS_METHOD = (307, 308)
GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a URL leads: its host and port, and the address that was checked."""

    url: httpx.URL
    host: str
    port: int
    address: str


def resolve(host: str, port: int) -> list[str]:
    """What the system's resolver says."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        return []
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet. Those that carry an IPv4 address are as that one is."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or (ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF) if ip in NAT64 else None)
        if inner is None:
            return ip in GLOBAL_UNICAST and ip.is_global and not (ip.sixtofour or ip.teredo or ip.scope_id)
        ip = inner
    return ip.is_global and not (ip.is_multicast or ip.is_reserved)


class Outgoing:
    """Sends to addresses that callers name. `allowed` hosts may be private and may speak plain http.

    `resolver` is the system's, and `trust`, which decides whose certificates count, too, unless given.
    """

    def __init__(
        self,
        allowed: frozenset[str] = frozenset(),
        resolver: Resolver | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self.allowed, self.resolver = allowed, resolver or self._resolve
        self._threads = ThreadPoolExecutor(LOOK_UPS, thread_name_prefix="videogen-names")
        # No proxy from the environment: it would resolve the name a second time.
        no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))  # one caller's would go to another's receiver
        self._client = httpx.AsyncClient(trust_env=False, timeout=CALL_S, verify=trust or True, cookies=no_cookies)

    async def check(self, url: str, field: str = "url") -> Target:
        """Where `url` leads just now. Raises InvalidRequest naming `field` if nothing may be sent there."""
        parsed = _parsed(url, field)
        host = parsed.host.lower().rstrip(".")
        port = parsed.port or (80 if parsed.scheme == "http" else 443)
        if host in self.allowed or f"{host}:{port}" in self.allowed:
            addresses = await self._addresses(host, port)
        elif parsed.scheme != "https":
            raise InvalidRequest(field, url, "an https URL")
        else:
            addresses = await self._addresses(host, port)
            if not all(map(is_public, addresses)):
                raise InvalidRequest(field, url, "an https URL whose host has public addresses only")
        if not addresses:
            raise InvalidRequest(field, url, "a URL whose host can be resolved")
        return Target(parsed, host, port, addresses[0])

    async def _resolve(self, host: str, port: int) -> Sequence[str]:
        return await asyncio.get_running_loop().run_in_executor(self._threads, resolve, host, port)

    async def _addresses(self, host: str, port: int) -> Sequence[str]:
        try:
            async with asyncio.timeout(RESOLVE_S):
                return await self.resolver(host, port)
        except TimeoutError:
            return []

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """The status that answers a POST, over at most `MAX_REDIRECTS` redirects that keep the method.

        Raises InvalidRequest for an address where nothing may be sent, httpx.HTTPError if there is no answer, and
        TimeoutError if there is none in `POST_S`.
        """
        async with asyncio.timeout(POST_S):
            for _ in range(MAX_REDIRECTS + 1):
                answer = await self._send(await self.check(url), body, headers)
                if answer.status_code not in KEEPS_METHOD or "location" not in answer.headers:
                    break
                url = str(httpx.URL(url).join(answer.headers["location"]))
        return answer.status_code

    async def _send(self, target: Target, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
        """The answer's head: what comes after it is not read."""
        host = target.url.netloc.decode("ascii")
        request = self._client.build_request(
            "POST",
            target.url.copy_with(host=target.address),
            content=body,
            headers={**headers, "Host": host},
            extensions={"sni_hostname": target.host},
        )
        answer = await self._client.send(request, stream=True)
        await answer.aclose()
        return answer

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        await self._client.aclose()


def _parsed(url: str, field: str) -> httpx.URL:
    if len(url) > MAX_URL_CHARACTERS:
        raise InvalidRequest(field, url, f"at most {MAX_URL_CHARACTERS:,} characters")
    try:
        parsed = httpx.URL(url)
        port_is_right = parsed.port is None or 0 < parsed.port < 65_536
    except (httpx.InvalidURL, ValueError) as error:
        raise InvalidRequest(field, url, f"an https URL ({error})") from error
    if parsed.scheme not in ("http", "https") or not parsed.host or not port_is_right:
        raise InvalidRequest(field, url, "an https URL")
    if parsed.userinfo:
        raise InvalidRequest(field, "a URL with a user or a password", "an https URL without them")
    return parsed
