"""Published files of each task: how many examples they hold, and which label a known row has."""

import tarfile
from io import BytesIO
from pathlib import Path

import pytest
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.finetuning.registry import TASKS, find_tasks
from ladder.platform.finetuning.task import Example, read_split

FINETUNING = {
    ("sst2", "train"): 67_349,
    ("sst2", "dev"): 872,
    ("mrpc", "train"): 3668,
    ("mrpc", "dev"): 408,
    ("wnli", "train"): 635,
    ("wnli", "dev"): 71,
    ("snli", "dev"): 9842,
}
BENCHMARKS = {
    ("cola", "train"): 8551,
    ("cola", "dev"): 1043,
    ("rte", "train"): 2490,
    ("rte", "dev"): 277,
    ("qnli", "dev"): 5463,
    ("stsb", "train"): 5749,
    ("stsb", "dev"): 1500,
    ("copa", "train"): 500,
    ("copa", "dev"): 500,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "SST-2").mkdir()
    return tmp_path


@pytest.mark.parametrize(("task", "split"), [*FINETUNING, *BENCHMARKS])
def test_real_files_hold_as_many_examples_as_are_published(shared: Path, task: str, split: str) -> None:
    place = "finetuning" if (task, split) in FINETUNING else "benchmarks"
    examples = read_split(TASKS[task], UPath(shared / place), split)
    assert len(examples) == (FINETUNING | BENCHMARKS)[task, split] == TASKS[task].counts[split]


@pytest.mark.parametrize(("split", "count"), [("dev", 4887), ("train", 11_287)])
def test_real_race_is_read_from_its_archive(shared: Path, split: str, count: int) -> None:
    examples = read_split(TASKS["race"], UPath(shared / "finetuning"), split)
    assert len(examples) == count, "the train part at hand has 6,453 questions of middle and 4,834 of high schools"
    assert all(len(example.texts) == 6 and 0 <= example.label < 4 for example in examples)


@pytest.mark.parametrize(
    ("task", "path", "split", "count"),
    [
        ("snli", "SNLI/cad_original_dev.tsv", "dev", 200),
        ("snli", "SNLI/cad_original_train.tsv", "train", 1666),
        ("mnli", "MNLI/textfooler_mnli_matched.tsv", "dev", 1000),
        ("mnli", "MNLI/textfooler_mnli_mismatched.tsv", "dev_mismatched", 1000),
        ("mnli", "MNLI/format/dev_matched.tsv", "dev", 2),
        ("mnli", "MNLI/format/train.tsv", "train", 3),
        ("qqp", "QQP/quora_train_sample.csv", "train", 1000),
        ("qqp", "QQP/format/train.tsv", "train", 3),
        ("scitail", "SciTail/tsv_format/scitail_1.0_train.tsv", "train", 6),
        ("scitail", "SciTail/snli_format/scitail_1.0_dev.txt", "dev", 4),
        ("snli", "SNLI/format/snli_1.0_dev.txt", "dev", 2),
        ("stsb", "STS-B/format/train.tsv", "train", 3),
        ("rte", "RTE/format/train.tsv", "train", 3),
        ("qnli", "QNLI/format/train.tsv", "train", 3),
        ("cola", "CoLA/format/train.tsv", "train", 3),
    ],
)
def test_other_forms_of_real_files_are_read_too(shared: Path, task: str, path: str, split: str, count: int) -> None:
    examples = TASKS[task].read([UPath(shared / "finetuning" / path)], split)
    assert len(examples) == count


def test_pairs_without_a_majority_are_left_out_of_real_snli(shared: Path) -> None:
    path = shared / "finetuning" / "SNLI" / "snli_1.0_dev_part.jsonl"
    lines = path.read_text().splitlines()
    undecided = sum('"gold_label": "-"' in line for line in lines)
    assert undecided > 0
    assert len(TASKS["snli"].read([UPath(path)], "dev")) == len(lines) - undecided


