import gc
import weakref

import pytest

from videogen.memory import settle


class Node:
    def __init__(self):
        self.itself = self


@pytest.fixture(autouse=True)
def _as_before():
    yield
    gc.unfreeze()


def test_what_is_there_is_not_walked_again_until_it_is_settled_anew():
    kept = Node()
    settle()
    assert gc.get_freeze_count() > 1000
    assert not any(one is kept for one in gc.get_objects())
    gone = weakref.ref(kept)
    del kept
    gc.collect()
    assert gone() is not None, "a cycle that was settled is left alone"
    settle()
    assert gone() is None
