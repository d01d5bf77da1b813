"""Wan's transformer laid out for graph compilers: the same function of the same weights, up to rounding.

Three things make its own form slow to export and to run: rotary embeddings that write every second element, three
projections where one will do, and position tables that are cut anew at every call.
"""

import copy

import torch
from torch import nn
from torch.nn import functional as F

from videogen.models.loading import Networks


def relay(networks: Networks, latents: tuple[int, ...]) -> Networks:
    """`networks` with a copy of the transformer that is laid out for latents of the shape (C, t, h, w) alone."""
    transformer = copy.deepcopy(networks.transformer)
    transformer.rope = FixedRotary(transformer.rope, latents)
    for block in transformer.blocks:
        block.attn1.fuse_projections()
        block.attn2.fuse_projections()
        _halves_first(block.attn1)
        block.attn1.set_processor(SelfAttention())
        block.attn2.set_processor(CrossAttention())
    return Networks(networks.text_encoder, transformer, networks.vae)


class FixedRotary(nn.Module):
    """Cosines and sines (1, tokens, 1, head / 2) for one size of latents."""

    def __init__(self, rope: nn.Module, latents: tuple[int, ...]) -> None:
        super().__init__()
        cosines, sines = rope(torch.empty(1, *latents))
        self.register_buffer("cosines", cosines[..., 0::2].float().contiguous())
        self.register_buffer("sines", sines[..., 1::2].float().contiguous())

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.cosines, self.sines


def _halves_first(attention: nn.Module) -> None:
    """Reorders each head of queries and keys from (pair by pair) to (first halves, second halves).

    Scores are inner products over a head and the norm is over all of them, so both stay what they were.
    """
    width, heads = attention.inner_dim, attention.heads
    order = torch.arange(width).view(heads, -1, 2).transpose(1, 2).reshape(-1)
    rows = torch.cat([order, width + order, torch.arange(2 * width, 3 * width)])
    attention.to_qkv.weight.data = attention.to_qkv.weight.data[rows]
    attention.to_qkv.bias.data = attention.to_qkv.bias.data[rows]
    for norm in (attention.norm_q, attention.norm_k):
        norm.weight.data = norm.weight.data[order]


class SelfAttention:
    """Wan's self-attention over a fused projection and halves-first heads."""

    def __call__(
        self,
        attention: nn.Module,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        query, key, value = attention.to_qkv(hidden_states).chunk(3, dim=-1)
        heads, (cosines, sines) = attention.heads, rotary_emb
        query = _rotate(_heads(_rms(query, attention.norm_q), heads), cosines, sines)
        key = _rotate(_heads(_rms(key, attention.norm_k), heads), cosines, sines)
        return _attend(attention, query, key, _heads(value, heads))


class CrossAttention:
    """Wan's attention to the text, keys and values in one projection."""

    def __call__(
        self,
        attention: nn.Module,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        rotary_emb: None = None,
    ) -> torch.Tensor:
        key, value = attention.to_kv(encoder_hidden_states).chunk(2, dim=-1)
        query, heads = _rms(attention.to_q(hidden_states), attention.norm_q), attention.heads
        return _attend(
            attention, _heads(query, heads), _heads(_rms(key, attention.norm_k), heads), _heads(value, heads)
        )


def _heads(hidden: torch.Tensor, heads: int) -> torch.Tensor:
    return hidden.unflatten(2, (heads, -1))


def _rms(hidden: torch.Tensor, norm: nn.Module) -> torch.Tensor:
    # Divided by the root, not multiplied by its inverse: the form that runtimes recognise. In float32, as torch does.
    wide = hidden.float()
    return (wide / torch.sqrt(wide.square().mean(-1, keepdim=True) + norm.eps)).to(hidden.dtype) * norm.weight


def _rotate(hidden: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    first, second = hidden.chunk(2, dim=-1)
    cosines, sines = cosines.to(hidden.dtype), sines.to(hidden.dtype)
    return torch.cat([first * cosines - second * sines, first * sines + second * cosines], dim=-1)


def _attend(attention: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    query, key, value = (part.transpose(1, 2) for part in (query, key, value))
    hidden = F.scaled_dot_product_attention(query, key, value)
    return attention.to_out[0](hidden.transpose(1, 2).flatten(2))
