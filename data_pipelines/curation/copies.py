"""Deduplication of the whole pool: exact copies, near-duplicates in an embedding, pictures by perceptual hash, texts by MinHash.

Source  near-duplicates: near_pairs.py; rules: duplicates.py. Perceptual hash: the ``imagehash`` library. MinHash: Broder 1997, the
        ``datasketch`` library; candidates are checked by their exact Jaccard similarity.
Expect  the cheapest that suffices wins: the hash where copies are exact, the embedding where they are jittered.
"""

from __future__ import annotations

import shutil
from typing import Any, final

import numpy as np

from ...suite.errors import ConfigError, NeedsUnmet
from ...suite.files import object_digest
from ..duplicates import Pairs, Rule, exact_copies, survivors
from ..near_pairs import near_pairs
from ..shards import Rows
from .interface import Context, CurationMethod, Pool, Selection, kept_count
from .samplers import top

__all__ = ["ExactDedup", "MinHashDedup", "NearDedup", "PerceptualDedup", "shingles"]


@final
class ExactDedup(CurationMethod):
    """Keeps the first of every set of byte-equal inputs; below keep fraction 1, a random part of what is left.

    Labels do not matter: copies with different labels are copies. Where fewer are left than the keep fraction asks for, removed
    copies come back, lowest ids first.
    """

    own_size = True

    def select(self, pool: Pool, keep_fraction: float, context: Context) -> Selection:
        """Hash, then draw."""
        with context.span("dedup"):
            first = exact_copies(*(pool.field(name) for name in pool.inputs))
            stays = first == np.arange(len(pool))
            kept = _draw(pool, stays, np.where(stays, -1, first), keep_fraction, context)
        return Selection(pool.ids[kept], keep_fraction, pool.digest, {"method": "exact_dedup", "copies": int((~stays).sum())})


@final
class NearDedup(CurationMethod):
    """Removes near-duplicates in an embedding, found over the whole pool with measured recall; below keep fraction 1, a random part
    of what is left. ``rule`` as in :class:`~timetrial.data_pipelines.duplicates.Rule`; lower ids have precedence."""

    own_size = True

    def __init__(self, embedder: str = "pca", threshold: float = 0.95, rule: str = "leader", **embedder_options: Any) -> None:
        if rule not in tuple(Rule):
            raise ConfigError(f"rule: expected one of {', '.join(Rule)}, given {rule!r}")
        self.embedder, self.threshold, self.rule, self.embedder_options = embedder, threshold, Rule(rule), embedder_options

    def select(self, pool: Pool, keep_fraction: float, context: Context) -> Selection:
        """Embed, find pairs, apply the rule, draw."""
        vectors = context.embed(self.embedder, **self.embedder_options)
        seed = int(context.generator.integers(2**31))
        scratch = None
        if context.cache is not None:
            key = [pool.digest, self.embedder, dict(self.embedder_options), self.threshold, seed]
            scratch = context.cache / f"near-pairs-{object_digest(key)[:32]}"
        with context.span("dedup"):
            found = near_pairs(Rows([vectors]), self.threshold, seed=seed, scratch=scratch, on_progress=context.progress)
            stays, by = survivors(len(pool), found.pairs, np.arange(len(pool)), self.rule)
            context.note("similarity", _closest(len(pool), found.pairs))
            kept = _draw(pool, stays, by, keep_fraction, context)
            if scratch is not None:
                shutil.rmtree(scratch)  # it is for resuming this search; used again, it would be work that nobody pays for
        provenance = {"method": "near_dedup", "embedder": self.embedder, "rule": str(self.rule), "search": dict(found.report)}
        return Selection(pool.ids[kept], keep_fraction, pool.digest, provenance)


@final
class PerceptualDedup(CurationMethod):
    """Removes pictures whose 64-bit DCT hash (pHash) is within ``distance`` bits of another's; needs the ``imagehash`` library."""

    own_size = True

    def __init__(self, distance: int = 8, rule: str = "leader") -> None:
        if rule not in tuple(Rule) or not 0 <= distance < 64:
            raise ConfigError(f"expected a rule of {', '.join(Rule)} and a distance of 0 to 63 bits, given {rule!r} and {distance}")
        self.distance, self.rule = distance, Rule(rule)

    def select(self, pool: Pool, keep_fraction: float, context: Context) -> Selection:
        """Hash, compare, apply the rule, draw."""
        names = [name for name in pool.inputs if pool.rows(name, slice(0, 1)).ndim == 4]
        if not names:
            raise NeedsUnmet("perceptual_dedup needs an image input [n, height, width, channels]; the pool has none")
        with context.span("dedup"):
            pairs = _close_hashes(_picture_hashes(pool, names[0], context), self.distance)
            stays, by = survivors(len(pool), pairs, np.arange(len(pool)), self.rule)
            context.note("similarity", _closest(len(pool), pairs))
            kept = _draw(pool, stays, by, keep_fraction, context)
        provenance = {"method": "perceptual_dedup", "distance": self.distance, "rule": str(self.rule), "pairs": len(pairs)}
        return Selection(pool.ids[kept], keep_fraction, pool.digest, provenance)


