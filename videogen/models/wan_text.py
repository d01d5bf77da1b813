"""Wan's tokenizer: T5's, with the text cleaned and padded as diffusers' WanPipeline does it."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from videogen.errors import InvalidRequest


class WanTokenizer:
    """Texts -> token ids, padded to `max_length`. A text that does not fit is refused, not cut."""

    vocabulary = None

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "WanTokenizer":
        from transformers import T5Tokenizer

        from videogen.models.spec import read_spec

        tokenizer = T5Tokenizer.from_pretrained(str(folder), local_files_only=True)
        return cls(tokenizer, read_spec(Path(folder).parent).max_sequence_length)

    def __call__(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Texts -> input_ids and attention_mask, int64, (B, max_length). Raises InvalidRequest if one is too long."""
        cleaned = [" ".join(html.unescape(html.unescape(text)).split()) for text in texts]
        rows = self.tokenizer(cleaned, add_special_tokens=True)["input_ids"]
        ids = np.full((len(rows), self.max_length), self.tokenizer.pad_token_id or 0, dtype=np.int64)
        mask = np.zeros_like(ids)
        for index, row in enumerate(rows):
            if len(row) > self.max_length:
                raise InvalidRequest("prompt", texts[index], f"at most {self.max_length} tokens, this has {len(row)}")
            ids[index, : len(row)], mask[index, : len(row)] = row, 1
        return ids, mask
