"""Where datasets come from: one file a dataset."""

from __future__ import annotations

from importlib import import_module

from ...suite.errors import unknown_name
from ...suite.registry import OUTSIDE
from ..dataset import Source
from ..outside import with_outside

__all__ = ["get_source", "list_sources"]

_NAMES = (
    "adult",
    "brain_mri",
    "brain_mri_kspace",
    "bsd400",
    "bsd400_patches",
    "cifar10",
    "cifar10_corrupted",
    "cifar10_terms",
    "cifar10n",
    "cora",
    "criteo1tb",
    "digits",
    "digits_copies",
    "emoji",
    "emoji_bpe",
    "fastmri",
    "fineweb_edu",
    "fsdd",
    "fsdd_strings",
    "imagenet",
    "librispeech",
    "molhiv",
    "molpcba",
    "multi30k",
    "multi30k_bpe",
    "names",
    "newsgroups20",
    "newsgroups20_bpe",
    "nuclei",
    "own_captions",
    "own_files",
    "own_graphs",
    "own_grey",
    "own_pairs",
    "own_text",
    "perceptron",
    "tabular_ctr",
    "tinyshakespeare",
    "wikitext2",
    "wmt17",
)


def list_sources() -> tuple[str, ...]:
    """Sorted names of all shipped sources."""
    return _NAMES


def get_source(name: str) -> Source:
    """The source of this name, ``NAME+outside`` with examples from elsewhere (:mod:`~..outside`); ``UnknownName`` otherwise."""
    if name.endswith(OUTSIDE):
        return with_outside(get_source(name.removesuffix(OUTSIDE)))
    if name not in _NAMES:
        raise unknown_name("data source", name, _NAMES)
    source = import_module(f".{name}", __package__).SOURCE
    assert isinstance(source, Source)
    return source
