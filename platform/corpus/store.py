"""Corpora in storage: what is there, what it says of itself, and its tokens as one stream per split.

A corpus is the folder `corpora/<name>` with `corpus.json` and its shards: little-endian tokens, documents ended by the
end-of-text token. `corpus.json` is written last, so a folder without it is no corpus. Nothing is read whole: tokens
come through the streams of `stream.py`.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from upath import UPath

from ladder.models.errors import InputError, did_you_mean
from ladder.models.tokenizer import Tokenizer, load_tokenizer
from ladder.platform.corpus.blocks import SPLITS
from ladder.platform.corpus.shard_cache import drop_damaged_copy
from ladder.platform.corpus.stream import Shard
from ladder.platform.corpus.stream import TokenStream as TokenStream  # exported: a corpus' interface includes it

DESCRIPTION = "corpus.json"
FORMAT = 1
CHUNK_BYTES = 1 << 22
CHUNK_TOKENS = 1 << 20
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Split:
    """One side of a corpus: how much text, and the shards that hold it."""

    documents: int
    """Documents."""
    tokens: int
    """Tokens, the end-of-text token after each document included."""
    bytes: int
    """Bytes of UTF-8 text."""
    words: int
    """Words: runs of characters that are not white space."""
    characters: int
    """Unicode characters."""
    shards: tuple[Shard, ...]
    """The files, in order."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Documents turned into token shards, with a held-out split chosen by a hash of the document."""

    name: str
    """The folder's name under `corpora/`."""
    tokenizer: str
    """Name of the tokenizer that made the tokens."""
    tokenizer_fingerprint: str
    """The tokenizer's sha256: equal where every text has equal tokens."""
    vocabulary: int
    """Number of different tokens."""
    dtype: str
    """Type of a token in the shards, as numpy writes it: `<u2` or `<u4`."""
    heldout_share: float
    """Share of documents asked to be held out."""
    duplicates: int
    """Documents whose text came before, word for word; they are kept, all on one side."""
    empty_documents: int
    """Documents with nothing but white space, which were left out."""
    source: str
    """Where the documents came from, for people."""
    splits: dict[str, Split]
    """`train` and `heldout`."""
    folder: UPath
    """Where the corpus is."""
    heldout_by: str = "text"
    """What chose the held-out documents: the hash of the `text`, or of the canonical `url`."""
    licence: str | None = None
    """Under which licence the documents came; None: not said."""
    columns: Sequence[str] = ()
    """Columns or fields of the input's first file."""
    recipe: Mapping[str, Any] | None = None
    """All that decided which documents are here, with the versions of the libraries that did; None: not recorded."""

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) over the tokenizer, the content of the shards and the recipe, where one is recorded."""
        shards = {name: [shard.sha256 for shard in split.shards] for name, split in sorted(self.splits.items())}
        content: dict[str, Any] = {"tokenizer": self.tokenizer_fingerprint, "shards": shards}
        if self.recipe is not None:
            content["recipe"] = self.recipe_sha256
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def recipe_sha256(self) -> str | None:
        """sha256 (hex) of the recipe's JSON with sorted keys; None where there is none."""
        if self.recipe is None:
            return None
        return hashlib.sha256(json.dumps(self.recipe, sort_keys=True).encode()).hexdigest()

    @cached_property
    def train(self) -> TokenStream:
        """The tokens to train on."""
        return self._stream("train")

    @cached_property
    def heldout(self) -> TokenStream:
        """The tokens never trained on."""
        return self._stream("heldout")

    def _stream(self, split: str) -> TokenStream:
        return TokenStream(self.folder, self.splits[split].shards, self.dtype)

    def load_tokenizer(self) -> Tokenizer:
        """The tokenizer of the corpus; InputError if the one at hand would cut text in another way."""
        tokenizer = load_tokenizer(self.tokenizer)
        if tokenizer.fingerprint != self.tokenizer_fingerprint:
            raise InputError(
                f"corpus {self.name!r} was made with another vocabulary called {self.tokenizer!r} "
                f"({self.tokenizer_fingerprint[:12]}, here {tokenizer.fingerprint[:12]}); build the corpus again"
            )
        return tokenizer

    def verify(self) -> None:
        """Reads every shard; InputError names the first whose sha256 is not as recorded.

        Copies of remote shards on this machine are read too. A damaged one is removed, and fetched at its next use.
        """
        for split in self.splits.values():
            for shard in split.shards:
                path = self.folder / shard.name
                digest = hashlib.sha256()
                with path.open("rb") as file:
                    for chunk in iter(lambda: file.read(CHUNK_BYTES), b""):  # noqa: B023 (used up within the loop)
                        digest.update(chunk)
                if digest.hexdigest() != shard.sha256:
                    raise InputError(f"shard {path} was changed since it was built; {_remedy(self.name)}")
                drop_damaged_copy(shard.sha256)

    def to_json(self) -> dict[str, Any]:
        """What `corpus.json` holds."""
        values = {name: value for name, value in vars(self).items() if name in _FIELDS}
        splits = {
            name: {**asdict(split), "shards": list(map(asdict, split.shards))} for name, split in self.splits.items()
        }
        prints = {"recipe_sha256": self.recipe_sha256, "fingerprint": self.fingerprint}
        return {"format": FORMAT, **values, "splits": splits, **prints}


