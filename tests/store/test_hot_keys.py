"""One record that all write at once: each write happens once, none is an error."""

import threading
from collections.abc import Callable
from pathlib import Path

from tests.faults.servers import aerospike_pair
from videogen.store.backends.catalog import open_records
from videogen.store.primitives import Add, MapPut, Set, Write

WRITERS, WRITES = 48, 10


def write_at_once(records) -> None:
    faults: list[Exception] = []

    def guarded(work: Callable[[int], object], number: int) -> None:
        try:
            for _ in range(WRITES):
                work(number)
        except Exception as error:
            faults.append(error)

    def work(number: int) -> None:
        records.write(Write("hot", "one", (Add("n", 1), MapPut(f"{number:02d}"))))
        records.write(Write("hot", "plain", (Set("last", number),)))
        records.write_many([Write("hot", "one", (Add("m", 1),)), Write("hot", "other", (Add("m", 1),))])

    threads = [threading.Thread(target=guarded, args=(work, number)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert records.read("hot", "one").bins == {"n": WRITERS * WRITES, "m": WRITERS * WRITES}
    assert records.read("hot", "other").bins == {"m": WRITERS * WRITES}
    assert len(records.map_range("hot", "one")) == WRITERS
    assert records.read("hot", "plain").bins["last"] in range(WRITERS)


def test_a_record_that_all_write_at_once(records):
    write_at_once(records)


def test_two_nodes_that_call_a_record_too_busy_are_asked_again(tmp_path: Path):
    with aerospike_pair(tmp_path) as pair:
        records = open_records(pair.url)
        write_at_once(records)
        records.close()
