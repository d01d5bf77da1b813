"""The load that all systems get: plain HTTP/1.1 over kept connections, in a closed loop or an open one."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

HOST = "127.0.0.1"
LATE = "not answered"


@dataclass(frozen=True, slots=True)
class Wish:
    """One video to ask for."""

    prompt: str
    seed: int
    steps: int


@dataclass(frozen=True, slots=True)
class Answer:
    """`seconds` from when the wish was to be sent; `ended` on the monotonic clock. `why` there is no video, or ""."""

    steps: int
    seconds: float
    ended: float
    why: str = ""


Encode = Callable[[Wish], bytes]
"""A wish as the whole HTTP request that one system takes."""


class Connection:
    """One connection, on which one request at a time is sent and answered."""

    def __init__(self, port: int) -> None:
        self._port, self._streams = port, None

    async def ask(self, request: bytes) -> str:
        """Why the answer is no MP4, or "". Raises OSError or EOFError where the connection breaks."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(HOST, self._port, limit=2**20)
        reader, writer = self._streams
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        status, lines = head[9:12], head.lower().split(b"\r\n")
        size = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), None)
        body = await (_chunks(reader) if size is None else reader.readexactly(size))
        if status != b"200":
            return status.decode()
        return "" if b"ftyp" in body[:1024] else "no MP4"

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int(await reader.readline(), 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readexactly(2)
    return b"".join(parts)


async def _answer(connection: Connection, request: bytes, wish: Wish, due: float) -> Answer:
    try:
        why = await connection.ask(request)
    except (OSError, EOFError) as error:
        connection.close()
        why = type(error).__name__
    now = time.monotonic()
    return Answer(wish.steps, now - due, now, why)


async def closed_loop(
    port: int, encode: Encode, wishes: Iterator[Wish], connections: int, seconds: float
) -> list[Answer]:
    """`connections` clients for so many seconds, each of which asks again as soon as it was answered."""
    end, answers = time.monotonic() + seconds, []

    async def client() -> None:
        connection = Connection(port)
        try:
            while (now := time.monotonic()) < end:
                wish = next(wishes)
                answers.append(await _answer(connection, encode(wish), wish, now))
        finally:
            connection.close()

    await asyncio.gather(*(client() for _ in range(connections)))
    return sorted(answers, key=lambda one: one.ended)


async def open_loop(
    port: int, encode: Encode, arrivals: Sequence[tuple[float, Wish]], patience_s: float
) -> list[Answer]:
    """Each wish is sent when it is due, whatever became of those before; its seconds count from then.

    After the last one so many seconds are left for answers; who has none then counts as not answered.
    """
    idle: list[Connection] = []
    answers: list[Answer] = []
    begin = time.monotonic()

    async def one(request: bytes, wish: Wish, due: float) -> None:
        connection = idle.pop() if idle else Connection(port)
        try:
            answers.append(await _answer(connection, request, wish, due))
            idle.append(connection)
        except asyncio.CancelledError:
            answers.append(Answer(wish.steps, time.monotonic() - due, time.monotonic(), LATE))
            connection.close()

    tasks = []
    for at, wish in arrivals:
        request = encode(wish)
        await asyncio.sleep(max(0.0, begin + at - time.monotonic()))
        tasks.append(asyncio.create_task(one(request, wish, begin + at)))
    _, left = await asyncio.wait(tasks, timeout=patience_s)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    for connection in idle:
        connection.close()
    return answers


async def quiet(port: int, encode: Encode, new: Callable[[], Wish], soon_s: float, patience_s: float = 15.0) -> float:
    """Asks alone, for a new video each time, until one takes no longer than `soon_s`; gives the last one's seconds."""
    connection, end = Connection(port), time.monotonic() + patience_s
    try:
        while True:
            wish = new()
            answer = await _answer(connection, encode(wish), wish, time.monotonic())
            if (not answer.why and answer.seconds <= soon_s) or time.monotonic() > end:
                return answer.seconds
            await asyncio.sleep(0.05)
    finally:
        connection.close()
