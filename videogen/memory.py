"""The garbage collector in processes that answer: a walk over all that was imported stops every thread meanwhile."""

import gc


def settle() -> None:
    """Frees what is garbage by now; what is left is not walked again until the next time this is called."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
