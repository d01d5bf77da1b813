"""Embeddings of the prompts used last: the negative prompt is the same in nearly every request."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np


class PromptCache:
    """Remembers the embeddings (S, D) of up to `capacity` texts, and encodes the rest in one call."""

    def __init__(self, encode: Callable[[Sequence[str]], np.ndarray], capacity: int = 256) -> None:
        self._encode, self._capacity = encode, capacity
        self._known: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def encode(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Text -> embedding, each text encoded once."""
        with self._lock:
            found = {text: self._known[text] for text in texts if text in self._known}
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        if missing:
            found.update(zip(missing, self._encode(missing), strict=True))
        with self._lock:
            for text, embedding in found.items():
                self._known[text] = embedding
                self._known.move_to_end(text)
            while len(self._known) > self._capacity:
                self._known.popitem(last=False)
        return found
