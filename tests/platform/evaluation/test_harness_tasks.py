"""Tasks of lm-evaluation-harness on local files, asked by its own configuration and scored as benchmarks of one's own.

The harness words the prompts; the same words are then a file of ours. Both score one trained checkpoint.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lm_eval.tasks
import pytest
import torch
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks._yaml_loader import load_yaml
from upath import UPath

from bench.harness import last_word_task, open_peer, run_peer
from ladder.models.gpt2 import GPT2
from ladder.models.loss import next_token_nats
from ladder.models.sizes import parse_size
from ladder.models.tokenizer import load_tokenizer
from ladder.models.weights import load_weights, save_weights
from ladder.platform.evaluation.evaluate import make_setting, measure_with_items
from ladder.platform.evaluation.item_scores import ItemScores
from ladder.platform.evaluation.own.file import read_own_file
from ladder.platform.evaluation.protocol import DEFAULT_PROTOCOL
from ladder.platform.finetuning.registry import TASKS
from ladder.platform.finetuning.task import Example, read_split

DOCUMENTS = 16
TASK_FILES = Path(lm_eval.tasks.__file__).parent

Document = Callable[[Example], dict[str, Any]]


def pair(first: str, second: str) -> Document:
    return lambda example: {first: example.texts[0], second: example.texts[1], "label": example.label}


def sentence(example: Example) -> dict[str, Any]:
    return {"sentence": example.texts[0], "label": example.label}


def copa(example: Example) -> dict[str, Any]:
    premise, connective, *choices = example.texts
    return {
        "premise": premise + ".",
        "question": {" because": "cause", " so": "effect"}[connective],
        "choice1": choices[0].strip(),
        "choice2": choices[1].strip(),
        "label": example.label,
    }


LOCAL: dict[str, tuple[str, str, Document]] = {
    "rte": ("glue/rte/default.yaml", "benchmarks", pair("sentence1", "sentence2")),
    "qnli": ("glue/qnli/default.yaml", "benchmarks", pair("question", "sentence")),
    "wnli": ("glue/wnli/default.yaml", "finetuning", pair("sentence1", "sentence2")),
    "cola": ("glue/cola/default.yaml", "benchmarks", sentence),
    "sst2": ("glue/sst2/default.yaml", "finetuning", sentence),
    "mrpc": ("glue/mrpc/default.yaml", "finetuning", pair("sentence1", "sentence2")),
    "copa": ("super_glue/copa/default.yaml", "benchmarks", copa),
}
"""Task to its configuration in the harness, where its file is, and a row of it as the harness has rows."""


@pytest.fixture(scope="module")
def checkpoint(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small GPT-2 that has learned a few sentences, so that its scores differ."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(shared / "tiktoken"))
        examples = read_split(TASKS["rte"], UPath(shared / "benchmarks"), "dev")[:4]
        rows = load_tokenizer("gpt2").encode_batch([f"{e.texts[0]} True no yes positive" for e in examples])
        model = GPT2(parse_size("2x64"), seed=0)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for _ in range(6):
            for row in rows:
                tokens = torch.tensor([row])
                next_token_nats(model.hidden(tokens[:, :-1]), model.wte.weight, tokens[:, 1:]).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        folder = tmp_path_factory.mktemp("trained")
        save_weights(model, folder, tokenizer="gpt2")
        yield folder


@pytest.fixture(scope="module")
def peer(checkpoint: Path) -> HFLM:
    return open_peer(checkpoint, dtype=torch.float32, batch_size=4)


def open_task(name: str, shared: Path) -> ConfigurableTask:
    """The harness' task as it configures it, over the first rows of the local file."""
    file, place, document = LOCAL[name]
    documents = [document(e) for e in read_split(TASKS[name], UPath(shared / place), "dev")[:DOCUMENTS]]
    config = load_yaml(TASK_FILES / file)
    kept = {key: config[key] for key in ("task", "doc_to_text", "doc_to_choice", "doc_to_target", "output_type")}
    metrics = [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")]

    def load(**_: Any) -> dict[str, Any]:
        from datasets import Dataset

        return {"test": Dataset.from_list(documents)}

    source = {"custom_dataset": load, "test_split": "test", "metadata": {"version": 1}}
    return ConfigurableTask(config={**kept, **source, "metric_list": metrics})


def score_file(path: Path, lines: list[dict[str, Any]], checkpoint: Path) -> dict[str, ItemScores]:
    """What our scorer gives for a file of one's own of these lines."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    setting = make_setting(
        load_weights(str(checkpoint)).eval(),
        load_tokenizer("gpt2"),
        storage=UPath(path.parent),
        corpus=None,
        device="cpu",
        precision="fp32",
        protocol=DEFAULT_PROTOCOL,
    )
    items = measure_with_items(read_own_file(str(path)).benchmark(), setting)[1]
    return {scores.metric: scores for scores in items}


@pytest.mark.parametrize("name", LOCAL)
def test_a_choice_task_of_the_harness_has_its_numbers_to_four_digits(
    name: str, checkpoint: Path, peer: HFLM, shared: Path, tmp_path: Path, gpt2_vocabulary: None
) -> None:
    task = open_task(name, shared)
    task.build_all_requests(rank=0, world_size=1)
    by_document: dict[int, list[tuple[str, str]]] = {}
    for instance in task.instances:
        if len(instance.args) == 2:
            by_document.setdefault(instance.doc_id, []).append(instance.args)
    rows = []
    for index, asked in by_document.items():
        answer = task.doc_to_target(task.eval_docs[index])
        choices = [continuation for _, continuation in asked]
        answer = answer if isinstance(answer, int) else task.doc_to_choice(task.eval_docs[index]).index(answer)
        rows.append({"prompt": asked[0][0], "choices": choices, "answer": answer})
    metrics = ["accuracy", "accuracy_per_character"]
    ours = score_file(tmp_path / "task.jsonl", [{"name": "task", "metric": metrics}, *rows], checkpoint)
    theirs = run_peer(peer, task)
    assert ours["accuracy"].measure().value == pytest.approx(theirs["acc"], abs=1e-9)
    if name != "copa":  # its choices begin with a space, which the harness counts as a character
        assert ours["accuracy_per_character"].measure().value == pytest.approx(theirs["acc_norm"], abs=1e-9)
    nats = [value for item in ours["accuracy"].items for value in item["nats"]]
    requests = [instance for instance in task.instances if len(instance.args) == 2]
    answers = [-value for value, _ in peer.loglikelihood(requests, disable_tqdm=True)]
    assert nats == pytest.approx(answers, rel=1e-4)
    assert len({round(value, 2) for value in nats}) > DOCUMENTS / 2, "a model that gives all alike agrees with anything"


def test_the_standard_lambada_of_the_harness_has_its_numbers_to_four_digits(
    checkpoint: Path, peer: HFLM, shared: Path, tmp_path: Path, gpt2_vocabulary: None
) -> None:
    """Lower case and tokens apart, as its `lambada_standard` is; `lambada_openai` is in test_agreement.py."""
    lines = (shared / "benchmarks" / "lambada" / "lambada_test_plain_text.txt").read_text().splitlines()
    texts = [line.strip() for line in lines[:DOCUMENTS]]
    header = {"name": "lambada-standard", "metric": "last_word"}
    ours = score_file(tmp_path / "lambada.jsonl", [header, *({"text": text} for text in texts)], checkpoint)
    theirs = run_peer(peer, last_word_task(texts))
    assert ours["last_word_perplexity"].measure().value == pytest.approx(theirs["perplexity"], rel=1e-4)
    assert ours["last_word_accuracy"].measure().value == pytest.approx(theirs["acc"], abs=1e-9)
