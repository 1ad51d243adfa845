"""What the transformers among the workloads share: attention and one residual layer.

From  Vaswani et al., Attention Is All You Need (arXiv 1706.03762); normalisation before the branch: Xiong et al., On Layer Normalization
      in the Transformer Architecture (arXiv 2002.04745), after it as in the original.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import dropout, scaled_dot_product_attention

ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU}


def attend(q, k, v, visible=None):  # [B, H, T, D], [B, H, S, D], [B, H, S, D] -> [B, H, T, D]
    """Softmax attention; ``visible`` is bool, broadcast to [B, H, T, S], and leaves every query something to see."""
    if q.is_cuda:
        return scaled_dot_product_attention(q, k, v, attn_mask=visible)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # at these sizes two products take half the time of the fused CPU kernel
    if visible is not None:
        scores = scores.masked_fill(~visible, float("-inf"))
    return scores.softmax(dim=-1) @ v


class Attention(nn.Module):
    """Multi-head attention of ``x`` [B, T, W] to ``memory`` [B, S, W], which is ``x`` itself unless given, or to its ``kept`` keys and
    values."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.mix = nn.Linear(width, width)

    def keys_values(self, memory):  # [B, S, W] -> [B, H, S, D] each
        k, v = self.key_value(memory).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return k, v.contiguous()

    def forward(self, x, memory=None, visible=None, kept=None):
        q = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, H, T, D]
        k, v = self.keys_values(x if memory is None else memory) if kept is None else kept
        return self.mix(attend(q, k, v, visible).transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """Attention, with ``cross`` also attention to a memory, and an MLP, each with its residual connection."""

    def __init__(self, width, heads, expansion, activation="gelu", post_norm=False, cross=False, dropout=0.0):
        super().__init__()
        self.post_norm, self.dropout = post_norm, dropout
        self.attention = Attention(width, heads)
        self.cross = Attention(width, heads) if cross else None
        self.mlp = nn.Sequential(nn.Linear(width, expansion * width), ACTIVATIONS[activation](), nn.Linear(expansion * width, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3 if cross else 2))

    @property
    def residual_block(self):
        """Whether the layer adds to its input and nothing else, so that it can be skipped."""
        return not self.post_norm

    def residual(self, x, norm, branch):
        if self.post_norm:
            return norm(x + dropout(branch(x), self.dropout, self.training))
        return x + dropout(branch(norm(x)), self.dropout, self.training)

    def forward(self, x, visible=None, memory=None, memory_visible=None):  # [B, T, W] -> [B, T, W]
        x = self.residual(x, self.norms[0], lambda y: self.attention(y, visible=visible))
        if self.cross is not None:
            x = self.residual(x, self.norms[1], lambda y: self.cross(y, memory, memory_visible))
        return self.residual(x, self.norms[-1], self.mlp)

    def step(self, x, past, memory_kept, memory_visible):
        """``forward`` of the next position alone, [B, 1, W] -> [B, 1, W]; ``past`` is a list of keys and values that grows by it."""

        def attend_past(y):
            new = self.attention.keys_values(y)
            past[:] = [torch.cat(pair, dim=2) for pair in zip(past, new, strict=True)] if past else new
            return self.attention(y, kept=past)

        x = self.residual(x, self.norms[0], attend_past)
        x = self.residual(x, self.norms[1], lambda y: self.cross(y, visible=memory_visible, kept=memory_kept))
        return self.residual(x, self.norms[-1], self.mlp)