KNOWN_ROWS = [
    ("finetuning", "sst2", "dev", "it's a charming and often affecting journey.", "positive"),
    ("finetuning", "mrpc", "dev", "He said the foodservice pie business doesn't fit the company's long-term growth "
     "strategy.", "equivalent"),
    ("finetuning", "wnli", "dev", "Jane knocked on Susan's door but she did not answer.", "entailment"),
    ("finetuning/MNLI/format/dev_matched.tsv", "mnli", "dev", "The new rights are nice enough", "neutral"),
    ("finetuning/MNLI/format/dev_mismatched.tsv", "mnli", "dev_mismatched", "Your contribution helped make it possible "
     "for us to provide our students with a quality education.", "contradiction"),
    ("finetuning/MNLI/format/train.tsv", "mnli", "train", "Conceptually cream skimming has two basic dimensions - "
     "product and geography.", "neutral"),
    ("finetuning/MNLI/format/train.tsv", "mnli", "train", "One of our number will carry out your instructions "
     "minutely.", "entailment"),
    ("finetuning/QQP/format/dev.tsv", "qqp", "dev", "Why are African-Americans so beautiful?", "different"),
    ("finetuning/QQP/quora_train_sample.csv", "qqp", "train", "What is most embrassing moment of your life?",
     "duplicate"),
    ("finetuning/SciTail/tsv_format/scitail_1.0_dev.tsv", "scitail", "dev", "humans normally have 23 pairs of "
     "chromosomes.", "entails"),
    ("finetuning/SciTail/snli_format/scitail_1.0_dev.txt", "scitail", "dev", "humans normally have 23 pairs of "
     "chromosomes.", "entails"),
    ("finetuning/SciTail/tsv_format/scitail_1.0_dev.tsv", "scitail", "dev", "The pungent smell of the yellow, toffee "
     "colored substance in the bag fills the air.", "neutral"),
    ("finetuning", "snli", "dev", "Two women are embracing while holding to go packages.", "neutral"),
    ("benchmarks", "cola", "dev", "The sailors rode the breeze clear of the rocks.", "acceptable"),
    ("benchmarks", "rte", "train", "No Weapons of Mass Destruction Found in Iraq Yet.", "not_entailment"),
    ("benchmarks", "qnli", "dev", "What came into force after the new constitution was herald?", "entailment"),
]  # fmt: skip


@pytest.mark.parametrize(("place", "task", "split", "text", "label"), KNOWN_ROWS)
def test_the_label_of_a_known_row(shared: Path, place: str, task: str, split: str, text: str, label: str) -> None:
    path = UPath(shared / place)
    examples = TASKS[task].read([path], split) if path.suffix else read_split(TASKS[task], path, split)
    example = next(example for example in examples if example.texts[0] == text)
    assert TASKS[task].classes[int(example.label)] == label


def test_known_rows_of_questions_and_scores(shared: Path) -> None:
    copa = read_split(TASKS["copa"], UPath(shared / "benchmarks"), "train")[0]
    assert copa == Example(
        texts=("My body cast a shadow over the grass", " because", " the sun was rising.", " the grass was cut."),
        label=0,
    )
    race = read_split(TASKS["race"], UPath(shared / "finetuning"), "dev")
    mood = next(one for one in race if one.texts[0].startswith("Homework can put you in a bad") and "found in the first"
                in one.texts[1])  # fmt: skip
    assert mood.texts[2 + int(mood.label)].strip() == "sad music helped kids find out small shapes quickly"
    stsb = read_split(TASKS["stsb"], UPath(shared / "benchmarks"), "dev")[1]
    assert stsb.texts == ("A young child is riding a horse.", "A child is riding a horse.") and stsb.label == 4.75


def write(path: Path, *lines: str) -> UPath:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + "\n" for line in lines).encode())
    return UPath(path)


def test_a_stray_quote_loses_no_row(tmp_path: Path) -> None:
    table = write(tmp_path / "t.tsv", 'He said "no\tHe refused.\tentails', 'b\tc" d\tneutral', "e\tf\tneutral")
    assert [example.texts[0] for example in TASKS["scitail"].read([table], "train")] == ['He said "no', "b", "e"]
    named = write(tmp_path / "q.tsv", "index\tquestion\tsentence\tlabel", '0\t"who\tme\tentailment',
                  "1\twho\tyou\tnot_entailment")  # fmt: skip
    assert len(TASKS["qnli"].read([named], "dev")) == 2
    scores = write(tmp_path / "s.csv", 'a\tb\tc\td\t3.0\t"one\ttwo\tsource\tother', "a\tb\tc\td\t0\tthree\tfour")
    assert [example.label for example in TASKS["stsb"].read([scores], "train")] == [3.0, 0.0]


