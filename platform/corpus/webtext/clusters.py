"""From MinHash keys to pairs that may be similar, and from verified pairs to clusters: numbers only, no text.

Documents are numbered by rank, the best first, so that within a bucket of equal keys the best comes first too. A
bucket of at most NEIGHBOURS documents gives all its pairs; in a larger one each document is paired with the
NEIGHBOURS behind it and with the best, which bounds the work for boilerplate that fills a bucket by the million.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

NEIGHBOURS = 64
Numbers = npt.NDArray[np.int64]


def candidate_pairs(bands: Iterable[npt.NDArray[np.uint64]], of_rank: Numbers | None = None) -> Numbers:
    """Pairs (i < j) that share a key in any band, each once, sorted, int64 [pairs, 2].

    `bands` holds, one band after the other, each document's key; with `of_rank`, the document at each rank, keys are
    those of the documents in their own order and pairs are ranks. Memory: about 40 bytes a document and 16 a pair.
    """
    pairs = np.empty(0, dtype=np.uint64)
    for keys in bands:
        found = _pairs_of_band(keys if of_rank is None else keys[of_rank])
        pairs = np.union1d(pairs, found) if len(pairs) else np.unique(found)
    return np.stack([pairs >> np.uint64(32), pairs & np.uint64(0xFFFFFFFF)], axis=1).astype(np.int64)


def find_clusters(n: int, pairs: Numbers) -> Numbers:
    """The smallest number of each document's cluster, int64 [n]: clusters are what pairs connect."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(len(pairs), dtype=np.int8), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    _, labels = connected_components(graph, directed=False)
    first = np.full(int(labels.max()) + 1 if n else 0, n, dtype=np.int64)
    np.minimum.at(first, labels, np.arange(n, dtype=np.int64))
    clusters: Numbers = first[labels]
    return clusters


def _pairs_of_band(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The pairs of one band as i * 2^32 + j."""
    assert len(keys) < 1 << 32, "documents are numbered by 32 bits here"
    order = np.argsort(keys, kind="stable").astype(np.uint32)  # stable: within a bucket by rank
    ordered = keys[order]
    shared = np.zeros(len(keys), dtype=bool)
    shared[1:] = ordered[1:] == ordered[:-1]
    shared[:-1] |= shared[1:]
    order, ordered = order[shared], ordered[shared]  # most documents share no key, and are done
    found: list[npt.NDArray[np.uint64]] = []
    for distance in range(1, NEIGHBOURS + 1):
        same = ordered[distance:] == ordered[:-distance]
        if not same.any():
            return np.concatenate(found) if found else np.empty(0, dtype=np.uint64)
        found.append(_encode(order[:-distance][same], order[distance:][same]))
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    sizes = np.diff(np.append(starts, len(ordered)))
    best = np.repeat(order[starts], sizes)
    others = best != order
    found.append(_encode(best[others], order[others]))
    return np.concatenate(found)


def _encode(first: npt.NDArray[np.uint32], second: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint64]:
    return (first.astype(np.uint64) << np.uint64(32)) | second.astype(np.uint64)
