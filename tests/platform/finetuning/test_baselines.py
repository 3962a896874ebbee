"""What words alone tell."""

import json
from pathlib import Path

import pytest
from upath import UPath

from ladder.models.sizes import parse_size
from ladder.platform.finetuning.baselines import Bag, baseline_answers, constant_answers
from ladder.platform.finetuning.registry import TASKS
from ladder.platform.finetuning.task import Example, read_split
from ladder.sweeps.finetuning import FineTuning, FineTuningRun


def test_words_that_tell_the_label_are_found_and_kept(data: Path, tmp_path: Path) -> None:
    run = FineTuningRun(
        size=parse_size("2x32", context=48, vocabulary=257),
        tokenizer="bytes",
        checkpoint=None,
        task="sst2",
        data="d" * 64,
        recipe=FineTuning(lr_peak=1.0, layers="nothing"),
    )
    storage = UPath(tmp_path / "storage")
    found = baseline_answers(run, TASKS["sst2"], data=str(data), storage=storage)
    labels = [example.label for example in read_split(TASKS["sst2"], UPath(data), "dev")]
    assert found["bag_of_words"]["dev"] == labels
    assert set(found["all_positive"]["dev"]) == {1.0} and len(set(found["majority"]["dev"])) == 1
    (path,) = (tmp_path / "storage" / "finetuning" / "baselines").iterdir()
    path.write_text(json.dumps({"majority": {"dev": [0.25]}}))
    again = baseline_answers(run, TASKS["sst2"], data="nowhere", storage=storage)
    assert again == {"majority": {"dev": [0.25]}}


def test_constant_answers_are_the_commonest_the_positive_and_the_mean() -> None:
    assert constant_answers(TASKS["mrpc"], [0, 0, 1]) == {"majority": 0.0, "all_positive": 1.0}
    assert constant_answers(TASKS["race"], [3, 3, 1]) == {"majority": 3.0}
    assert constant_answers(TASKS["snli"], [2, 2, 1]) == {"majority": 2.0}
    assert constant_answers(TASKS["stsb"], [0.0, 5.0]) == {"majority": 2.5}


def test_pairs_options_and_numbers_are_judged_too() -> None:
    pairs = [Example(texts=(f"w{n}", f"w{n if n % 2 else n + 1}"), label=n % 2) for n in range(60)]
    assert (Bag(TASKS["mrpc"], pairs).predict(pairs) == [n % 2 for n in range(60)]).all()
    questions = [
        Example(texts=("story", "", *((" good", " bad") if n % 2 else (" bad", " good"))), label=1 - n % 2)
        for n in range(20)
    ]
    assert (Bag(TASKS["copa"], questions).predict(questions) == [1 - n % 2 for n in range(20)]).all()
    scores = [Example(texts=(f"a{n % 6}", "b"), label=float(n % 6)) for n in range(120)]
    assert abs(Bag(TASKS["stsb"], scores).predict(scores) - [n % 6 for n in range(120)]).max() < 0.5


def test_a_bag_of_words_on_real_phrases_of_sst2_has_three_sentences_of_four_right(shared: Path) -> None:
    """6,000 phrases: 75.9 with another draw of them; four standard errors over the 872 sentences."""
    task, folder = TASKS["sst2"], UPath(shared / "finetuning")
    train, dev = read_split(task, folder, "train")[::11][:6000], read_split(task, folder, "dev")
    predictions = Bag(task, train).predict(dev)
    right = sum(a == example.label for a, example in zip(predictions, dev, strict=True)) / len(dev)
    assert right == pytest.approx(0.759, abs=4 * (0.759 * 0.241 / 872) ** 0.5)
