"""The shares are those of an exact set of strings."""

import re
from pathlib import Path

import numpy as np
import pytest
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.store import Corpus, heldout_documents
from ladder.platform.evaluation.registry import find_benchmarks
from ladder.platform.overlap import study as study_module
from ladder.platform.overlap.plan import plan_filling
from ladder.platform.overlap.study import Overlap, Study, study_overlap


def list_ngrams(text: str, n: int) -> list[str]:
    words = [word.lower() for word in re.findall(r"[^\W_]+", text)]
    return [" ".join(words[start : start + n]) for start in range(len(words) - n + 1)]


def training_texts(corpus: Corpus) -> list[str]:
    tokens = corpus.train.read(0, corpus.train.n_tokens)
    parts = np.split(tokens, np.flatnonzero(tokens == 256) + 1)[:-1]
    return [bytes(part[:-1].tolist()).decode() for part in parts]


def study(corpus: Corpus, texts: dict[str, list[str]], n: int, processes: int = 1) -> Study:
    return study_overlap(corpus, texts, plan_filling(corpus, n=n, processes=processes), lambda filled: None)


@pytest.mark.parametrize("n", [1, 3, 8])
def test_counts_are_those_of_an_exact_set_of_strings(
    overlapping_corpus: Corpus, storage: Path, monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    monkeypatch.setattr(study_module, "CHARACTERS_AT_ONCE", 2_000)  # several batches
    exact = {ngram for text in training_texts(overlapping_corpus) for ngram in list_ngrams(text, n)}
    texts = {"heldout": list(heldout_documents(overlapping_corpus))}
    (lambada,) = find_benchmarks(["lambada"])
    assert lambada.texts is not None
    texts["lambada"] = lambada.texts(UPath(storage), overlapping_corpus)
    result = study(overlapping_corpus, texts, n)
    for overlap in result.overlaps:
        slow = [list_ngrams(text, n) for text in texts[overlap.benchmark]]
        assert overlap.ngrams.tolist() == list(map(len, slow))
        assert overlap.found.tolist() == [sum(ngram in exact for ngram in item) for item in slow]
        assert 0 < overlap.found.sum() < overlap.ngrams.sum() or n == 1
    assert result.ngrams == sum(len(list_ngrams(text, n)) for text in training_texts(overlapping_corpus))
    assert result.distinct_ngrams == pytest.approx(len(exact), rel=0.02)
    assert result.rate <= 1e-8


def test_the_training_text_itself_is_found_whole(overlapping_corpus: Corpus) -> None:
    (overlap,) = study(overlapping_corpus, {"own": training_texts(overlapping_corpus)}, 8).overlaps
    assert np.array_equal(overlap.ngrams, overlap.found)
    assert overlap.share is not None and overlap.share.value == 1


def test_an_item_shorter_than_an_ngram_counts_as_having_no_overlap(overlapping_corpus: Corpus) -> None:
    (overlap,) = study(
        overlapping_corpus, {"short": ["one two", "", training_texts(overlapping_corpus)[0]]}, 8
    ).overlaps
    assert overlap.ngrams.tolist()[:2] == overlap.found.tolist()[:2] == [0, 0]
    assert overlap.items_above(0).tolist() == [False, False, True]
    assert overlap.to_json(threshold=0.5, rate=0)["items_without_ngrams"] == 2


def test_shares_pool_the_ngrams_and_average_the_items() -> None:
    overlap = Overlap(benchmark="x", n=8, ngrams=np.array([10, 30, 0, 20]), found=np.array([1, 9, 0, 0]))
    assert overlap.share is not None and overlap.mean_share is not None
    assert overlap.share.value == pytest.approx(10 / 60)
    residuals = np.array([1 - 10 / 6, 9 - 5, 0, 0 - 20 / 6])
    assert overlap.share.standard_error == pytest.approx(np.sqrt(4 / 3 * (residuals**2).sum()) / 60)
    assert overlap.mean_share.value == pytest.approx((0.1 + 0.3 + 0) / 3)
    assert overlap.items_above(0.1).tolist() == [False, True, False, False]


def test_without_any_ngram_there_is_no_share_and_without_items_a_refusal(overlapping_corpus: Corpus) -> None:
    (overlap,) = study(overlapping_corpus, {"short": ["one"]}, 8).overlaps
    assert overlap.share is None and overlap.mean_share is None
    assert overlap.to_json(threshold=0.5, rate=0)["share"] is None
    with pytest.raises(InputError, match="benchmark none has no item"):
        study(overlapping_corpus, {"none": []}, 8)
