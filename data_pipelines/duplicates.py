"""Near-duplicates: pairs of vectors above a cosine, and who survives them under the three rules in use.

A pair counts when its cosine is at least the threshold (equality included). Candidates come from float32 products with a little
slack; the decision is made on a float64 dot product of the two rows alone, so it depends on no block size, thread or neighbour.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import final

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..suite.errors import ConfigError

__all__ = ["Pairs", "Rule", "exact_copies", "group_pairs", "nearest_earlier", "pair_cosines", "survivors"]

SLACK = 1e-5  # float32 products of unit rows are wrong by less
BLOCK = 2048  # rows of a group that are compared at once


class Rule(StrEnum):
    """Who goes, given an order of precedence.

    ``any_earlier``: whoever has an earlier near-duplicate, kept or not (SemDeDup's code). ``leader``: whoever has an earlier *kept* one, so
    every removed example has a kept near-duplicate. ``component``: all but the first of each connected component. They keep
    component <= any_earlier <= leader.
    """

    ANY_EARLIER = "any_earlier"
    LEADER = "leader"
    COMPONENT = "component"


@final
@dataclass(frozen=True, eq=False)
class Pairs:
    """Near-duplicate pairs of row positions: ``first`` < ``second`` int64 ``[p]``, sorted, unique, and their ``cosine`` float64."""

    first: np.ndarray
    second: np.ndarray
    cosine: np.ndarray

    def __len__(self) -> int:
        return len(self.first)

    @classmethod
    def of(cls, one: np.ndarray, other: np.ndarray, cosine: np.ndarray) -> Pairs:
        """Canonical form of pairs in any order, doubles dropped."""
        first, second = np.minimum(one, other).astype(np.int64), np.maximum(one, other).astype(np.int64)
        order = np.lexsort((second, first))
        first, second, cosine = first[order], second[order], cosine[order]
        fresh = np.ones(len(first), dtype=bool)
        fresh[1:] = (np.diff(first) != 0) | (np.diff(second) != 0)
        return cls(first[fresh], second[fresh], cosine[fresh])

    def above(self, threshold: float) -> Pairs:
        """The pairs with at least this cosine."""
        kept = self.cosine >= threshold
        return Pairs(self.first[kept], self.second[kept], self.cosine[kept])


def pair_cosines(vectors: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Cosine of given pairs of rows, float64, from the two rows alone; bit-equal rows give exactly 1."""
    out = np.empty(len(one))
    for start in range(0, len(one), BLOCK):
        part = slice(start, start + BLOCK)
        a, b = vectors[one[part]].astype(np.float64), vectors[other[part]].astype(np.float64)
        norms = np.sqrt(np.einsum("pd,pd->p", a, a) * np.einsum("pd,pd->p", b, b))
        out[part] = np.einsum("pd,pd->p", a, b) / norms
    return np.minimum(out, 1.0)


def group_pairs(vectors: np.ndarray, groups: np.ndarray, threshold: float) -> Pairs:
    """All pairs inside the groups with at least the threshold's cosine; unit rows float32 ``[n, d]``, groups int64 ``[n]``."""
    _check(threshold)
    ones, others = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for rows, later, products in _blocks(vectors, groups):
        hit = np.argwhere(products >= threshold - SLACK)
        one, other = rows[hit[:, 0]], later[hit[:, 1]]
        proper = one < other
        ones.append(one[proper])
        others.append(other[proper])
    one, other = np.concatenate(ones), np.concatenate(others)
    cosine = pair_cosines(vectors, one, other)
    kept = cosine >= threshold
    return Pairs.of(one[kept], other[kept], cosine[kept])


def nearest_earlier(vectors: np.ndarray, groups: np.ndarray, rank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For every row the highest cosine to an earlier row of its group, and which one: float64 ``[n]`` (−1: none), int64 ``[n]`` (−1).

    ``rank`` int64 ``[n]`` is a permutation: lower is earlier. The any-earlier rule removes exactly the rows above its threshold.
    """
    best, partner = np.full(len(vectors), -np.inf, dtype=np.float32), np.full(len(vectors), -1, dtype=np.int64)
    for rows, others, products in _blocks(vectors, groups):
        for late, early, cosines in ((rows, others, products), (others, rows, products.T)):
            seen = np.where(rank[early][None, :] < rank[late][:, None], cosines, -np.inf)
            at = seen.argmax(axis=1)
            value = seen[np.arange(len(late)), at]
            better = value > best[late]
            best[late[better]], partner[late[better]] = value[better], early[at[better]]
    found = np.flatnonzero(partner >= 0)
    exact = np.full(len(vectors), -1.0)
    exact[found] = pair_cosines(vectors, found, partner[found])
    return exact, partner


def survivors(count: int, pairs: Pairs, rank: np.ndarray, rule: Rule | str) -> tuple[np.ndarray, np.ndarray]:
    """Who is kept, bool ``[count]``, and for the removed the earlier row that removed it, int64 ``[count]`` (−1 for the kept).

    ``rank`` int64 ``[count]`` is a permutation: lower has precedence.
    """
    if rule not in tuple(Rule):
        raise ConfigError(f"rule: expected one of {', '.join(Rule)}, given {rule!r}")
    swap = rank[pairs.first] > rank[pairs.second]
    early, late = np.where(swap, pairs.second, pairs.first), np.where(swap, pairs.first, pairs.second)
    kept, by = np.ones(count, dtype=bool), np.full(count, -1, dtype=np.int64)
    if rule == Rule.COMPONENT:
        _, member = connected_components(coo_array((np.ones(len(pairs), np.int8), (early, late)), shape=(count, count)), directed=False)
        head = np.full(int(member.max(initial=-1)) + 1, -1, dtype=np.int64)
        by_rank = np.argsort(rank)
        heads, at = np.unique(member[by_rank], return_index=True)
        head[heads] = by_rank[at]
        kept = head[member] == np.arange(count)
        by[~kept] = head[member[~kept]]
        return kept, by
    order = np.lexsort((rank[early], rank[late]))
    for e, x in zip(early[order].tolist(), late[order].tolist(), strict=True):
        if (rule == Rule.ANY_EARLIER or kept[e]) and by[x] < 0:
            kept[x], by[x] = False, e
    return kept, by


def exact_copies(*columns: np.ndarray) -> np.ndarray:
    """For every row the position of the first row with the same bytes in all columns (its own if there is none earlier): int64 ``[n]``.

    ``columns``: arrays of n rows each. sha256 of the bytes; one pass, no comparisons.
    """
    first: dict[bytes, int] = {}
    rows = (b"".join(np.ascontiguousarray(part).tobytes() for part in parts) for parts in zip(*columns, strict=True))
    heads = (first.setdefault(hashlib.sha256(row).digest(), i) for i, row in enumerate(rows))
    return np.fromiter(heads, dtype=np.int64, count=len(columns[0]))


def _blocks(vectors: np.ndarray, groups: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Positions of two blocks of one group and the products of their rows; every unordered pair of a group comes up once or twice."""
    order = np.argsort(groups, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        for start in range(0, len(members), BLOCK):
            rows = members[start : start + BLOCK]
            block = vectors[rows]
            for other in range(start, len(members), BLOCK):
                later = members[other : other + BLOCK]
                yield rows, later, block @ (block if other == start else vectors[later]).T


def _check(threshold: float) -> None:
    if not -1 <= threshold <= 1:
        raise ConfigError(f"threshold: expected a cosine between -1 and 1, given {threshold}")
