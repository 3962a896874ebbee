"""Tasks of lm-evaluation-harness through our scorer give what its own `hf` model gives, and land where ours do."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lm_eval.tasks
import numpy as np
import pytest
import torch
from lm_eval.evaluator import evaluate as run_harness
from lm_eval.tasks import TaskManager
from upath import UPath

from bench.harness import open_peer
from ladder.models.gpt2 import GPT2
from ladder.models.loss import next_token_nats
from ladder.models.sizes import parse_size
from ladder.models.tokenizer import load_tokenizer
from ladder.models.weights import load_weights, save_weights
from ladder.platform.evaluation.benchmark import Setting
from ladder.platform.evaluation.benchmarks.gpt2.lambada import LAMBADA
from ladder.platform.evaluation.benchmarks.gpt2.wikitext2_raw import WIKITEXT2_RAW, read_pages
from ladder.platform.evaluation.evaluate import make_setting, measure, measure_with_items
from ladder.platform.evaluation.item_scores import ItemScores
from ladder.platform.evaluation.own.file import read_own_file
from ladder.platform.evaluation.protocol import Protocol
from ladder.platform.evaluation.registry import definitions
from ladder.platform.evaluation.selection import select
from ladder.platform.finetuning.registry import TASKS
from ladder.platform.finetuning.task import Example, read_split

LIMIT = 6
"""Documents of each task."""
TASKS_FOLDER = Path(lm_eval.tasks.__file__).parent


Document = Callable[[Example], dict[str, Any]]


def pair(first: str, second: str) -> Document:
    return lambda example: {first: example.texts[0], second: example.texts[1], "label": example.label}


def sentence(example: Example) -> dict[str, Any]:
    return {"sentence": example.texts[0], "label": example.label}


def copa(example: Example) -> dict[str, Any]:
    premise, connective, *choices = example.texts
    question = {" because": "cause", " so": "effect"}[connective]
    first, second = (choice.strip() for choice in choices)
    return {"premise": premise + ".", "question": question, "choice1": first, "choice2": second, "label": example.label}


CHOICES: dict[str, tuple[str, str, Document]] = {
    "copa": ("super_glue/copa/default.yaml", "benchmarks", copa),
    "sst2": ("glue/sst2/default.yaml", "finetuning", sentence),
    "rte": ("glue/rte/default.yaml", "benchmarks", pair("sentence1", "sentence2")),
    "mrpc": ("glue/mrpc/default.yaml", "finetuning", pair("sentence1", "sentence2")),
    "qnli": ("glue/qnli/default.yaml", "benchmarks", pair("question", "sentence")),
    "cola": ("glue/cola/default.yaml", "benchmarks", sentence),
    "wnli": ("glue/wnli/default.yaml", "finetuning", pair("sentence1", "sentence2")),
}
"""The harness' own configuration of a choice task, where its file is, and a row of it as the harness has rows."""


def read_documents(name: str, shared: Path) -> list[dict[str, Any]]:
    _, place, document = CHOICES[name]
    return [document(example) for example in read_split(TASKS[name], UPath(shared / place), "dev")[:LIMIT]]


def read_lambada(shared: Path, name: str) -> list[dict[str, Any]]:
    lines = (shared / "benchmarks" / "lambada" / name).read_text().splitlines()[:LIMIT]
    texts = [json.loads(line)["text"] if name.endswith("jsonl") else line for line in lines]
    return [{"text": " ".join(text.split(" ")[-24:])} for text in texts]


@pytest.fixture(scope="module", autouse=True)
def vocabulary(shared: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(shared / "tiktoken"))
        yield


@pytest.fixture(scope="module")
def checkpoint(vocabulary: None, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small GPT-2 that has learned to write some passages of LAMBADA and answers after them."""
    torch.set_num_threads(1)
    model = GPT2(parse_size("2x64"), seed=0)
    texts = [row["text"] + answer for row in read_lambada(shared, "lambada_test.jsonl")[:4] for answer in (" yes", "!")]
    rows = load_tokenizer("gpt2").encode_batch(texts)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(12):
        for row in rows:
            tokens = torch.tensor([row])
            next_token_nats(model.hidden(tokens[:, :-1]), model.wte.weight, tokens[:, 1:]).div(len(row)).backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = tmp_path_factory.mktemp("checkpoint")
    save_weights(model, folder, tokenizer="gpt2")
    return folder


@pytest.fixture(scope="module")
def setting(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Setting:
    return make_setting(
        load_weights(str(checkpoint)).eval(),
        load_tokenizer("gpt2"),
        storage=UPath(tmp_path_factory.mktemp("storage")),
        corpus=None,
        device="cpu",
        precision="fp32",
        protocol=Protocol(),
    )


@pytest.fixture(scope="module")
def peer(checkpoint: Path) -> Any:
    return open_peer(checkpoint, dtype=torch.float32, batch_size=4)


def write_task(folder: Path, name: str, documents: Sequence[dict[str, Any]], lines: str) -> Path:
    """A task's YAML file over local documents; `lines` are the rest of its configuration."""
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(document) + "\n" for document in documents))
    path = folder / f"{name}.yaml"
    local = f"dataset_path: json\ndataset_name: null\ndataset_kwargs: {{data_files: {{test: {data}}}}}\n"
    path.write_text(
        f"task: local_{name}\n{lines}\n{local}training_split: null\nvalidation_split: null\ntest_split: test\n"
    )
    return path


