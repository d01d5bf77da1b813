"""The text encoder of `videogen-tiny`: a prompt becomes one embedding per attribute."""

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Multi-head attention from `queries` (B, n, width) to `context` (B, m, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_query = nn.Linear(width, width)
        self.to_key_value = nn.Linear(width, 2 * width)
        self.to_out = nn.Linear(width, width)

    def forward(self, queries: torch.Tensor, context: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        batch, count, width = queries.shape
        key, value = self.to_key_value(context).chunk(2, dim=-1)
        query, key, value = (
            x.view(batch, -1, self.heads, width // self.heads).transpose(1, 2)
            for x in (self.to_query(queries), key, value)
        )
        hidden = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.to_out(hidden.transpose(1, 2).reshape(batch, count, width))


class Block(nn.Module):
    """A pre-norm transformer block; its attention reads `context`, or its own input where none is given."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm_out = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        normed = self.norm_in(hidden)
        hidden = hidden + self.attention(normed, normed if context is None else context, mask)
        return hidden + self.feed_forward(self.norm_out(hidden))


class TinyTextEncoder(ModelMixin, ConfigMixin):
    """Token ids (B, L) -> embeddings (B, slots, width), one slot per attribute of the captioned world.

    Two self-attention blocks read the words; learned slot queries then gather from them. The slots are trained
    with attribute labels (`training/text_encoder.py`), not from captions alone.
    """

    @register_to_config
    def __init__(
        self,
        vocabulary: int = 84,
        max_length: int = 20,
        width: int = 128,
        heads: int = 4,
        blocks: int = 2,
        slots: int = 5,
    ) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(0.02 * torch.randn(max_length, width))
        self.layers = nn.ModuleList(Block(width, heads) for _ in range(blocks))
        self.queries = nn.Parameter(0.5 * torch.randn(slots, width))
        self.gather = Block(width, heads)
        self.norm = nn.LayerNorm(width)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """`input_ids` and `attention_mask` are int64 (B, L); positions with mask 0 are never read."""
        mask = attention_mask[:, None, None, :].bool()
        hidden = self.words(input_ids) + self.positions
        for block in self.layers:
            hidden = block(hidden, mask)
        slots = self.queries.expand(input_ids.shape[0], -1, -1)
        return self.norm(self.gather(slots, mask, hidden))
