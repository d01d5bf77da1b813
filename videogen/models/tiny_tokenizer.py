"""The word-level tokenizer of `videogen-tiny`: a closed vocabulary, and a clear word about what is outside it."""

import difflib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from videogen.errors import InvalidRequest, UnknownWord

PAD, START = 0, 1
PUNCTUATION = ".,;:!?\"'()"


class TinyTokenizer:
    """Words to ids. Row 0 of the embedding is padding, row 1 opens every prompt, words follow in order."""

    def __init__(self, words: Sequence[str], max_length: int = 20) -> None:
        self.words, self.max_length = tuple(words), max_length
        self._ids = {word: index + 2 for index, word in enumerate(self.words)}

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "TinyTokenizer":
        """Reads `vocab.json`: {"words": [...], "max_length": 20}."""
        stored = json.loads((Path(folder) / "vocab.json").read_text())
        return cls(stored["words"], stored["max_length"])

    def save_pretrained(self, folder: str | Path) -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        stored = {"words": list(self.words), "max_length": self.max_length}
        (Path(folder) / "vocab.json").write_text(json.dumps(stored, indent=1) + "\n")

    @property
    def vocabulary(self) -> frozenset[str]:
        return frozenset(self.words)

    def tokenize(self, text: str, field: str = "prompt") -> list[int]:
        """The ids of one text, without padding.

        Raises UnknownWord for the first word outside the vocabulary, InvalidRequest for too many words.
        """
        words = [stripped for word in text.lower().split() if (stripped := word.strip(PUNCTUATION))]
        for word in words:
            if word not in self._ids:
                raise UnknownWord(field, word, self._known_words(word))
        if len(words) >= self.max_length:
            raise InvalidRequest(field, text, f"at most {self.max_length - 1} words, this has {len(words)}")
        return [START, *(self._ids[word] for word in words)]

    def _known_words(self, word: str) -> str:
        near = difflib.get_close_matches(word, self.words, n=2, cutoff=0.6)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        return f"{hint}the model knows: {', '.join(self.words)}"

    def __call__(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Texts -> input_ids and attention_mask, int64, (B, max_length) each. "" is the unconditional prompt."""
        rows = [self.tokenize(text) for text in texts]
        ids = np.full((len(rows), self.max_length), PAD, dtype=np.int64)
        for row, tokens in zip(ids, rows, strict=True):
            row[: len(tokens)] = tokens
        return ids, (ids != PAD).astype(np.int64)