def both(path: Path, setting: Setting, peer: Any) -> tuple[dict[str, float], dict[str, float], list[Any], list[Any]]:
    """Metrics by name through our scorer and by the harness alone, our responses, and the harness' samples."""
    (benchmark,) = select([str(path)]).benchmarks
    measurements, scores = measure_with_items(benchmark, setting)
    tasks = TaskManager(include_defaults=False).load([str(path)])["tasks"]
    theirs = run_harness(peer, {"tasks": tasks, "groups": {}, "group_map": {}}, bootstrap_iters=0)
    assert theirs is not None
    (numbers,), (samples,) = theirs["results"].values(), theirs["samples"].values()
    metrics = {key.partition(",")[0]: value for key, value in numbers.items() if isinstance(value, float)}
    ours = {m.metric: m.value for m in measurements}
    return ours, metrics, [i["responses"] for i in scores[0].items], samples


def score_own_file(path: Path, samples: Sequence[Any], setting: Setting) -> dict[str, ItemScores]:
    """The scores by metric of a file of one's own that has the words of the harness."""
    rows = []
    for sample in samples:
        choices = [choice for _, choice in sample["arguments"]]
        texts, target = [choice.strip() for choice in choices], str(sample["target"]).strip()
        answer = texts.index(target) if target in texts else int(target)
        rows.append({"prompt": sample["arguments"][0][0], "choices": choices, "answer": answer})
    head = {"name": "own", "metric": ["accuracy", "accuracy_per_character"]}
    path.write_text("".join(json.dumps(row) + "\n" for row in [head, *rows]))
    items = measure_with_items(read_own_file(str(path)).benchmark(), setting)[1]
    return {scores.metric: scores for scores in items}


def nats(responses: Sequence[Any]) -> list[float]:
    return [float(response[0]) for document in responses for response in document]


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_task_gives_the_harness_numbers_and_those_of_a_file_of_ones_own(
    name: str, setting: Setting, peer: Any, shared: Path, tmp_path: Path
) -> None:
    config = f"include: {TASKS_FOLDER / CHOICES[name][0]}"
    path = write_task(tmp_path, name, read_documents(name, shared), config)
    ours, theirs, responses, samples = both(path, setting, peer)
    assert nats(responses) == pytest.approx(nats([sample["filtered_resps"] for sample in samples]), rel=1e-4)
    assert len({round(value, 2) for value in nats(responses)}) > LIMIT / 2, "what gives all alike agrees with anything"
    assert set(ours) >= {"acc"} or set(ours) >= {"mcc"}
    for metric, value in ours.items():
        assert value == pytest.approx(theirs[metric], rel=1e-4), metric
    own = score_own_file(tmp_path / "own.jsonl", samples, setting)
    assert [-value for item in own["accuracy"].items for value in item["nats"]] == pytest.approx(
        nats(responses), rel=1e-6
    )
    for metric, same in (("acc", "accuracy"), ("acc_norm", "accuracy_per_character")):
        if metric in theirs and (name, metric) != ("copa", "acc_norm"):  # the harness counts the space before a choice
            assert own[same].measure().value == pytest.approx(theirs[metric], abs=1e-9)


@pytest.mark.parametrize(
    ("variant", "file"),
    [("lambada_openai", "lambada_test.jsonl"), ("lambada_standard", "lambada_test_plain_text.txt")],
)
def test_both_lambadas_are_the_harness_numbers_and_our_own(
    variant: str, file: str, setting: Setting, peer: Any, shared: Path, tmp_path: Path
) -> None:
    documents = read_lambada(shared, file)
    path = write_task(tmp_path, variant, documents, f"include: {TASKS_FOLDER / 'lambada' / variant}.yaml")
    ours, theirs, *_ = both(path, setting, peer)
    assert ours["perplexity"] == pytest.approx(theirs["perplexity"], rel=1e-4)
    assert ours["acc"] == theirs["acc"]
    installed = UPath(setting.storage) / "benchmarks" / "lambada" / LAMBADA.files[0].name
    installed.parent.mkdir(parents=True, exist_ok=True)
    installed.write_text("".join(json.dumps(document) + "\n" for document in documents))
    own = {m.metric: m.value for m in measure(LAMBADA, setting)}
    assert own["perplexity"] == pytest.approx(ours["perplexity"], rel=1e-6)
    assert own["accuracy"] == ours["acc"]


