"""CoLA by a threshold from the train split, and the pronouns of Rahman and Ng: real files, arithmetic, chance."""

from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.sizes import parse_size
from ladder.models.tokenizer import load_tokenizer
from ladder.platform.evaluation.benchmarks.gpt1 import cola, dprd
from ladder.platform.evaluation.evaluate import evaluate
from ladder.platform.evaluation.files.published import sha256_of


@pytest.mark.parametrize("seed", range(5))
def test_numbers_are_those_of_scikit_learn(seed: int) -> None:
    draw = np.random.default_rng(seed)
    labels = (draw.random(200) < 0.7).astype(float)
    values = np.round(labels + draw.normal(0, 2, 200), 1)  # with ties
    hits = (values > 0.5).astype(float)
    assert cola.coefficient(hits, labels) == pytest.approx(metrics.matthews_corrcoef(labels, hits), abs=1e-12)
    assert cola.estimate_area(values, labels).value == pytest.approx(metrics.roc_auc_score(labels, values), abs=1e-12)
    found = cola.coefficient((values > cola.best_threshold(values, labels)).astype(float), labels)
    every = [cola.coefficient((values > one).astype(float), labels) for one in np.unique(values)[:-1]]
    assert found == pytest.approx(max(every), abs=1e-12)


def test_standard_errors_are_the_scatter_of_other_samples() -> None:
    draw = np.random.default_rng(9)
    found, errors = [], []
    for _ in range(300):
        labels = (draw.random(150) < 0.7).astype(float)
        values = labels + draw.normal(0, 1.5, 150)
        estimates = (cola.estimate_area(values, labels), cola.estimate_coefficient((values > 0.5) * 1.0, labels))
        found.append([one.value for one in estimates])
        errors.append([one.standard_error for one in estimates])
    assert np.mean(errors, axis=0) == pytest.approx(np.std(found, axis=0), rel=0.12)


def test_one_answer_for_all_is_zero() -> None:
    assert cola.estimate_coefficient(np.ones(9), np.arange(9) % 2.0).value == 0.0


def write_cola(storage: Path, *, dev: str, train: str) -> None:
    folder = storage / "benchmarks" / "cola"
    folder.mkdir(parents=True)
    (folder / "dev.tsv").write_text(dev)
    (folder / "train.tsv").write_text(train)


def test_real_sentences_of_an_untrained_model_are_at_chance(shared: Path, tmp_path: Path) -> None:
    """Step 0 of a curve over training: the first 300 sentences of the dev split, the threshold of 600 others."""
    raw = shared / "benchmarks" / "cola" / "raw"
    lines = [(raw / f"in_domain_{split}.tsv").read_text().splitlines() for split in ("dev", "train")]
    write_cola(tmp_path, dev="\n".join(lines[0][:300]) + "\n", train="\n".join(lines[1][::14][:600]) + "\n")
    model = GPT2(parse_size("1x16h1", context=96, vocabulary=257), seed=0)
    scores = evaluate(model, load_tokenizer("bytes"), ["cola"], storage=UPath(tmp_path))
    assert [(score.metric, score.chance, score.count) for score in scores] == [("mcc", 0.0, 300), ("auc", 0.5, 300)]
    for score in scores:
        assert score.standard_error is not None and score.chance is not None
        assert abs(score.value - score.chance) <= 4 * score.standard_error


@pytest.mark.parametrize("line", ["gj04\t2\t\tText.", "gj04\t1\tText.", "gj04\t1\t\t "])
def test_a_wrong_line_of_cola_is_named(tmp_path: Path, line: str) -> None:
    path = UPath(tmp_path / "dev.tsv")
    path.write_text(f"gj04\t1\t\tRight.\n{line}\n")
    with pytest.raises(InputError, match="line 2: wanted source, 0 or 1, mark and sentence"):
        cola.read_sentences(path)


def test_the_real_pronouns_are_564_questions(shared: Path) -> None:
    path = UPath(shared / "finetuning" / "DPRD" / "test.c.txt")
    assert sha256_of(path) == dprd.FILE.sha256
    questions = dprd.read_questions(path)
    assert len(questions) == 564
    first = questions[0]
    assert first.solved == "The sniper shot the terrorist because the terrorist was a bad guy."
    assert [choice.rest for choice in first.choices] == [" was a bad guy."] * 2
    assert first.choices[0].text == " the sniper" and first.answer == 1
    assert sum(question.answer for question in questions) in range(230, 335), "neither candidate is always right"


def test_an_untrained_model_resolves_pronouns_at_chance(shared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "benchmarks" / "dprd"
    folder.mkdir(parents=True)
    (folder / "test.c.txt").write_bytes((shared / "finetuning" / "DPRD" / "test.c.txt").read_bytes())
    model = GPT2(parse_size("1x16h1", context=160, vocabulary=257), seed=0)
    (score,) = evaluate(model, load_tokenizer("bytes"), ["dprd"], storage=UPath(tmp_path))
    assert score.count == 564 and score.chance == 0.5 and score.standard_error is not None
    assert abs(score.value - 0.5) <= 4 * score.standard_error


def item(*lines: str) -> bytes:
    return "".join(line + "\n" for line in (*lines, "")).encode()


def test_the_pronoun_is_the_first_one_after_both_candidates(tmp_path: Path) -> None:
    path = UPath(tmp_path / "test.c.txt")
    path.write_bytes(item("It hurt the cat when it hit the tree.", "it", "the cat,the tree", "the cat"))
    assert dprd.read_questions(path)[0].context == "It hurt the cat when"
    path.write_bytes(item("Ann met Sue and took her bag.", "her", "Ann,Sue", "sue"))
    assert [choice.text for choice in dprd.read_questions(path)[0].choices] == [" Ann's", " Sue's"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("Ann met Sue.", "she", "Ann,Sue", "Ann"), "line 1: wanted a sentence, a pronoun in it, two candidates"),
        (("Ann saw her go.", "her", "Ann", "Ann"), "line 1: wanted a sentence, a pronoun in it, two candidates"),
        (("Ann saw her go.", "her", "Ann,Sue", "Eve"), "line 4: wanted one of 'Ann,Sue' as the answer, got 'Eve'"),
        (("Ann saw her", "her", "Ann,Sue", "Sue"), "line 1: wanted text after her"),
    ],
)
def test_a_wrong_item_of_pronouns_is_named(tmp_path: Path, lines: tuple[str, ...], message: str) -> None:
    path = UPath(tmp_path / "test.c.txt")
    path.write_bytes(item(*lines))
    with pytest.raises(InputError, match=message):
        dprd.read_questions(path)
