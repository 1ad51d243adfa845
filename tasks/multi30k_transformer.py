"""multi30k_transformer: a transformer that translates captions from German to English (stands for WMT).

Data    Multi30k: 28,371 train, 1,014 validation, 1,000 test pairs, in 2,048 byte pairs learned from the training pairs.
Model   Pre-norm encoder and decoder with learned positions; one table embeds both languages and, transposed, predicts the next token.
        Loss: label-smoothed cross-entropy per token. BLEU of greedy translations of test: sacrebleu, cased, its own tokens ("13a").
Cost    734,592 parameters; 113 MFLOP and 160 bytes an example.
Expect  token loss about 3.07 nats on validation and BLEU 17 on test after 0.7 passes, half a minute on two CPU cores.
From    Vaswani et al., Attention Is All You Need (arXiv 1706.03762); Elliott et al., Multi30K (arXiv 1605.00459).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import cross_entropy, linear

from ..suite.errors import ConfigError
from ..suite.task import Task
from ._transformer import Layer

PADDING, BEGIN, END = 0, 1, 2
SOURCE, TARGET = "de", "en"
TRANSLATED_AT_ONCE = 250


class Translator(nn.Module):
    def __init__(self, vocabulary, length, width, encoder_depth, decoder_depth, heads, expansion, activation, post_norm, dropout):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.positions = nn.ParameterList(nn.Parameter(torch.randn(length, width) * width**-0.5) for _ in range(2))
        nn.init.normal_(self.embed.weight, std=width**-0.5)
        options = (width, heads, expansion, activation, post_norm)
        self.encoder = nn.ModuleList(Layer(*options, dropout=dropout) for _ in range(encoder_depth))
        self.decoder = nn.ModuleList(Layer(*options, cross=True, dropout=dropout) for _ in range(decoder_depth))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))

    def begin(self, tokens, position):  # int [B, T] -> [B, T, W]
        if tokens.shape[1] > len(position):
            raise ConfigError(f"a sequence of {tokens.shape[1]} tokens is longer than the model's {len(position)}")
        return self.embed(tokens) * self.embed.embedding_dim**0.5 + position[: tokens.shape[1]]

    def encode(self, source):  # int [B, S] -> [B, S, W], and which of it is text: bool [B, 1, 1, S]
        visible = (source != PADDING)[:, None, None]
        x = self.begin(source, self.positions[0])
        for layer in self.encoder:
            x = layer(x, visible)
        return self.norms[0](x), visible

    def decode(self, target, memory, memory_visible):  # int [B, T] -> [B, T, W]
        steps = target.shape[1]
        earlier = torch.ones(steps, steps, dtype=torch.bool, device=target.device).tril()
        x = self.begin(target, self.positions[1])
        for layer in self.decoder:
            x = layer(x, earlier, memory, memory_visible)
        return self.norms[1](x)

    def predict(self, x):  # [..., W] -> [..., V]
        return linear(x, self.embed.weight)


def build_model(options, facts):
    return Translator(len(facts["vocabulary"]), **options)


def forward(model, batch):
    """Logits [n, V] of the n tokens that follow others, all pairs back to back."""
    source, target = (batch[name].long() for name in (SOURCE, TARGET))
    memory, visible = model.encode(trimmed(source))
    target = trimmed(target)
    x = model.decode(target[:, :-1], memory, visible)
    return model.predict(x[target[:, 1:] != PADDING])


def trimmed(tokens):
    """Without the columns that are padding in all rows."""
    return tokens[:, : int((tokens != PADDING).sum(dim=1).max())]


def token_losses(logits, batch, smoothing):
    """Nats [n], and the pair that each belongs to [n]."""
    target = batch[TARGET][:, 1:].long()
    owner, _ = (target != PADDING).nonzero(as_tuple=True)
    return cross_entropy(logits.float(), target[target != PADDING], reduction="none", label_smoothing=smoothing), owner


def losses(logits, batch, options):
    nats, owner = token_losses(logits, batch, options["label_smoothing"])
    total = nats.new_zeros(len(batch)).index_add(0, owner, nats)
    return total / torch.bincount(owner, minlength=len(batch))


def metric(facts):
    from torchmetrics import MeanMetric

    return MeanMetric()


def update(metric, logits, batch):
    metric.update(token_losses(logits, batch, 0.0)[0])


def translate(model, source):
    """The likeliest next token at every step, until all have ended or the length is reached: int [B, T], from BEGIN."""
    memory, visible = model.encode(trimmed(source))
    kept = [layer.cross.keys_values(memory) for layer in model.decoder]
    past = [[] for _ in model.decoder]
    target = source.new_full((len(source), 1), BEGIN)
    ended = torch.zeros(len(source), dtype=torch.bool, device=source.device)
    while target.shape[1] < source.shape[1] and not ended.all():
        x = model.begin(target[:, -1:], model.positions[1][target.shape[1] - 1 :])
        for layer, *seen in zip(model.decoder, past, kept, strict=True):
            x = layer.step(x, *seen, visible)
        best = model.predict(model.norms[1](x)[:, -1]).argmax(dim=-1)
        best = best.masked_fill(ended, PADDING)
        target = torch.cat((target, best[:, None]), dim=1)
        ended |= best == END
    return target


def bleu(model, batches, facts):
    from sacrebleu.metrics import BLEU

    def text(rows):
        return [b"".join(vocabulary[token] for token in row).decode(errors="replace") for row in rows.tolist()]

    vocabulary = [token.encode("latin-1") for token in facts["vocabulary"]]
    source, target = (torch.cat(parts) for parts in zip(*((batch[SOURCE].long(), batch[TARGET]) for batch in batches), strict=True))
    order = (source != PADDING).sum(dim=1).argsort(stable=True)  # short ones end together
    written = [line for part in source[order].split(TRANSLATED_AT_ONCE) for line in text(translate(model, part))]
    return {"bleu": BLEU().corpus_score(written, [text(target[order])]).score}


TASK = Task((SOURCE, TARGET), build_model, forward, losses, metric, update, slow_measures=bleu)
