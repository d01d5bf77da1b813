"""What to do about a store's server that does not answer."""

import socket
from urllib.parse import urlsplit

CONNECT_S = 2.0
SERVERS = {
    "redis": (6379, "redis-server --port {port} --appendonly yes", "redis-cli -h {host} -p {port} ping"),
    "aerospike": (3000, "the docker command in docs/store.md", "asinfo -h {host} -p {port} -v status"),
}
"""Scheme -> its port unless the URL names one, what starts a server, and what asks one how it is."""


def next_step(url: str) -> str:
    """Whether anything listens where the first host of `url` should, and the commands to try; "" if it is no server."""
    if (scheme := url.partition(":")[0]) not in SERVERS:
        return ""
    port, start, ask = SERVERS[scheme]
    first = urlsplit(f"//{urlsplit(url).netloc.rpartition('@')[2].split(',')[0]}")
    where = {"host": first.hostname or "127.0.0.1", "port": first.port or port}
    place = "{host}:{port}".format(**where)
    try:
        socket.create_connection((where["host"], where["port"]), CONNECT_S).close()
    except OSError as error:
        found = f"nothing answers at {place} ({error.strerror or error}): is it started, and is that its port? To start"
        return f"{found} one: {start.format(**where)}; to ask it: {ask.format(**where)}"
    return f"something listens at {place}: is it this server, with this user and password? {ask.format(**where)}"
