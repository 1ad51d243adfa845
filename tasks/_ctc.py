"""What the speech workloads share: a masked spectrogram in, characters out, connectionist temporal classification between.

From  Graves et al., Connectionist Temporal Classification (ICML 2006); masks: Park et al., SpecAugment (arXiv 1904.08779).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import ctc_loss

FIELDS = ("spectrogram", "digits", "speaker")
BLANK = 0


class Subsampling(nn.Module):
    """Standardise, mask while training, and turn 160 frames of 40 bands into 80 vectors by two convolutions; into half as many with
    a ``stride`` of the second one over time of 2."""

    def __init__(self, facts, channels, width, masked_frames, masked_bands, bands=40, stride=1):
        super().__init__()
        self.mean, self.std = facts["mean"], facts["std"]
        self.masked = (masked_frames, masked_bands)
        self.conv1 = nn.Conv2d(1, channels, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=(stride, 2), padding=1)
        self.out = nn.Linear(channels * bands // 4, width)

    def forward(self, spectrogram):  # uint8 [B, 160, 40] -> [B, 80, W], and how many of the 80 are heard: int [B]
        x = (spectrogram.float() - self.mean) / self.std * (spectrogram > 0)
        if self.training:
            x = x * ~hidden(x, 1, self.masked[0]) * ~hidden(x, 2, self.masked[1])
        x = self.conv2(self.conv1(x[:, None]).relu()).relu()  # [B, C, 80, 10]
        step = 2 * self.conv2.stride[0]
        return self.out(x.transpose(1, 2).flatten(2)), (heard_frames(spectrogram) + step - 1) // step


def hidden(x, dim, longest):
    """One run of 0 to ``longest`` places along ``dim``, of random length and place, for each example: bool, broadcast to ``x``."""
    count, size = x.shape[0], x.shape[dim]
    length = (torch.rand(count, 1, device=x.device) * (longest + 1)).floor()
    start = torch.rand(count, 1, device=x.device) * (size - length)
    places = torch.arange(size, device=x.device)
    run = (places >= start) & (places < start + length)  # [B, size]
    return run[:, :, None] if dim == 1 else run[:, None, :]


def heard_frames(spectrogram):
    """Frames up to the last one that is not empty: int [B]."""
    heard = (spectrogram > 0).any(dim=2)  # [B, 160]
    return (heard * torch.arange(1, heard.shape[1] + 1, device=heard.device)).amax(dim=1)


def losses(outputs, batch, options):
    return string_losses(outputs, batch["digits"].long())


def string_losses(outputs, targets):
    """Nats per string [B] of symbols [B, L], zeros after the last; strings that do not fit their sound count 0 (no real one is such)."""
    logits, lengths = outputs  # [B, T, 11], [B]
    log_shares = logits.float().log_softmax(dim=-1).transpose(0, 1)  # [T, B, 11]
    return ctc_loss(log_shares, targets, lengths, (targets > 0).sum(dim=1), BLANK, reduction="none", zero_infinity=True)


def metric(facts):
    from torchmetrics.text import WordErrorRate

    return WordErrorRate()


def words(symbols):
    """Digits as words: ``[4, 2]`` means digits 3 and 1."""
    return " ".join(str(symbol - 1) for symbol in symbols)


def greedy(logits, lengths):
    """The likeliest symbol of every step, repeats joined and blanks dropped: B lists of symbols."""
    best = logits.argmax(dim=-1).tolist()
    paths = [row[:length] for row, length in zip(best, lengths.tolist(), strict=True)]
    return [[b for a, b in zip([BLANK, *path], path, strict=False) if b not in (a, BLANK)] for path in paths]


def update(metric, outputs, batch):
    spoken = [[symbol for symbol in row if symbol] for row in batch["digits"].tolist()]
    metric.update([words(row) for row in greedy(*outputs)], [words(row) for row in spoken])
