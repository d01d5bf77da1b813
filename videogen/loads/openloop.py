"""Sends each call when it is due, whatever became of those before it, and counts its time from then.

A generator that waits for answers asks less while the service is slow, and so misses what its users feel
("coordinated omission"). Here a service that stands still for a second shows in every request due in that second.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from videogen.loads.answers import Answer
from videogen.loads.calls import Call
from videogen.loads.measured import Measured, Taken

Ask = Callable[[Call], Awaitable[Answer]]
TELL_S = 0.5


async def run(
    calls: Sequence[Call],
    ask: Ask,
    *,
    most: int = 1000,
    timeout_s: float = 60.0,
    tell: Callable[[Measured], None] = lambda measured: None,
    sending: Callable[[asyncio.Task[None]], object] = lambda task: None,
) -> Measured:
    """Plays `calls`, which are in order of time. `ask` may raise OSError.

    What would be more than `most` at once is not sent and counts as failed, as does what has no answer after
    `timeout_s`. `tell` hears twice a second what there is so far. `sending` gets the task that sends:
    cancelled, it sends no more, and what was sent is still waited for.
    """
    clock, measured = asyncio.get_running_loop().time, Measured(time.time())
    cpu, start = time.process_time(), clock()

    def note(call: Call, sent: float, answer: Answer) -> None:
        late, took = sent - start - call.at, clock() - start - call.at
        measured.taken.append(Taken(call.at, call.kind, call.is_repeat, late, took, answer))

    async def one(call: Call) -> None:
        sent = clock()
        try:
            async with asyncio.timeout_at(start + call.at + timeout_s):
                answer = await ask(call)
        except TimeoutError:
            answer = Answer("failed", f"no answer within {timeout_s:g} s")
        except OSError as error:
            answer = Answer("failed", error.strerror or str(error))
        measured.waiting -= 1
        note(call, sent, answer)

    async def send(group: asyncio.TaskGroup) -> None:
        for call in calls:
            if (early := start + call.at - clock()) > 0:
                await asyncio.sleep(early)
            if measured.waiting >= most:
                note(call, clock(), Answer("failed", f"not sent: {most:,} requests were waiting already"))
            else:
                measured.waiting += 1
                group.create_task(one(call))

    showing = asyncio.create_task(_show(measured, tell))
    try:
        async with asyncio.TaskGroup() as group:
            sending(group.create_task(send(group)))
    finally:
        showing.cancel()
    measured.seconds, measured.cpu_s = clock() - start, time.process_time() - cpu
    return measured


async def _show(measured: Measured, tell: Callable[[Measured], None]) -> None:
    while True:
        tell(measured)
        await asyncio.sleep(TELL_S)
