"""Texts as sets of hashed word 5-grams, their Jaccard similarity, and MinHash keys for finding similar pairs.

A word is a run of `\\w` of the lower-cased text; a text of fewer than five words is one shingle. A word's hash is 64
bits of BLAKE2b; a shingle's is a polynomial of its words' hashes, mixed by the finalizer of splitmix64 (Steele, Lea
and Flood 2014). MinHash takes the least of a_i * h + b_i mod 2^64 over the shingles, a_i odd and b_i drawn from
splitmix64's own sequence: published constants only, since no fingerprint may rest on a library's hash. BANDS keys of
ROWS minima each meet for a pair of similarity s with probability 1 - (1 - s^ROWS)^BANDS: .998 at .8, .27 at .5.
"""

import functools
import hashlib
import re

import numpy as np
import numpy.typing as npt

NGRAM = 5
BANDS = 20
ROWS = 6
WORDS_KEPT = 1 << 20
"""Distinct words after which the table of their hashes is begun anew: about 150 MB."""
_MINIMA_AT_ONCE = 512
"""Shingles whose hashes are multiplied at once: 512 times 120 numbers stay in the processor's cache."""

Hashes = npt.NDArray[np.uint64]
_WORD = re.compile(r"\w+")
_MULTIPLIER = 6364136223846793005
"""Of Knuth's generator MMIX (The Art of Computer Programming, 3.3.4)."""
_POWERS = [np.uint64(pow(_MULTIPLIER, NGRAM - 1 - place, 1 << 64)) for place in range(NGRAM)]


class _WordHashes(dict[str, int]):
    def __missing__(self, word: str) -> int:
        if len(self) >= WORDS_KEPT:
            self.clear()
        data = word.encode("utf-8", "surrogatepass")
        self[word] = value = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
        return value


_word_hashes = _WordHashes()


def hash_shingles(text: str) -> Hashes:
    """The set of a text's shingles as sorted hashes, uint64 [shingles]; empty for a text without a word."""
    words = _WORD.findall(text.lower())
    if not words:
        return np.empty(0, dtype=np.uint64)
    # One call for all words: a generator would cost twice as much.
    hashes = np.fromiter(map(_word_hashes.__getitem__, words), dtype=np.uint64, count=len(words))
    n = min(NGRAM, len(hashes))
    shingles = np.zeros(len(hashes) - n + 1, dtype=np.uint64)
    for place in range(n):
        shingles += hashes[place : place + len(shingles)] * _POWERS[place]
    mixed: Hashes = np.unique(_mix(shingles))
    return mixed


def jaccard(one: Hashes, other: Hashes) -> float:
    """Shared shingles over all shingles of two texts, 0 to 1; 0 where both are empty."""
    shared = len(np.intersect1d(one, other, assume_unique=True))
    union = len(one) + len(other) - shared
    return shared / union if union else 0.0


def band_keys(shingles: Hashes) -> Hashes:
    """One key for each band, uint64 [BANDS]: equal keys of a band say that two texts may be similar."""
    minima = np.full(BANDS * ROWS, np.iinfo(np.uint64).max, dtype=np.uint64)
    multipliers, offsets = _coefficients()
    for start in range(0, len(shingles), _MINIMA_AT_ONCE):
        part = shingles[start : start + _MINIMA_AT_ONCE]
        values = multipliers[:, None] * part[None, :]  # [bands * rows, shingles]
        values += offsets[:, None]
        np.minimum(minima, values.min(axis=1), out=minima)
    rows = minima.reshape(BANDS, ROWS)
    keys = np.zeros(BANDS, dtype=np.uint64)
    for row in range(ROWS):
        keys = _mix(keys * np.uint64(_MULTIPLIER) + rows[:, row])
    return keys


@functools.cache
def _coefficients() -> tuple[Hashes, Hashes]:
    # splitmix64 from state 0: its n-th output mixes n times the golden ratio.
    n = 2 * BANDS * ROWS
    outputs = _mix(np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    return outputs[: n // 2] | np.uint64(1), outputs[n // 2 :]


def _mix(values: Hashes) -> Hashes:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
