"""WMT-14: the real files, the prompt, BLEU against sacrebleu's own, and bad files."""

import random
from pathlib import Path

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.tokenizer import load_tokenizer
from ladder.platform.evaluation.benchmarks.gpt2 import wmt14
from ladder.platform.evaluation.benchmarks.gpt2.wmt14 import (
    ANSWER_TOKENS,
    WMT14,
    Pair,
    bleu_of,
    first_sentence,
    is_translated,
    make_prompt,
    read_examples,
    read_pairs,
    sentence_statistics,
)
from ladder.platform.evaluation.evaluate import evaluate
from ladder.platform.evaluation.kinds.generation import Answer
from ladder.platform.evaluation.protocol import Protocol

PAIRS = [Pair(source=f"English {i}.", target=f"Francais {i}.") for i in range(9)]


def install(storage: Path, english: bytes, french: bytes) -> UPath:
    folder = UPath(storage) / "benchmarks" / "wmt14"
    folder.mkdir(parents=True)
    (folder / "newstest2014.en").write_bytes(english)
    (folder / "newstest2014.fr").write_bytes(french)
    for language, name in (("en", "Example"), ("fr", "Exemple")):
        segments = "".join(f'<seg id="{i}">{name} {i}.</seg>\n' for i in range(6))
        document = f'<srcset setid="newstest2013">\n<doc>\n<p>\n{segments}</p>\n</doc>\n</srcset>\n'
        (folder / f"newstest2013-src.{language}.sgm").write_text(document)
    return folder


def garble(lines: list[str], seed: int) -> list[str]:
    """Lines with some words left out, so that no two have the same score."""
    draw = random.Random(seed)
    return [" ".join(word for word in line.split() if draw.random() < 0.8) for line in lines]


def test_the_real_files_hold_3003_pairs_whose_translations_fit(shared: Path, gpt2_vocabulary: None) -> None:
    pairs = read_pairs(UPath(shared / "benchmarks" / "wmt14_fr_en"))
    assert len(pairs) == 3003
    assert pairs[0] == Pair(
        source="Spectacular Wingsuit Jump Over Bogota", target='Spectaculaire saut en "wingsuit" au-dessus de Bogota'
    )
    lengths = [len(tokens) for tokens in load_tokenizer("gpt2").encode_batch([" " + pair.target for pair in pairs])]
    assert max(lengths) + 1 <= ANSWER_TOKENS


def test_line_ends_of_other_systems_are_no_part_of_a_sentence(tmp_path: Path) -> None:
    folder = install(tmp_path, b"Bye.\r\nHi.\r\n", b"Adieu.\r\nSalut.\r\n")
    assert make_prompt(read_pairs(folder)[:1], read_pairs(folder)[1]) == "Bye. = Adieu.\nHi. ="


def test_the_prompt_is_solved_pairs_and_the_sentence() -> None:
    assert make_prompt(PAIRS[:1], PAIRS[1]) == "English 0. = Francais 0.\nEnglish 1. ="


def test_examples_are_the_segments_of_the_year_before(tmp_path: Path) -> None:
    folder = install(tmp_path, b"English.\n", b"Francais.\n")
    pairs = read_examples(folder)
    assert len(pairs) == 6
    assert pairs[2] == Pair(source="Example 2.", target="Exemple 2.")
    (folder / "newstest2013-src.fr.sgm").write_text('<seg id="1">Un.</seg>\n')
    with pytest.raises(InputError, match="newstest2013-src.en.sgm has 6 lines and newstest2013-src.fr.sgm 1"):
        read_examples(folder)
    (folder / "newstest2013-src.en.sgm").write_text("English.\n")
    with pytest.raises(InputError, match="newstest2013-src.en.sgm holds no <seg>"):
        read_examples(folder)


def test_the_translation_is_the_first_sentence_of_the_line() -> None:
    assert first_sentence(" Bonjour. Au revoir.\nEncore") == "Bonjour."
    assert first_sentence(" Bonjour") == "Bonjour"
    assert first_sentence("\nBonjour") == ""
    assert [is_translated(text) for text in (" Bon", " Bon.", " Bon. ", " Bon. A", " Bon\n")] == [0, 0, 0, 1, 1]


