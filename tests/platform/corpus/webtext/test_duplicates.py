import json
import random
from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.documents import read_documents
from ladder.platform.corpus.webtext import clusters
from ladder.platform.corpus.webtext.clusters import candidate_pairs, find_clusters
from ladder.platform.corpus.webtext.duplicates import DuplicateOptions, find_duplicates
from ladder.platform.corpus.webtext.engine import Execution
from ladder.platform.corpus.webtext.links import LinkOptions, find_links
from ladder.platform.corpus.webtext.pages import PageInputs, find_pages
from ladder.platform.corpus.webtext.shingles import BANDS, ROWS, band_keys, hash_shingles, jaccard
from ladder.platform.corpus.webtext.stages import read_table
from ladder.platform.corpus.webtext.text import TextOptions, extract_texts

WORDS = [f"w{n}" for n in range(2000)]


def shingles_of(text: str) -> set[tuple[str, ...]]:
    words = text.lower().split()
    return {tuple(words[start : start + 5]) for start in range(max(1, len(words) - 4))} if words else set()


def similarity(one: str, other: str) -> float:
    first, second = shingles_of(one), shingles_of(other)
    return len(first & second) / len(first | second) if first | second else 0.0


@given(st.lists(st.sampled_from("abcde"), max_size=40), st.lists(st.sampled_from("abcde"), max_size=40))
@settings(max_examples=150, deadline=None)
def test_similarity_is_that_of_sets_of_word_5_grams(one: list[str], other: list[str]) -> None:
    first, second = " ".join(one), " ".join(other)
    assert jaccard(hash_shingles(first), hash_shingles(second)) == pytest.approx(similarity(first, second))


def test_keys_do_not_change_from_version_to_version() -> None:
    # A fingerprint rests on them. These were computed once by plain integers, as shingles.py describes.
    text = "The quick brown fox jumps over the lazy dog"
    assert sorted(map(int, hash_shingles(text))) == plain_shingles(text)
    assert list(map(int, band_keys(hash_shingles(text)))) == plain_keys(plain_shingles(text))


MASK = (1 << 64) - 1
KNUTH = 6364136223846793005


def plain_mix(value: int) -> int:
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def plain_shingles(text: str) -> list[int]:
    import hashlib

    hashes = [
        int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
        for word in text.lower().split()
    ]
    found = set()
    for start in range(len(hashes) - 4):
        value = sum(word * pow(KNUTH, 4 - place, 1 << 64) for place, word in enumerate(hashes[start : start + 5]))
        found.add(plain_mix(value & MASK))
    return sorted(found)


def plain_keys(shingles: list[int]) -> list[int]:
    n = BANDS * ROWS
    drawn = [plain_mix((number * 0x9E3779B97F4A7C15) & MASK) for number in range(1, 2 * n + 1)]
    minima = [min(((drawn[i] | 1) * value + drawn[n + i]) & MASK for value in shingles) for i in range(n)]
    keys = []
    for band in range(BANDS):
        key = 0
        for row in range(ROWS):
            key = plain_mix((key * KNUTH + minima[band * ROWS + row]) & MASK)
        keys.append(key)
    return keys


def test_keys_meet_as_often_as_the_formula_says() -> None:
    # 1 - (1 - s^6)^20 at s = 1/3 to 3/4; within three standard errors of 300 pairs.
    draw = random.Random(1)
    for changed, trials in [(400, 150), (150, 150)]:
        met, expected = 0, 0.0
        for _ in range(trials):
            words = draw.choices(WORDS, k=1000)
            other = words[:-changed] + draw.choices(WORDS, k=changed)
            first, second = hash_shingles(" ".join(words)), hash_shingles(" ".join(other))
            met += bool((band_keys(first) == band_keys(second)).any())
            expected += 1 - (1 - jaccard(first, second) ** ROWS) ** BANDS
        spread = (expected * (1 - expected / trials)) ** 0.5
        assert abs(met - expected) <= 3 * spread + 1, (changed, met, expected)


