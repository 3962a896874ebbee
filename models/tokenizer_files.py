"""A tokenizer as Hugging Face's libraries read it: `tokenizer.json` and `tokenizer_config.json` beside the weights.

Without them `AutoTokenizer` makes up a tokenizer of one token, and lm-evaluation-harness scores nothing at all without
a word. The format is that of the library `tokenizers`: byte-pair encoding over the letters that GPT-2 writes bytes as,
which its table of ranks and merges are made of (Radford et al. 2019, section 2.2).
"""

import json
from functools import cache
from typing import Any

from ladder.models.tokenizer import END_OF_TEXT, Tokenizer

TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"


def tokenizer_files(tokenizer: Tokenizer, *, context: int) -> dict[str, bytes]:
    """File name to content, for a model of `context` tokens."""
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "unk_token": END_OF_TEXT,
        "model_max_length": context,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
    }
    return {TOKENIZER_FILE: _definition(tokenizer), TOKENIZER_CONFIG_FILE: (json.dumps(config) + "\n").encode()}


@cache
def _definition(tokenizer: Tokenizer) -> bytes:
    """The content of tokenizer.json; made once, since the merges of GPT-2 take a second to find again."""
    ranks = tokenizer.encoding._mergeable_ranks
    tokens = sorted(ranks, key=ranks.__getitem__)
    merges = [f"{_letters(left)} {_letters(right)}" for left, right in map(_Merges(ranks).parts, tokens) if right]
    is_words = bool(merges)  # bytes need no cut into words, since nothing merges
    end = {"id": tokenizer.end_of_text, "content": END_OF_TEXT, "special": True, "normalized": False}
    definition: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "normalizer": None,
        "added_tokens": [end | {"single_word": False, "lstrip": False, "rstrip": False}],
        "pre_tokenizer": _byte_level(use_regex=is_words),
        "post_processor": _byte_level(use_regex=is_words),
        "decoder": _byte_level(use_regex=is_words),
        "model": {
            "type": "BPE",
            "vocab": {_letters(token): ranks[token] for token in tokens} | {END_OF_TEXT: tokenizer.end_of_text},
            "merges": merges,
        },
    }
    return (json.dumps(definition, ensure_ascii=False, separators=(",", ":")) + "\n").encode()


def _byte_level(*, use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": use_regex}


class _Merges:
    """Which two tokens each token was merged from."""

    def __init__(self, ranks: dict[bytes, int]) -> None:
        self.ranks = ranks

    def parts(self, token: bytes) -> tuple[bytes, bytes]:
        """The two tokens that merging by the lower ranks leaves of a token; the token and nothing for a single byte."""
        if len(token) == 1:
            return token, b""
        parts = [bytes([byte]) for byte in token]
        while len(parts) > 2:
            pairs = [
                self.ranks.get(left + right, len(self.ranks)) for left, right in zip(parts, parts[1:], strict=False)
            ]
            place = pairs.index(min(pairs))
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
        return parts[0], parts[1]


@cache
def _alphabet() -> dict[int, str]:
    """A letter for each byte, as GPT-2 has them: itself where it prints, otherwise one from 256 on, in order."""
    printing = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    others = [byte for byte in range(256) if byte not in printing]
    return {byte: chr(byte) for byte in printing} | {byte: chr(256 + n) for n, byte in enumerate(others)}


def _letters(token: bytes) -> str:
    letters = _alphabet()
    return "".join(letters[byte] for byte in token)