def test_wikitext_is_the_harness_number_and_our_own(setting: Setting, peer: Any, shared: Path, tmp_path: Path) -> None:
    """A page of a window and a part, whose last window reaches back, and a short one."""
    text = (shared / "benchmarks" / "wikitext2" / "wiki.test.tokens").read_text()
    installed = UPath(setting.storage) / "benchmarks" / "wikitext2-raw" / "wiki.test.raw"
    installed.parent.mkdir(parents=True)
    bodies = (text[start:end].replace("\n = ", "\n") for start, end in ((0, 6000), (7000, 7600)))
    installed.write_text("".join(f" = A page = \n{body}\n" for body in bodies))
    documents = [{"page": page} for page in read_pages(installed)]
    assert len(documents) == 2
    path = write_task(tmp_path, "wikitext", documents, f"include: {TASKS_FOLDER / 'wikitext' / 'wikitext.yaml'}")
    ours, theirs, *_ = both(path, setting, peer)
    own = {m.metric: m.value for m in measure(WIKITEXT2_RAW, setting)}
    for metric in ("word_perplexity", "byte_perplexity", "bits_per_byte"):
        assert ours[metric] == pytest.approx(theirs[metric], rel=1e-5)
        assert own[metric] == pytest.approx(ours[metric], rel=1e-6)


GENERATION = """output_type: generate_until
doc_to_text: "{{text}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n", "!"], max_gen_toks: 6}
metric_list:
  - metric: exact_match
metadata: {version: 1.0}"""


def test_what_the_model_writes_is_what_the_harness_has_it_write(
    setting: Setting, peer: Any, shared: Path, tmp_path: Path
) -> None:
    texts = [row["text"] for row in read_lambada(shared, "lambada_test.jsonl")]
    documents = [{"text": text.rpartition(" ")[0], "answer": text.rpartition(" ")[2]} for text in texts]
    path = write_task(tmp_path, "written", documents, GENERATION)
    ours, theirs, our_texts, samples = both(path, setting, peer)
    assert our_texts == [sample["filtered_resps"] for sample in samples]
    assert len({text for (text,) in our_texts}) > 2, "the texts differ"
    assert ours["exact_match"] == theirs["exact_match"]


def test_a_task_has_what_the_other_benchmarks_have(setting: Setting, shared: Path, tmp_path: Path) -> None:
    path = write_task(
        tmp_path, "sst2", read_documents("sst2", shared), f"include: {TASKS_FOLDER / 'glue/sst2/default.yaml'}"
    )
    (benchmark,) = select([str(path)]).benchmarks
    (measured,) = measure(benchmark, setting)
    assert measured.name == "harness-local_sst2/acc"
    assert (measured.count, measured.direction, measured.chance) == (LIMIT, "higher", 0.5)
    p = measured.value
    assert measured.standard_error == pytest.approx(math.sqrt(p * (1 - p) / (LIMIT - 1)))
    assert definitions([benchmark.name], [read_own_file(str(path))]) == {benchmark.name: benchmark.definition}, (
        "else a run that is scored on it never counts as finished"
    )
    before = benchmark.definition
    path.with_suffix(".jsonl").write_text(path.with_suffix(".jsonl").read_text() * 2)
    path.write_text(path.read_text() + "# scored again\n")
    (changed,) = select([str(path)]).benchmarks
    assert changed.definition != before, "other data are another benchmark"


def test_a_metric_over_all_documents_has_an_error_by_bootstrap() -> None:
    from lm_eval.api import metrics

    from ladder.platform.evaluation.harness.tasks import _estimator

    draws = np.random.default_rng(0)
    pairs = [(int(gold), int(gold if draws.random() < 0.8 else 1 - gold)) for gold in draws.integers(0, 2, 400)]
    estimator, _ = _estimator(metrics.f1_score, pairs)
    estimate = estimator(np.arange(400))
    assert estimate.value == pytest.approx(metrics.f1_score(pairs))
    assert estimate.standard_error == pytest.approx(
        metrics.bootstrap_stderr(metrics.f1_score, pairs, iters=300), rel=0.4
    )
