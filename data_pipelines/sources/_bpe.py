"""Byte-pair encoding: a vocabulary learned from text, the same on every machine and for ever.

P. Gage, A New Algorithm for Data Compression (1994); R. Sennrich et al., Neural Machine Translation of Rare Words with Subword
Units (arXiv 1508.07909), on bytes as in GPT-2. Written here because a dataset's digest must not change with the version of a library.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Self, final

from ...suite.errors import ConfigError

__all__ = ["BEGIN", "END", "PADDING", "BytePairs"]

PADDING, BEGIN, END = 0, 1, 2
_BYTES_AT = 3
_WORD = re.compile(r" ?\w+| ?[^\w\s]+|\s+(?!\S)|\s")  # a word takes one space before it along; the rest of a run of spaces is a word

Pair = tuple[int, int]


@final
@dataclass(frozen=True)
class BytePairs:
    """Tokens: 0 padding, 1 begin, 2 end, then the 256 bytes, then one for every merge, in the order in which they were learned."""

    merges: tuple[Pair, ...]

    @classmethod
    def learn(cls, texts: Iterable[str], size: int) -> Self:
        """A vocabulary of ``size`` tokens: the most frequent pair is merged first, the smaller one of equals.

        No merge crosses the border of a word. ``ConfigError`` when ``size`` leaves no room for the bytes, or the texts hold fewer pairs.
        """
        base = _BYTES_AT + 256
        if size < base:
            raise ConfigError(f"option vocabulary: expected at least {base} (marks and bytes), given {size}")
        counts = Counter(word for text in texts for word in _WORD.findall(text))
        merges = _merges([list(_bytes(word)) for word in counts], list(counts.values()), size - base)
        if len(merges) < size - base:
            raise ConfigError(f"option vocabulary: the text gives at most {base + len(merges)} tokens, given {size}")
        return cls(tuple(merges))

    @property
    def size(self) -> int:
        """Number of tokens."""
        return _BYTES_AT + 256 + len(self.merges)

    @cached_property
    def tokens(self) -> tuple[bytes, ...]:
        """What each token stands for; nothing for the three marks."""
        tokens = [b""] * _BYTES_AT + [bytes([value]) for value in range(256)]
        for left, right in self.merges:
            tokens.append(tokens[left] + tokens[right])
        return tuple(tokens)

    @cached_property
    def _ranks(self) -> dict[Pair, int]:
        return {pair: rank for rank, pair in enumerate(self.merges)}

    @cached_property
    def _known_words(self) -> dict[str, tuple[int, ...]]:
        return {}

    def encode(self, text: str) -> list[int]:
        """Tokens of a text, without marks; every text can be encoded."""
        return [token for word in _WORD.findall(text) for token in self._word(word)]

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens; marks are skipped, broken UTF-8 is replaced."""
        return b"".join(self.tokens[token] for token in tokens).decode(errors="replace")

    def _word(self, word: str) -> tuple[int, ...]:
        if word not in self._known_words:
            parts = list(_bytes(word))
            while len(parts) > 1:
                rank, at = min((self._ranks.get(pair, len(self.merges)), i) for i, pair in enumerate(pairwise(parts)))
                if rank == len(self.merges):
                    break
                parts[at : at + 2] = [_BYTES_AT + 256 + rank]
            self._known_words[word] = tuple(parts)
        return self._known_words[word]


def _bytes(word: str) -> Sequence[int]:
    return [_BYTES_AT + value for value in word.encode()]


def _merges(words: list[list[int]], counts: list[int], wanted: int) -> list[Pair]:
    """Learn merges, keeping the count of every pair and the words that it occurs in up to date."""
    pairs: Counter[Pair] = Counter()
    places: defaultdict[Pair, set[int]] = defaultdict(set)
    for i, (word, count) in enumerate(zip(words, counts, strict=True)):
        for pair in pairwise(word):
            pairs[pair] += count
            places[pair].add(i)
    heap = [(-count, pair) for pair, count in pairs.items()]
    heapq.heapify(heap)
    merges: list[Pair] = []
    while heap and len(merges) < wanted:
        count, best = heapq.heappop(heap)
        if pairs[best] != -count or not count:
            continue  # its count has changed since; the present one is in the heap too
        token = _BYTES_AT + 256 + len(merges)
        merges.append(best)
        changed: set[Pair] = set()
        for i in sorted(places[best]):
            before, after = words[i], _merged(words[i], best, token)
            for word, sign in ((before, -counts[i]), (after, counts[i])):
                for pair in pairwise(word):
                    pairs[pair] += sign
                    changed.add(pair)
                    places[pair].add(i)
            words[i] = after
        del places[best]
        for pair in changed:
            if pairs[pair]:
                heapq.heappush(heap, (-pairs[pair], pair))
    return merges


def _merged(word: list[int], pair: Pair, token: int) -> list[int]:
    merged: list[int] = []
    for part in word:
        if merged and (merged[-1], part) == pair:
            merged[-1] = token
        else:
            merged.append(part)
    return merged
