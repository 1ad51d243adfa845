"""20 Newsgroups, sorted by date: 18,846 posts of 1993 to twenty Usenet groups.

Size      14 MB to download, 39 MB as padded arrays. Licence: CC BY 4.0 (as listed by UCI). Checksum: sha256 over
          the posts, whatever form they come in.
Source    K. Lang, NewsWeeder: Learning to filter netnews (1995); the bydate version of J. Rennie, qwone.com/~jason/20Newsgroups.
Gives     text    ARRAY uint8 [bytes], UTF-8, zeros after the end: the subject, an empty line, the body with its quotes and signature;
                  of the header only the subject is kept. Longer posts (19 % at the default) are cut between characters.
          length  INT, bytes that count
          group   INT, index into the groups
Splits    The official train (11,314) and test (7,532, later in time), each sorted by group and number. 41 bodies occur more than once.
Facts     classes = 20, groups
Options   bytes: width of a row

The posts hold people's names and addresses: never print them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...suite.errors import ConfigError
from ..dataset import Decoded, Field, FieldKind, Source
from ..fetch import RemoteFile
from .common import byte_rows, read_members, require_content

_SHA256 = "fb9c7a6c5cbb54ae19289dced031ad98f1c711308669e377e3dddea7b69ec4af"
_POSTS = RemoteFile(
    name="20news-bydate.tar.gz",
    url="https://ndownloader.figshare.com/files/5975967",
    digest=None,
    size_bytes=None,
    mirror="newsgroups20/20news-bydate-noheaders.jsonl",
)

Post = tuple[str, str, str, str, str]  # split, group, number, subject, body


def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
    if options["bytes"] < 1:
        raise ConfigError(f"newsgroups20: option bytes expected at least 1, given {options['bytes']}")
    path = paths[_POSTS.name]
    posts = sorted(_from_mirror(path) if path.suffix == ".jsonl" else _from_archive(path))
    require_content("newsgroups20", _SHA256, ("\n".join(post).encode() for post in posts))
    groups = sorted({group for _, group, *_ in posts})
    splits = {}
    for split in ("train", "test"):
        chosen = [post for post in posts if post[0] == split]
        rows, lengths = byte_rows([f"{subject}\n\n{body}" for *_, subject, body in chosen], options["bytes"])
        splits[split] = {
            "text": Field(FieldKind.ARRAY, rows),
            "length": Field(FieldKind.INT, lengths),
            "group": Field(FieldKind.INT, np.array([groups.index(group) for _, group, *_ in chosen], np.int64)),
        }
    return Decoded(splits, {"classes": len(groups), "groups": groups})


def _from_archive(path: Path) -> list[Post]:
    """The official archive: ``20news-bydate-SPLIT/GROUP/NUMBER``, each with its header, Latin-1."""
    posts = []
    for name, content in read_members(path, lambda name: name.count("/") == 2, below=0).items():
        folder, group, number = name.split("/")
        header, _, body = content.decode("latin-1").partition("\n\n")
        subject = next((line for line in header.split("\n") if line.lower().startswith("subject:")), "subject:")
        posts.append((folder.rpartition("-")[2], group, number, subject[len("subject:") :].strip(), body))
    return posts


def _from_mirror(path: Path) -> list[Post]:
    entries = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    return [(entry["split"], entry["group"], entry["id"], entry["subject"], entry["body"]) for entry in entries]


SOURCE = Source(
    name="newsgroups20",
    version=1,
    licence="CC BY 4.0",
    citation="K. Lang. NewsWeeder: Learning to filter netnews. ICML 1995.",
    files=(_POSTS,),
    decode=decode,
    options={"bytes": 2048},
)
