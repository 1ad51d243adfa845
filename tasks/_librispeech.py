"""What the LibriSpeech workloads share: pieces of words as targets, words as what is counted."""

from __future__ import annotations

from . import _ctc

FIELDS = ("spectrogram", "tokens")
WORD_BEGINS = "\u2581"


def losses(outputs, batch, options):
    return _ctc.string_losses(outputs, batch["tokens"].long())


def metric(facts):
    from torchmetrics.text import WordErrorRate

    found = WordErrorRate()
    found.pieces = facts["pieces"]
    return found


def text(tokens, pieces):
    """Pieces of words as words: U+2581 begins one."""
    return "".join(pieces[token] for token in tokens).replace(WORD_BEGINS, " ").strip()


def update(metric, outputs, batch):
    spoken = [[token for token in row if token] for row in batch["tokens"].tolist()]
    heard = _ctc.greedy(*outputs)
    metric.update([text(row, metric.pieces) for row in heard], [text(row, metric.pieces) for row in spoken])
