"""shakespeare_gpt: a small character-level GPT on tiny Shakespeare (stands for AlgoPerf's FineWeb-Edu language model).

Data    1,115,394 characters, 65 kinds; the first 90 % train, half of the rest each for validation and test. A training example is
        a window of ``block`` + 1 characters at a random offset.
Model   pre-norm transformer decoder with rotary positions, RMS norm on queries and keys, squared-ReLU MLP, tied nothing.
Expect  about 2.7 bits per character (1.88 nats) on validation in half a minute on two CPU cores.
From    nanoGPT's documented CPU setting (4 layers, 128 wide, block 64: 1.88 nats after 2,000 steps of 12 windows); RoPE: Su et al.,
        arXiv 2104.09864; QK-norm: Dehghani et al., arXiv 2302.05442; squared ReLU: So et al., arXiv 2109.08668.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.functional import cross_entropy, rms_norm, scaled_dot_product_attention

from ..suite.task import Task


def rotary_table(length, head_width):
    """cos and sin of the rotation of every position and channel pair: [length, head_width / 2] each."""
    frequency = 10_000.0 ** (-torch.arange(0, head_width, 2) / head_width)
    angle = torch.arange(length)[:, None] * frequency
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):  # [B, H, T, D] -> same, channel pairs (i, i + D/2) rotated by position
    left, right = x.chunk(2, dim=-1)
    return torch.cat((left * cos - right * sin, left * sin + right * cos), dim=-1)


def attend(q, k, v):  # [B, H, T, D] each -> same
    """Causal attention; on a CPU in float32, since there the backward pass of the bfloat16 kernel takes half of the whole step."""
    if q.is_cuda:
        return scaled_dot_product_attention(q, k, v, is_causal=True)
    with torch.autocast("cpu", enabled=False):
        return scaled_dot_product_attention(q.float(), k.float(), v.float(), is_causal=True)


class Layer(nn.Module):
    residual_block = True  # it adds to its input, so it can be skipped

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.mix = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        nn.init.zeros_(self.mix.weight)  # every layer starts as the identity
        nn.init.zeros_(self.down.weight)

    def forward(self, x, cos, sin):  # [B, T, W]
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # each [B, H, T, D]
        q, k = rotate(rms_norm(q, q.shape[-1:]), cos, sin), rotate(rms_norm(k, k.shape[-1:]), cos, sin)
        heads = attend(q, k, v.contiguous())
        x = x + self.mix(heads.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(self.up(self.norm2(x)).relu().square())


class GPT(nn.Module):
    def __init__(self, vocabulary, block, width, depth, heads):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(depth))
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        nn.init.zeros_(self.head.weight)
        cos, sin = rotary_table(block, width // heads)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, tokens):  # [B, T] -> [B, T, V]
        x = self.embed(tokens)
        cos, sin = self.cos[: tokens.shape[1]].to(x.dtype), self.sin[: tokens.shape[1]].to(x.dtype)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.head(self.norm(x))


def build_model(options, facts):
    return GPT(len(facts["vocabulary"]), options["block"], options["width"], options["depth"], options["heads"])


def forward(model, batch):
    return model(batch["tokens"][:, :-1].long())  # the last token of a window is only a target


def losses(logits, batch, options):
    targets = batch["tokens"][:, 1:].long()
    nats = cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")  # [B * T]
    return nats.view(targets.shape).mean(dim=1)


def metric(facts):
    from torchmetrics import MeanMetric

    return MeanMetric()


def update(metric, logits, batch):
    metric.update(losses(logits, batch, {}))


TASK = Task(("tokens",), build_model, forward, losses, metric, update, quality=lambda nats: nats / math.log(2))