@given(
    st.lists(st.lists(st.integers(0, 4), min_size=9, max_size=9), min_size=1, max_size=3),
    st.randoms(use_true_random=False),
)
@settings(max_examples=60, deadline=None)
def test_candidates_are_all_pairs_that_share_a_key(bands: list[list[int]], draw: random.Random) -> None:
    keys = [np.array(band, dtype=np.uint64) for band in bands]
    of_rank = np.array(draw.sample(range(9), 9))
    expected = sorted(
        (i, j) for i, j in combinations(range(9), 2) if any(band[of_rank[i]] == band[of_rank[j]] for band in keys)
    )
    assert list(map(tuple, candidate_pairs(keys, of_rank).tolist())) == expected


def test_a_bucket_of_boilerplate_costs_no_more_than_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "NEIGHBOURS", 3)
    pairs = candidate_pairs([np.zeros(50, dtype=np.uint64)])
    assert len(pairs) == 49 + 48 + 47 + 46  # three behind each, and the best with the others
    assert set(find_clusters(50, pairs)) == {0}


def test_clusters_are_what_pairs_connect() -> None:
    pairs = np.array([[0, 3], [3, 5], [1, 2]])
    assert find_clusters(7, pairs).tolist() == [0, 1, 1, 0, 4, 0, 6]
    assert find_clusters(3, pairs[:0]).tolist() == [0, 1, 2]


def run_stages(folder: UPath, texts: UPath, here: Execution, threshold: float | None) -> dict[str, object]:
    planned = find_pages(folder / "pages", None, None, PageInputs(pages=[texts]), here)
    extracted = extract_texts(folder / "text", folder / "pages", planned, TextOptions(), here)
    return find_duplicates(folder / "duplicates", folder / "text", extracted, DuplicateOptions(threshold=threshold))


