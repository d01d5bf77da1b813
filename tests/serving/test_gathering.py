"""Store calls that come while one is under way are the next one, all together."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from videogen.errors import InvalidRequest, LeaseLost, StoreBusy, StoreUnavailable
from videogen.serving.gathering import Gathering, alone
from videogen.serving.store_calls import in_threads


class Doubling:
    """What is asked, call by call. A call waits until it is let go on."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls: list[list[int]] = []
        self.error, self.go = error, asyncio.Event()

    def ask(self, numbers: Sequence[int]) -> list[int | Exception]:
        if self.error is not None:
            raise self.error
        return [LeaseLost(f"{one} is another's") if one < 0 else 2 * one for one in numbers]

    async def call(self, work):
        self.calls.append([])
        await self.go.wait()
        return await in_threads(ThreadPoolExecutor(1))(work)


def noting(doubling: Doubling):
    def ask(numbers: Sequence[int]) -> list[int | Exception]:
        doubling.calls[-1] += numbers
        return doubling.ask(numbers)

    return ask


def gathered(doubling: Doubling, most: int | None = None) -> Gathering[int, int]:
    return Gathering(doubling.call, noting(doubling), most)


async def begun(of: Callable[[int], Awaitable[int]], *numbers: int) -> list["asyncio.Task[int]"]:
    tasks = [asyncio.ensure_future(of(one)) for one in numbers]
    await asyncio.sleep(0.01)
    return tasks


def test_what_comes_while_a_call_is_under_way_is_the_next_call_and_what_cannot_be_done_fails_alone():
    async def test() -> None:
        doubling = Doubling()
        of = gathered(doubling)
        first = await begun(of, 1)
        rest = await begun(of, 2, -3, 4)
        rest[2].cancel()
        doubling.go.set()
        told = await asyncio.gather(*first, *rest, return_exceptions=True)
        assert told[:2] == [2, 4] and isinstance(told[2], LeaseLost) and isinstance(told[3], asyncio.CancelledError)
        assert doubling.calls == [[1], [2, -3, 4]], "who has gone is done all the same: it was asked for"
        assert await of(5) == 10

    asyncio.run(test())


def test_what_the_call_itself_raises_is_told_to_all_and_the_next_call_is_made():
    async def test() -> None:
        doubling = Doubling(StoreUnavailable("no answer"))
        doubling.go.set()
        of = gathered(doubling)
        told = await asyncio.gather(of(1), of(2), return_exceptions=True)
        assert [type(one) for one in told] == [StoreUnavailable] * 2
        doubling.error = None
        assert await of(3) == 6

    asyncio.run(test())


def test_calls_to_a_server_go_side_by_side():
    async def test() -> None:
        doubling = Doubling()
        tasks = await begun(alone(doubling.call, noting(doubling)), 1, 2, -3)
        assert len(doubling.calls) == 3
        doubling.go.set()
        told = await asyncio.gather(*tasks, return_exceptions=True)
        assert told[:2] == [2, 4] and isinstance(told[2], LeaseLost)

    asyncio.run(test())


def test_too_many_are_refused_at_once_where_there_is_a_bound():
    async def test() -> None:
        doubling = Doubling()
        of = gathered(doubling, most=2)
        first = await begun(of, 1)
        waiting = await begun(of, 2, 3)
        with pytest.raises(StoreBusy, match="allowed: 2"):
            await of(4)
        doubling.go.set()
        assert await asyncio.gather(*first, *waiting) == [2, 4, 6]
        unbound = gathered(doubling)
        assert len(await asyncio.gather(*(unbound(one) for one in range(1000)))) == 1000

    asyncio.run(test())


@pytest.mark.parametrize("fault", ["one too few", "the pool has ended", "stop"])
def test_nobody_waits_for_ever_whatever_becomes_of_a_call(fault):
    async def test() -> None:
        threads = ThreadPoolExecutor(1)

        def ask(numbers: Sequence[int]) -> list[int | Exception]:
            if fault == "the pool has ended":
                threads.shutdown(wait=False, cancel_futures=True)
                raise asyncio.CancelledError
            return [StopIteration() for _ in numbers] if fault == "stop" else [1] * (len(numbers) - 1)

        of = Gathering(in_threads(threads), ask)
        asked = [asyncio.ensure_future(of(one)) for one in range(40)]
        done, pending = await asyncio.wait(asked, timeout=10)
        assert not pending
        assert all(one.cancelled() or one.exception() for one in done)

    asyncio.run(test())


def test_a_fault_in_one_of_them_is_not_the_others():
    async def test() -> None:
        def ask(numbers: Sequence[int]) -> list[int | Exception]:
            return [InvalidRequest("number", one, "an even one") if one % 2 else one for one in numbers]

        of = Gathering(in_threads(ThreadPoolExecutor(1)), ask)
        told = await asyncio.gather(of(1), of(2), return_exceptions=True)
        assert isinstance(told[0], InvalidRequest) and told[1] == 2

    asyncio.run(test())
