"""Contamination: which examples of one split are there in another, exactly or nearly.

Exact      all inputs byte for byte, labels apart.
Pictures   thumbnails of 8x8 pixels, mean and length removed, compared by cosine; recodings, colour shifts and small displacements pass.
           On CIFAR-10 at 0.9 this finds four in five of the pairs that people judged to be the same shot (ciFAIR: Barz & Denzler 2020,
           arXiv 1902.00423), and about as many pictures that only look alike: a report to look at, no verdict.
Texts      sets of ``WORDS``-word shingles with a Jaccard similarity of at least the threshold (from an inverted index).

All pairs are compared, so nothing is lost beyond what thumbnails or shingles cannot show.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from scipy.sparse import csr_array

from ..suite.errors import ConfigError
from .curation.copies import shingles
from .curation.pool import Pool
from .duplicates import exact_copies

__all__ = ["Overlap", "contamination", "overlap", "thumbnails"]

SIDE = 8  # pixels of a thumbnail
BLOCK = 2048  # thumbnails that are compared with all others at once
WORDS = 5


@final
@dataclass(frozen=True, eq=False)
class Overlap:
    """Pairs of examples of split ``one`` and split ``other``: original ids int64 ``[p]`` of each and their ``similarity`` float64 ``[p]``.

    Sorted by the ids of ``one``, the most similar first. Byte-equal inputs have similarity 1 and are ``exact`` (bool ``[p]``). Where
    ``one`` is ``other``, every pair occurs once, the lower id first.
    """

    one: str
    other: str
    one_ids: np.ndarray
    other_ids: np.ndarray
    similarity: np.ndarray
    exact: np.ndarray

    def summary(self) -> dict[str, Any]:
        """JSON values: pairs, exact ones among them, and how many examples of each side they touch."""
        return {
            "one": self.one,
            "other": self.other,
            "pairs": len(self.one_ids),
            "exact_pairs": int(self.exact.sum()),
            "one_examples": len(np.unique(self.one_ids)),
            "other_examples": len(np.unique(self.other_ids)),
        }


def contamination(splits: Mapping[str, Pool], threshold: float = 0.9) -> tuple[Overlap, ...]:
    """The overlap of every two different splits, the later one of the mapping first (test against train); see :func:`overlap`."""
    names = list(splits)
    return tuple(overlap(splits, one, other, threshold) for i, one in enumerate(names) for other in names[:i])


def overlap(splits: Mapping[str, Pool], one: str, other: str, threshold: float = 0.9) -> Overlap:
    """Pairs of the splits ``one`` and ``other`` with a similarity of at least ``threshold``, in (0, 1], or byte-equal inputs.

    The first picture or, without one, the first text or token input decides about near pairs; without either only exact ones count.
    """
    if not 0 < threshold <= 1:
        raise ConfigError(f"threshold: expected more than 0 and at most 1, given {threshold}")
    own, its = splits[one], splits[other]
    exact_own, exact_its = _exact(own, its)
    picture = next((name for name in own.inputs if own.rows(name, slice(0, 1)).ndim == 4), None)
    text = next((name for name in own.inputs if _is_text(own.rows(name, slice(0, 1)))), None)
    near_own, near_its, near = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    if picture is not None:
        near_own, near_its, near = _pictures(own.field(picture), its.field(picture), threshold)
    elif text is not None:
        near_own, near_its, near = _texts(own.field(text), its.field(text), threshold)
    rows = np.stack([np.concatenate([exact_own, near_own]), np.concatenate([exact_its, near_its])])
    similarity = np.concatenate([np.ones(len(exact_own)), near])
    exact = np.arange(len(similarity)) < len(exact_own)
    proper = rows[0] < rows[1] if one == other else np.ones(len(exact), dtype=bool)
    _, first = np.unique(rows[:, proper], axis=1, return_index=True)  # exact pairs come first and win
    kept = np.flatnonzero(proper)[first]
    kept = kept[np.lexsort((rows[1, kept], -similarity[kept], rows[0, kept]))]
    return Overlap(one, other, own.ids[rows[0, kept]], its.ids[rows[1, kept]], similarity[kept], exact[kept])


def thumbnails(images: np.ndarray) -> np.ndarray:
    """``[n, H, W, C]`` to float32 ``[n, SIDE · SIDE · C]`` of length 1, the mean removed; a picture of one colour becomes zero.

    Pixels are averaged over a grid of at most ``SIDE`` by ``SIDE`` cells.
    """
    n, height, width, _ = images.shape
    out = np.empty((n, min(SIDE, height) * min(SIDE, width) * images.shape[3]), np.float32)
    rows, columns = (np.linspace(0, size, min(SIDE, size) + 1).astype(np.int64) for size in (height, width))
    cells = np.diff(rows)[:, None, None] * np.diff(columns)[None, :, None]
    for start in range(0, n, BLOCK):
        part = images[start : start + BLOCK].astype(np.float32)
        sums = np.add.reduceat(np.add.reduceat(part, rows[:-1], axis=1), columns[:-1], axis=2)
        out[start : start + BLOCK] = (sums / cells).reshape(len(part), -1)
    out -= out.mean(axis=1, keepdims=True)
    length = np.linalg.norm(out, axis=1, keepdims=True)
    flat = length < 1e-3  # of grey levels: less than rounding leaves
    vectors: np.ndarray = np.where(flat, 0, out / np.where(flat, 1, length)).astype(np.float32)
    return vectors


def _is_text(rows: np.ndarray) -> bool:
    return rows.dtype == object or (rows.dtype.kind in "iu" and rows.ndim == 2)


def _exact(own: Pool, its: Pool) -> tuple[np.ndarray, np.ndarray]:
    """Positions of all pairs whose inputs are equal."""
    group = exact_copies(*(np.concatenate([own.field(name), its.field(name)]) for name in own.inputs))
    mine, theirs = group[: len(own)], group[len(own) :]
    order = np.argsort(theirs, kind="stable")
    low, high = (np.searchsorted(theirs[order], mine, side=side) for side in ("left", "right"))
    counts = high - low
    at = np.repeat(low, counts) + np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(np.arange(len(own)), counts), order[at]


def _pictures(own: np.ndarray, its: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    mine, theirs = thumbnails(own), thumbnails(its)
    ones, others, cosines = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0)]
    for start in range(0, len(mine), BLOCK):
        products = mine[start : start + BLOCK] @ theirs.T
        row, column = np.nonzero(products >= threshold)
        ones.append(row + start)
        others.append(column)
        cosines.append(np.minimum(products[row, column], 1).astype(np.float64))
    return np.concatenate(ones), np.concatenate(others), np.concatenate(cosines)


def _texts(own: np.ndarray, its: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    known: dict[bytes, int] = {}
    mine, theirs = _incidence(own, known), _incidence(its, known)
    mine.resize((len(own), len(known)))
    sizes, others = np.diff(mine.indptr), np.diff(theirs.indptr)
    shared = (mine @ theirs.T).tocoo()
    jaccard = shared.data / (sizes[shared.row] + others[shared.col] - shared.data)
    hit = jaccard >= threshold
    return shared.row[hit].astype(np.int64), shared.col[hit].astype(np.int64), jaccard[hit].astype(np.float64)


def _incidence(rows: np.ndarray, known: dict[bytes, int]) -> csr_array:
    """Which shingles occur in which row, int32 ``[n, shingles known so far]``; new shingles are added to ``known``."""
    columns = [[known.setdefault(shingle, len(known)) for shingle in shingles(row, WORDS)] for row in rows]
    ends = np.concatenate([[0], np.cumsum([len(one) for one in columns])])
    flat = np.fromiter((column for one in columns for column in one), np.int64, count=int(ends[-1]))
    return csr_array((np.ones(len(flat), np.int32), flat, ends), shape=(len(rows), len(known)))