@pytest.fixture(scope="module")
def mdn(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> UPath:
    """The archived MDN pages through the stages, once."""
    folder = UPath(tmp_path_factory.mktemp("mdn"))
    run_stages(folder, UPath(shared / "corpora" / "mdn-archive.jsonl.zst"), Execution(workers=2, progress=False), 0.8)
    return folder


@pytest.mark.slow
def test_of_the_mdn_pages_147_are_near_duplicates(mdn: UPath, shared: Path) -> None:
    counts = json.loads((mdn / "duplicates" / "stage.json").read_text())["counts"]
    assert counts["exact"] + counts["near"] == 147
    texts = [document.text for document in read_documents([shared / "corpora" / "mdn-archive.jsonl.zst"])]
    shingles = [hash_shingles(text) for text in texts]
    removed = read_table(mdn / "duplicates" / "part-00000.parquet")
    assert len(removed) == 147 and not set(removed["survivor"]) & set(removed["number"])
    # The truth, without MinHash: the pairs that share a shingle that few texts have, and all their similarities.
    alike = brute_force_pairs(shingles, 0.8)
    assert len(alike) == 293  # WEBTEXT.md, section 3.1
    keys = np.stack([band_keys(one) for one in shingles])
    found = set(map(tuple, candidate_pairs([keys[:, band] for band in range(BANDS)]).tolist()))
    assert len(alike & found) >= 0.98 * len(alike)
    gone = set(removed["number"])
    left = {pair for pair in alike if not gone & set(pair)}
    assert left == set()  # so no pair can be across the split, however it is drawn


def brute_force_pairs(shingles: list[np.ndarray], least: float) -> set[tuple[int, int]]:
    """Pairs of at least this similarity by prefix filtering, which is exact (Chaudhuri, Ganti and Kaushik 2006).

    With shingles in the order of their frequency, two sets of similarity t share one of the first
    (1 - t) |A| + 1 shingles of each.
    """
    every = np.concatenate(shingles)
    values, counts = np.unique(every, return_counts=True)
    buckets: dict[int, list[int]] = {}
    pairs = set()
    for number, own in enumerate(shingles):
        rare = own[np.argsort(counts[np.searchsorted(values, own)], kind="stable")]
        # Ties of frequency are broken by value, the order of `own`, the same for all sets.
        for value in rare[: int((1 - least) * len(own)) + 1].tolist():
            for other in buckets.setdefault(value, []):
                pairs.add((other, number))
            buckets[value].append(number)
    return {pair for pair in pairs if jaccard(shingles[pair[0]], shingles[pair[1]]) >= least}


def write_texts(path: UPath, texts: dict[str, str]) -> UPath:
    path.write_text("".join(json.dumps({"url": url, "text": text}) + "\n" for url, text in texts.items()))
    return path


def test_the_best_of_a_cluster_stays_whatever_the_order(tmp_path: Path, here: Execution) -> None:
    draw = random.Random(2)
    base = draw.choices(WORDS, k=300)
    near = [*base[:-8], *draw.choices(WORDS, k=8)]
    half = [*base[:150], *draw.choices(WORDS, k=150)]
    texts = {
        "http://b.example/equal": " ".join(base),
        "http://a.example/equal": "  \n".join(base),
        "http://c.example/near": " ".join(near),
        "http://d.example/half": " ".join(half),
        "http://e.example/other": " ".join(draw.choices(WORDS, k=300)),
    }
    # With equal scores the smallest URL stays; a higher score goes before any URL.
    for best, scores in {"a.example/equal": {}, "c.example/near": {"http://c.example/near": 9}}.items():
        for order in (list(texts), list(texts)[::-1]):
            folder = UPath(tmp_path / f"{best[0]}{order[0][7]}")
            file = write_texts(UPath(tmp_path / "texts.jsonl"), {url: texts[url] for url in order})
            links = UPath(tmp_path / "RS.jsonl")
            links.write_text(
                "".join(json.dumps({"url": url, "score": scores.get(url, 5), "created_utc": 1}) + "\n" for url in order)
            )
            linked = find_links(folder / "links", [links], [], LinkOptions(), here)
            planned = find_pages(folder / "pages", folder / "links", linked, PageInputs(pages=[file]), here)
            extracted = extract_texts(folder / "text", folder / "pages", planned, TextOptions(), here)
            done = find_duplicates(folder / "duplicates", folder / "text", extracted, DuplicateOptions())
            rows = read_table(folder / "text" / "part-00000.parquet")
            removed = read_table(folder / "duplicates" / "part-00000.parquet")
            gone = {rows["key"][number] for number in removed["number"]}
            assert {rows["key"][number] for number in removed["survivor"].unique()} <= {best, "a.example/equal"}
            assert gone == {"a.example/equal", "b.example/equal", "c.example/near"} - {best}
            assert (done["counts"]["exact"], done["counts"]["near"], done["counts"]["kept"]) == (1, 1, 3)
            assert done["examples"][0]["similarity"] == pytest.approx(
                similarity(texts["http://a.example/equal"], texts["http://c.example/near"])
            )


def test_a_threshold_is_checked_and_none_leaves_near_ones(tmp_path: Path, here: Execution) -> None:
    draw = random.Random(3)
    base = draw.choices(WORDS, k=300)
    texts = {f"http://{n}.example/": " ".join([*base[: -5 * n - 1], *draw.choices(WORDS, k=5 * n)]) for n in range(8)}
    file = write_texts(UPath(tmp_path / "texts.jsonl"), texts)
    removed = {}
    for threshold in (None, 0.95, 0.8, 0.5):
        done = run_stages(UPath(tmp_path / "run"), file, here, threshold)
        removed[threshold] = done["counts"].get("near", 0)  # type: ignore[attr-defined]
        if threshold is not None:
            pairs = read_table(UPath(tmp_path / "run" / "duplicates" / "pairs.parquet"))
            for number, other, given_similarity in pairs.rows():
                exact = similarity(list(texts.values())[number], list(texts.values())[other])
                assert given_similarity == pytest.approx(exact)
            assert done["counts"]["pairs"] == len(pairs.filter(pl.col("similarity") >= threshold))  # type: ignore[index]
    assert removed[None] == 0 < removed[0.95] <= removed[0.8] <= removed[0.5] == 7
    with pytest.raises(InputError, match=r"got a near-duplicate threshold of 0.3, wanted 0.5 to 1"):
        DuplicateOptions(threshold=0.3)