@pytest.mark.parametrize(
    ("task", "lines", "message"),
    [
        ("sst2", ("sentence\tlabel", "good\t1", "fine\t2"), r"line 3: wanted negative, positive, 0, 1 .* got '2'"),
        ("sst2", ("text\tlabel", "good\t1"), r"line 1: wanted the columns sentence, label, got no sentence"),
        ("sst2", ("sentence\tlabel", " \t1"), r"line 2: wanted text in the column sentence, got none"),
        ("sst2", ("sentence\tlabel", "good"), r"line 2: wanted 2 columns between tabs, got 1"),
        ("sst2", ("sentence\tlabel", "good\t1\t0"), r"line 2: wanted 2 columns between tabs, got 3"),
        ("stsb", ("g\tf\ty\t1\t5.5\ta\tb",), r"line 1: wanted a number from 0 to 5 in the column score, got '5.5'"),
        ("stsb", ("g\tf\ty\t1\tnan\ta\tb",), r"line 1: wanted a number from 0 to 5"),
        ("cola", ("gj04\t1\tThe sailors",), r"line 1: wanted 4 columns between tabs, got 3"),
    ],
)
def test_wrong_lines_are_named(tmp_path: Path, task: str, lines: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TASKS[task].read([write(tmp_path / "file.tsv", *lines)], "train")


def test_a_class_without_training_examples_is_named(folder: Path) -> None:
    write(folder / "SST-2" / "train.tsv", "sentence\tlabel", "good\t1")
    with pytest.raises(InputError, match=r"train.tsv: no example of the class negative"):
        read_split(TASKS["sst2"], UPath(folder), "train")


def test_absent_files_are_asked_for(folder: Path) -> None:
    with pytest.raises(InputError, match=r"task sst2: no files of its split dev in .*SST-2 .* wanted dev.tsv"):
        read_split(TASKS["sst2"], UPath(folder), "dev")


def test_files_of_lines_must_be_as_long_as_each_other(folder: Path) -> None:
    for name, lines in (("s1", ("a", "b")), ("s2", ("a", "b")), ("labels", ("neutral",))):
        write(folder / "SNLI" / f"{name}.dev", *lines)
    with pytest.raises(InputError, match="wanted as many lines in each file of a split"):
        read_split(TASKS["snli"], UPath(folder), "dev")


def test_a_candidate_list_of_another_length_is_named(folder: Path) -> None:
    exam = b'{"article": "a", "questions": ["q"], "options": [["a", "b", "c"]], "answers": ["A"]}'
    (folder / "RACE").mkdir()
    with tarfile.open(folder / "RACE" / "RACE.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo("RACE/dev/high/1.txt")
        entry.size = len(exam)
        archive.addfile(entry, BytesIO(exam))
    with pytest.raises(InputError, match=r"RACE.tar.gz, RACE/dev/high/1.txt: wanted a question, 4 options .*'q'"):
        read_split(TASKS["race"], UPath(folder), "dev")


def test_story_cloze_is_parted_as_the_papers_code_does(folder: Path) -> None:
    columns = [f"InputSentence{n}" for n in range(1, 5)]
    columns += ["RandomFifthSentenceQuiz1", "RandomFifthSentenceQuiz2", "AnswerRightEnding"]
    rows = [f"id{n},a{n}.,b.,c.,d.,right.,wrong.,1" for n in range(1871)]
    write(folder / "StoryCloze" / "cloze_test_val__spring2016 - x.csv", ",".join(["InputStoryid", *columns]), *rows)
    train, dev = (read_split(TASKS["story-cloze"], UPath(folder), split) for split in ("train", "dev"))
    assert (len(train), len(dev)) == (1497, 374)
    assert not {one.texts[0] for one in train} & {one.texts[0] for one in dev}


def test_microsofts_mrpc_is_parted_by_glues_list(shared: Path, folder: Path) -> None:
    parts = [(shared / "benchmarks" / "mrpc" / f"msr-para-{part}.tsv").read_bytes() for part in ("train", "val")]
    (folder / "MRPC").mkdir()
    whole = parts[0] + parts[1].split(b"\n", 1)[1]
    (folder / "MRPC" / "msr_paraphrase_train.txt").write_bytes(whole)
    (folder / "MRPC" / "mrpc_dev_ids.tsv").write_bytes((shared / "finetuning/MRPC/dev_ids.tsv").read_bytes())
    for split in ("train", "dev"):
        ours, glues = (read_split(TASKS["mrpc"], UPath(place), split) for place in (folder, shared / "finetuning"))
        assert sorted(one.texts for one in ours) == sorted(one.texts for one in glues)
        assert sum(one.label for one in ours) == sum(one.label for one in glues)


def test_an_unknown_task_is_named() -> None:
    with pytest.raises(InputError, match="unknown task sst-2: known are sst2, cola"):
        find_tasks(["sst-2"])
