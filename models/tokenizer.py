"""Text to tokens and back: GPT-2's byte-pair encoding, and plain bytes for runs that must need no download."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import tiktoken

from ladder.models.errors import InputError

TOKENIZERS = ("gpt2", "bytes")

END_OF_TEXT = "<|endoftext|>"
"""The one special token; it ends every document of a corpus."""


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """A tiktoken encoding with what a corpus and a model must know of it."""

    name: str
    """`gpt2` or `bytes`."""
    encoding: tiktoken.Encoding
    """The encoding itself."""

    @property
    def vocabulary(self) -> int:
        """Number of tokens, the special one included."""
        return self.encoding.n_vocab

    @property
    def end_of_text(self) -> int:
        """The token that ends a document."""
        return self.encoding.eot_token

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) over the name, pattern, special tokens and ranks: equal where every text has equal tokens."""
        digest = hashlib.sha256()
        encoding = self.encoding
        for part in (self.name, encoding._pat_str, repr(sorted(encoding._special_tokens.items()))):
            digest.update(part.encode() + b"\0")
        for token, rank in sorted(encoding._mergeable_ranks.items(), key=lambda item: item[1]):
            digest.update(b"%d %d " % (rank, len(token)) + token)
        return digest.hexdigest()

    def encode(self, text: str) -> list[int]:
        """Tokens of `text`; the name of a special token in it is ordinary text, so nobody can forge the end."""
        return self.encoding.encode_ordinary(text)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of each text, on all cores of this process."""
        return self.encoding.encode_ordinary_batch(list(texts))

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of `tokens`; bytes that are not UTF-8, as where a character is cut, become U+FFFD."""
        return self.decode_bytes(tokens).decode("utf-8", errors="replace")

    def decode_bytes(self, tokens: Sequence[int]) -> bytes:
        """Bytes of `tokens`. A token that is not in the vocabulary is an InputError."""
        try:
            return self.encoding.decode_bytes(tokens)
        except (KeyError, OverflowError) as error:
            stranger = next(token for token in tokens if not 0 <= token < self.vocabulary)
            raise InputError(
                f"token {stranger} is not in the vocabulary of tokenizer {self.name}, 0 to {self.vocabulary - 1}: "
                "were these tokens made with another tokenizer?"
            ) from error


@cache
def load_tokenizer(name: str) -> Tokenizer:
    """The tokenizer called `name`: "gpt2", which tiktoken downloads once and keeps, or "bytes", which is made here."""
    if name == "bytes":
        return Tokenizer(name=name, encoding=_byte_encoding())
    if name == "gpt2":
        return Tokenizer(name=name, encoding=_gpt2_encoding())
    raise InputError(f"unknown tokenizer {name!r}: wanted {' or '.join(TOKENIZERS)}")


def _byte_encoding() -> tiktoken.Encoding:
    """One token a byte, the token being the byte, and the end of text after them."""
    return tiktoken.Encoding(
        "bytes",
        pat_str=r"[\s\S]{1,16}",  # any cut does, since no two bytes merge; 16 at a time is fastest
        mergeable_ranks={bytes([byte]): byte for byte in range(256)},
        special_tokens={END_OF_TEXT: 256},
        explicit_n_vocab=257,
    )


def _gpt2_encoding() -> tiktoken.Encoding:
    try:
        return tiktoken.get_encoding("gpt2")
    except (OSError, ValueError) as error:  # no network, a full disk; a download with another hash
        raise InputError(
            "the vocabulary of tokenizer gpt2 is not in tiktoken's cache and could not be downloaded "
            f"({type(error).__name__}: {str(error)[:200]}); connect once, or set TIKTOKEN_CACHE_DIR to a folder "
            "that holds it, or take --tokenizer bytes, which needs none"
        ) from error