_OPTIONAL = ("heldout_by", "licence", "columns", "recipe")
"""Absent from corpora of earlier versions."""
_FIELDS = tuple(name for name in Corpus.__dataclass_fields__ if name not in ("splits", "folder"))


def open_corpus(storage: UPath, name: str, *, tokenizer: str | None = None) -> Corpus:
    """The corpus of this name. InputError if it is absent, damaged, or was not made with `tokenizer` (None: any)."""
    folder = corpus_folder(storage, name)
    if not has_corpus(storage, name):
        there = list_corpora(storage)
        known = ", ".join(there) or "none"
        raise InputError(
            f"no corpus {name!r} in {storage}{did_you_mean(name, there)}; the corpora there: {known}; "
            f"build it with: ladder corpus build {name} --input FILES"
        )
    corpus = _read_description(folder)
    if tokenizer is not None and tokenizer != corpus.tokenizer:
        raise InputError(
            f"corpus {name!r} holds tokens of tokenizer {corpus.tokenizer!r}, wanted {tokenizer!r}; "
            f"build another corpus with --tokenizer {tokenizer}, or this one again with --overwrite"
        )
    _check_sizes(corpus)
    return corpus


def list_corpora(storage: UPath) -> list[str]:
    """The names of the corpora in storage, sorted; whether they are whole is for `open_corpus` to say."""
    folder = storage / "corpora"
    if not folder.is_dir():
        return []
    names = (child.name for child in folder.iterdir())
    return sorted(name for name in names if NAME.fullmatch(name) and has_corpus(storage, name))


def corpus_folder(storage: UPath, name: str) -> UPath:
    """Where the corpus of this name is or will be; InputError if the name cannot be a folder's."""
    if not NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot name a corpus: wanted letters, digits, '.', '_' and '-', a letter or digit first"
        )
    return storage / "corpora" / name


def has_corpus(storage: UPath, name: str) -> bool:
    """Whether a corpus of this name was completed."""
    return (corpus_folder(storage, name) / DESCRIPTION).exists()


def heldout_documents(corpus: Corpus) -> Iterator[str]:
    """The texts never trained on, each whole, in the order of the shards."""
    tokenizer = corpus.load_tokenizer()
    stream = corpus.heldout
    parts: list[np.ndarray] = []
    for start in range(0, stream.n_tokens, CHUNK_TOKENS):
        chunk = stream.read(start, min(CHUNK_TOKENS, stream.n_tokens - start))
        begin = 0
        for end in np.flatnonzero(chunk == tokenizer.end_of_text).tolist():
            yield tokenizer.decode(np.concatenate([*parts, chunk[begin:end]]).tolist())
            parts, begin = [], end + 1
        parts.append(chunk[begin:])


def _read_description(folder: UPath) -> Corpus:
    path = folder / DESCRIPTION
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise InputError(f"{path} is of format {content['format']}, this version reads {FORMAT}; build it again")
        splits = {name: _split_of_json(content["splits"][name]) for name in SPLITS}
        values = {name: content[name] for name in _FIELDS if name in content or name not in _OPTIONAL}
        corpus = Corpus(**{**values, "name": folder.name, "splits": splits, "folder": folder})
    except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is damaged ({error!r}); {_remedy(folder.name)}") from error
    if corpus.fingerprint != content.get("fingerprint"):
        raise InputError(f"{path} was changed since it was built; {_remedy(folder.name)}")
    for shard in [shard for split in splits.values() for shard in split.shards]:  # both become names of files
        if PurePosixPath(shard.name).name != shard.name or not SHA256.fullmatch(shard.sha256):
            raise InputError(f"{path} is damaged (shard {shard.name!r}, {shard.sha256!r}); {_remedy(folder.name)}")
    return corpus


def _split_of_json(content: dict[str, Any]) -> Split:
    return Split(**{**content, "shards": tuple(Shard(**shard) for shard in content["shards"])})


def _check_sizes(corpus: Corpus) -> None:
    """InputError for a shard that is missing or cut off; one listing, because remote storage charges per question."""
    filesystem = corpus.folder.fs
    filesystem.invalidate_cache()
    listing = filesystem.ls(corpus.folder.path, detail=True)
    sizes = {entry["name"].rstrip("/").rsplit("/", 1)[-1]: entry["size"] for entry in listing}
    for split in corpus.splits.values():
        for shard in split.shards:
            path = corpus.folder / shard.name
            if shard.name not in sizes:
                raise InputError(f"shard {path} is missing; {_remedy(corpus.name)}")
            wanted = shard.tokens * np.dtype(corpus.dtype).itemsize
            if sizes[shard.name] != wanted:
                raise InputError(f"shard {path} has {sizes[shard.name]} bytes, wanted {wanted}; {_remedy(corpus.name)}")


def _remedy(name: str) -> str:
    return f"copy the corpus again or rebuild it with: ladder corpus build {name} --overwrite"