@final
class MinHashDedup(CurationMethod):
    """Removes texts (or token rows) whose sets of ``words``-word shingles have a Jaccard similarity of at least ``threshold``; needs the
    ``datasketch`` library. A candidate that MinHash proposes counts only if its exact similarity does."""

    own_size = True

    def __init__(self, threshold: float = 0.7, words: int = 5, permutations: int = 128, rule: str = "leader") -> None:
        if rule not in tuple(Rule) or not 0 < threshold <= 1 or words < 1:
            raise ConfigError(f"expected a rule of {', '.join(Rule)}, threshold in (0, 1], words from 1: {rule!r}, {threshold}, {words}")
        self.threshold, self.words, self.permutations, self.rule = threshold, words, permutations, Rule(rule)

    def select(self, pool: Pool, keep_fraction: float, context: Context) -> Selection:
        """Shingle, hash, verify, apply the rule, draw."""
        names = [name for name in pool.inputs if pool.rows(name, slice(0, 1)).dtype.kind in "Oiu"]
        if not names:
            raise NeedsUnmet(f"minhash_dedup needs texts or tokens; the pool's inputs are {', '.join(pool.inputs)}")
        with context.span("dedup"):
            sets = [shingles(row, self.words) for row in pool.field(names[0])]
            pairs = self._pairs(sets, context)
            stays, by = survivors(len(pool), pairs, np.arange(len(pool)), self.rule)
            context.note("similarity", _closest(len(pool), pairs))
            kept = _draw(pool, stays, by, keep_fraction, context)
        provenance = {"method": "minhash_dedup", "threshold": self.threshold, "words": self.words, "rule": str(self.rule)}
        return Selection(pool.ids[kept], keep_fraction, pool.digest, provenance | {"permutations": self.permutations, "pairs": len(pairs)})

    def _pairs(self, sets: list[frozenset[bytes]], context: Context) -> Pairs:
        """Verified pairs; the similarity is the exact Jaccard."""
        try:
            from datasketch import MinHash, MinHashLSH  # type: ignore[import-not-found,import-untyped,unused-ignore]
        except ImportError:
            raise NeedsUnmet("minhash_dedup needs the datasketch library: pip install datasketch") from None
        index = MinHashLSH(threshold=self.threshold, num_perm=self.permutations)
        one, other, value = [], [], []
        for i, own in enumerate(sets):
            sketch = MinHash(num_perm=self.permutations, seed=1)
            sketch.update_batch(sorted(own))
            for j in sorted(index.query(sketch)):
                shared = len(own & sets[j])
                jaccard = shared / (len(own) + len(sets[j]) - shared)
                if jaccard >= self.threshold:
                    one.append(j)
                    other.append(i)
                    value.append(jaccard)
            index.insert(i, sketch)
            context.progress("minhash", (i + 1) / len(sets))
        return Pairs.of(np.array(one, np.int64), np.array(other, np.int64), np.array(value))


def shingles(row: Any, words: int) -> frozenset[bytes]:
    """Runs of ``words`` consecutive words of a text (lower case) or of tokens; a shorter row is one shingle."""
    parts = row.lower().split() if isinstance(row, str) else [str(token) for token in row]
    return frozenset(" ".join(parts[i : i + words]).encode() for i in range(max(1, len(parts) - words + 1)))


def _draw(pool: Pool, stays: np.ndarray, by: np.ndarray, keep_fraction: float, context: Context) -> np.ndarray:
    """All survivors at keep fraction 1, else a random part of them; removed ones come back, lowest first, only where survivors run out."""
    score = np.where(stays, 1.0, 0.0)
    if keep_fraction < 1:
        score += np.where(stays, context.generator.random(len(pool)), 0.0)
    kept = top(score, int(stays.sum()) if keep_fraction == 1 else kept_count(len(pool), keep_fraction))
    removed = by.copy()
    removed[kept] = -1
    context.note("duplicate_of", np.where(removed < 0, -1, pool.ids[removed]))
    return kept


def _closest(count: int, pairs: Pairs) -> np.ndarray:
    """Highest similarity of every row to any other in a pair; NaN where it is in none."""
    best = np.full(count, -np.inf)
    np.maximum.at(best, pairs.first, pairs.cosine)
    np.maximum.at(best, pairs.second, pairs.cosine)
    return np.where(np.isfinite(best), best, np.nan)


def _picture_hashes(pool: Pool, name: str, context: Context) -> np.ndarray:
    """pHash of every picture, uint8 ``[n, 8]``."""
    try:
        from imagehash import phash  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise NeedsUnmet("perceptual_dedup needs the imagehash library: pip install imagehash") from None
    from PIL import Image

    out = np.empty((len(pool), 8), dtype=np.uint8)
    for start in range(0, len(pool), 1024):
        for i, picture in enumerate(pool.rows(name, slice(start, start + 1024)), start):
            out[i] = np.packbits(phash(Image.fromarray(picture.squeeze())).hash)
        context.progress("hash", min(start + 1024, len(pool)) / len(pool))
    return out


def _close_hashes(hashes: np.ndarray, distance: int) -> Pairs:
    """Pairs within ``distance`` bits; the similarity is the share of bits that agree."""
    import faiss

    index = faiss.IndexBinaryFlat(64)
    index.add(hashes)
    limits, bits, near = index.range_search(hashes, distance + 1)  # strictly below the radius
    found = np.diff(np.asarray(limits, dtype=np.int64)).astype(np.int64)
    row = np.repeat(np.arange(len(hashes)), found)
    later = near > row
    return Pairs.of(row[later], near[later], 1.0 - bits[later] / 64.0)
