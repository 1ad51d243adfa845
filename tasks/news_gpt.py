"""news_gpt: a GPT on posts of 20 newsgroups, in byte pairs (stands for AlgoPerf's FineWeb-Edu language model).

Data    20 Newsgroups by date: windows of 65 tokens of 11,214 posts, 2,048 byte pairs learned from them; validation: 100 held-out posts,
        test: 200 later ones. The posts are never printed.
Model   Pre-norm transformer decoder with learned positions; the table that embeds tokens also predicts them. The quality is the
        perplexity per token; a token is 2.6 bytes in the mean.
Cost    1,062,144 parameters; 428 MFLOP and 256 bytes an example.
Expect  perplexity about 220 on validation after 10,000 windows, half a minute on two CPU cores.
From    Radford et al., Language Models are Unsupervised Multitask Learners (2019); tied tables: Press and Wolf (arXiv 1608.05859).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import cross_entropy, linear

from ..suite.errors import ConfigError
from ..suite.task import Task
from ._transformer import Layer


class GPT(nn.Module):
    def __init__(self, vocabulary, block, width, depth, heads, expansion, activation, post_norm):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(torch.randn(block, width) * 0.02)
        self.layers = nn.ModuleList(Layer(width, heads, expansion, activation, post_norm) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.embed.weight, std=0.02)

    def forward(self, tokens):  # int [B, T] -> [B, T, V]
        length = tokens.shape[1]
        if length > len(self.position):
            raise ConfigError(f"a sequence of {length} tokens is longer than the model's block of {len(self.position)}")
        earlier = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()
        x = self.embed(tokens) + self.position[:length]
        for layer in self.layers:
            x = layer(x, earlier)
        return linear(self.norm(x), self.embed.weight)


def build_model(options, facts):
    return GPT(facts["vocabulary_size"], **options)


def forward(model, batch):
    return model(batch["tokens"][:, :-1].long())  # the last token of a window is only a target


def losses(logits, batch, options):
    targets = batch["tokens"][:, 1:].long()
    nats = cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")  # [B * T]
    return nats.view(targets.shape).mean(dim=1)


def metric(facts):
    from torchmetrics.text import Perplexity

    return Perplexity()


def update(metric, logits, batch):
    metric.update(logits.float(), batch["tokens"][:, 1:].long())


TASK = Task(("tokens",), build_model, forward, losses, metric, update)