def test_bleu_of_all_and_of_some_is_that_of_sacrebleu(shared: Path) -> None:
    references = [pair.target for pair in read_pairs(UPath(shared / "benchmarks" / "wmt14_fr_en"))[:400]]
    translations = ["", *garble(references, 1)[1:]]
    estimate = bleu_of(sentence_statistics(translations, references))
    for kept in (np.arange(400), np.arange(0, 400, 3), np.array([5])):
        chosen = [[texts[index] for index in kept] for texts in (translations, references)]
        assert estimate(kept).value == pytest.approx(BLEU().corpus_score(chosen[0], [chosen[1]]).score, abs=1e-9)
    assert estimate(np.array([5])).standard_error is None
    own = BLEU().corpus_score(translations, [references], n_bootstrap=1000)
    assert estimate(np.arange(400)).standard_error == pytest.approx(own._ci / 1.96, rel=0.15)
    assert estimate(np.arange(400)) == estimate(np.arange(400))


def test_scores_are_those_of_known_translations(
    byte_gpt2: GPT2, tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = read_pairs(UPath(shared / "benchmarks" / "wmt14_fr_en"))[:20]
    english, french = [pair.source for pair in pairs], [pair.target for pair in pairs]
    install(tmp_path, "".join(f"{x}\n" for x in english).encode(), "".join(f"{x}\n" for x in french).encode())
    asked: list[list[str]] = []

    def write(setting: object, prompts: list[str], **options: object) -> list[Answer]:
        right = garble(english if not asked else french, 3)
        asked.append(prompts)
        return [Answer(text=f" {text}\nmore", nats=1.0, n_tokens=7, cut=False) for text in right[: len(prompts)]]

    monkeypatch.setattr(wmt14, "write_answers", write)
    protocol = Protocol(limit=15, shots=3, seed=1)
    to_english, to_french = evaluate(
        byte_gpt2, load_tokenizer("bytes"), ["wmt14"], storage=UPath(tmp_path), protocol=protocol
    )
    for prompts, lines, example in zip(asked, (french, english), ("Exemple", "Example"), strict=True):
        assert prompts[4].endswith(f"\n{lines[4]} =")
        assert prompts[4].startswith(example) and prompts[4].count(" = ") == 3
    assert (to_english.metric, to_french.metric) == ("bleu_fr_en", "bleu_en_fr")
    for measured, lines in ((to_english, english), (to_french, french)):
        translations = [first_sentence(line) for line in garble(lines, 3)[:15]]
        assert measured.value == pytest.approx(BLEU().corpus_score(translations, [lines[:15]]).score, abs=1e-9)
        assert measured.count == 15
        assert "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:" in measured.protocol
    assert to_english.paper_scores == {"1542M": 11.5}


def test_a_small_model_is_scored_both_ways(byte_gpt2: GPT2, tmp_path: Path) -> None:
    lines = [b"".join(b"%s %d.\n" % (word, i) for i in range(6)) for word in (b"English", b"Francais")]
    install(tmp_path, *lines)
    measured = evaluate(
        byte_gpt2, load_tokenizer("bytes"), ["wmt14"], storage=UPath(tmp_path), protocol=Protocol(limit=2, shots=1)
    )
    assert [m.metric for m in measured] == ["bleu_fr_en", "bleu_en_fr"]
    assert all(0 <= m.value < 50 for m in measured)


@pytest.mark.parametrize(
    ("english", "french", "complaint"),
    [
        (b"a\nb\n", b"a\n", "newstest2014.en has 2 lines and newstest2014.fr 1"),
        (b"a\n\nc\n", b"a\nb\nc\n", "newstest2014.en, line 2: wanted a sentence"),
        (b"a\nb\n", b"a\n\xff\n", "newstest2014.fr, line 2: not UTF-8"),
        (b"", b"a\n", "newstest2014.en is empty"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, english: bytes, french: bytes, complaint: str) -> None:
    folder = install(tmp_path, english, french)
    with pytest.raises(InputError, match=complaint):
        read_pairs(folder)


def test_its_files_are_the_two_languages() -> None:
    assert [file.name for file in WMT14.files] == ["newstest2014.en", "newstest2014.fr"]
