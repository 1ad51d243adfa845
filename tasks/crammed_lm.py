"""crammed_lm: a masked language model on newsgroup posts; the budget is the whole rule (stands for Cramming).

Data    As news_gpt, windows of 64 tokens. One token in four is hidden: other ones whenever a window is seen, the same ones whenever a
        held-out window is.
Model   Pre-norm transformer encoder; only hidden places are predicted. The result is the masked loss when the budget is spent.
Cost    930,688 parameters; 188 MFLOP and 256 bytes an example.
Expect  masked loss about 5.6 nats on validation after 24,000 windows, half a minute on two CPU cores.
From    Geiping and Goldstein, Cramming (arXiv 2212.14034): masking 25 %, nothing but masking; Devlin et al., BERT (arXiv 1810.04805).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ..suite.errors import ConfigError
from ..suite.task import Task
from ._noise import uniform_by_id
from ._transformer import Layer


class MaskedEncoder(nn.Module):
    def __init__(self, vocabulary, block, hidden_share, width, depth, heads, expansion, activation, post_norm):
        super().__init__()
        self.hidden_share = hidden_share
        self.embed = nn.Embedding(vocabulary + 1, width)  # the last one stands for a hidden token
        self.position = nn.Parameter(torch.randn(block, width) * 0.02)
        self.layers = nn.Sequential(*(Layer(width, heads, expansion, activation, post_norm) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary)
        nn.init.normal_(self.embed.weight, std=0.02)

    def hide(self, tokens, ids):  # int [B, T] -> bool [B, T]; at least the one with the smallest number
        numbers = torch.rand(tokens.shape, device=tokens.device) if self.training else uniform_by_id(ids, tokens.shape[1:], tokens.device)
        return (numbers < self.hidden_share) | (numbers == numbers.amin(dim=1, keepdim=True))

    def forward(self, tokens, hidden):  # int [B, T], bool [B, T] with n hidden -> [n, V]
        if tokens.shape[1] != len(self.position):
            raise ConfigError(f"a sequence of {tokens.shape[1]} tokens: the model reads {len(self.position)}")
        x = self.embed(tokens.masked_fill(hidden, self.embed.num_embeddings - 1)) + self.position
        return self.head(self.norm(self.layers(x))[hidden])


def build_model(options, facts):
    return MaskedEncoder(facts["vocabulary_size"], **options)


def forward(model, batch):
    tokens = batch["tokens"].long()
    hidden = model.hide(tokens, batch.ids)
    return model(tokens, hidden), hidden


def token_losses(outputs, batch):  # nats [n]
    logits, hidden = outputs
    return cross_entropy(logits.float(), batch["tokens"].long()[hidden], reduction="none")


def losses(outputs, batch, options):
    nats, hidden = token_losses(outputs, batch), outputs[1]
    owner, _ = hidden.nonzero(as_tuple=True)
    return nats.new_zeros(len(hidden)).index_add(0, owner, nats) / hidden.sum(dim=1)


def metric(facts):
    from torchmetrics import MeanMetric

    return MeanMetric()


def update(metric, outputs, batch):
    metric.update(token_losses(outputs, batch))


TASK = Task(("tokens",), build_model, forward, losses, metric, update)
