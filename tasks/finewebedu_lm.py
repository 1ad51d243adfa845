"""finewebedu_lm: a decoder language model on educational web pages (AlgoPerf's workload at full size; GPT-2 small at tier small).

Data    FineWeb-Edu: 8,749,870 train and 100,000 validation sequences of 1,024 tokens, GPT-2's 50,257 byte pairs.
Model   Pre-norm decoder with rotary positions, RMS norm on queries and keys, a gated MLP of four times the width in all, tied tables.
Expect  perplexity 22.2995 on validation: AlgoPerf's target of 2026; there is no test target.
From    Su et al., RoPE (arXiv 2104.09864); Dehghani et al., QK-norm (arXiv 2302.05442); Shazeer, GLU (arXiv 2002.05202).
"""

from __future__ import annotations

from torch import nn
from torch.nn.functional import linear, rms_norm, scaled_dot_product_attention, silu

from ..suite.errors import ConfigError
from ..suite.task import Task
from . import news_gpt
from .shakespeare_gpt import rotary_table, rotate


class Layer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, inner = heads, 4 * width
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.mix = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 2 * inner, bias=False)  # values and gates
        self.down = nn.Linear(inner, width, bias=False)
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)

    def forward(self, x, cos, sin):  # [B, T, W]
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each [B, H, T, D]
        q, k = (rotate(rms_norm(part, part.shape[-1:]), cos, sin) for part in (q, k))
        x = x + self.mix(scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        values, gates = self.up(self.norm2(x)).chunk(2, dim=-1)
        return x + self.down(values * silu(gates))


class LanguageModel(nn.Module):
    def __init__(self, vocabulary, length, width, depth, heads):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(depth))
        self.norm = nn.RMSNorm(width)
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)
        cos, sin = rotary_table(length, width // heads)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, tokens):  # int [B, T] -> [B, T, V]
        length = tokens.shape[1]
        if length > len(self.cos):
            raise ConfigError(f"a sequence of {length} tokens is longer than the model's {len(self.cos)}")
        x = self.embed(tokens)
        cos, sin = self.cos[:length].to(x.dtype), self.sin[:length].to(x.dtype)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return linear(self.norm(x), self.embed.weight)


def build_model(options, facts):
    return LanguageModel(facts["vocabulary_size"], **options)


TASK = Task(("tokens",), build_model, news_gpt.forward, news_gpt.losses, news_gpt.metric, news_gpt.update)
