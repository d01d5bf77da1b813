"""Several stores in one namespace of Aerospike, each with a prefix of its own, one with none."""

import uuid
from contextlib import closing

from tests.fixtures.servers import aerospike_url
from videogen.store.backends.catalog import open_records
from videogen.store.primitives import Set, Write


def test_stores_that_share_a_namespace_find_only_their_own_records():
    fresh = uuid.uuid4().hex[:8]
    urls = [f"{aerospike_url()}?prefix={fresh}", f"{aerospike_url()}?prefix={fresh}1", aerospike_url()]
    stores = [open_records(url) for url in urls]
    for number, records in enumerate(stores):
        records.write(Write("kind", fresh, (Set("n", number),), ttl=60.0))
    found = [records.read("kind", fresh) for records in stores]
    assert [record.bins["n"] for record in found if record] == [0, 1, 2]
    assert [list(records.names()) for records in stores[:2]] == [[("kind", fresh)]] * 2
    assert not any(kind.startswith(fresh) for kind, _ in stores[2].names())
    assert [records.facts().records for records in stores[:2]] == [{"kind": 1}] * 2
    for records in stores:
        with closing(records):
            assert list(records.keys("kind")).count(fresh) == 1
