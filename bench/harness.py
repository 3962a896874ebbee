"""lm-evaluation-harness set up to score the same local checkpoint and the same local text as ours, without a network.

Its `hf` model, its own task configurations for LAMBADA and for rolling text, and its multiple choice. Used by
`make bench-eval` and by the tests of agreement.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks.wikitext.preprocess_wikitext import process_results as wikitext_results
from lm_eval.tasks.wikitext.preprocess_wikitext import wikitext_detokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer


def open_peer(checkpoint: Path, *, dtype: torch.dtype, batch_size: int) -> HFLM:
    """The harness' `hf` model of a checkpoint's folder on the CPU, as it would open a Hugging Face one."""
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=dtype).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)  # of the files that every checkpoint of ours has
    return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, device="cpu")


def last_word_task(texts: Sequence[str]) -> ConfigurableTask:
    """The harness' `lambada_openai` over these texts."""
    return _task(
        [{"text": text} for text in texts],
        task="lambada",
        output_type="loglikelihood",
        doc_to_text="{{text.split(' ')[:-1]|join(' ')}}",
        doc_to_target="{{' '+text.split(' ')[-1]}}",
        metric_list=[
            {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False},
            {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
        ],
    )


def rolling_task(text: str) -> ConfigurableTask:
    """Rolling log-likelihood of one text, as of the harness' `wikitext` without its de-tokenizer."""
    return _task(
        [{"page": text}],
        task="rolling",
        output_type="loglikelihood_rolling",
        doc_to_text="",
        doc_to_target="{{page}}",
        metric_list=[{"metric": "word_perplexity"}, {"metric": "byte_perplexity"}],
    )


def wikitext_task(pages: Sequence[str]) -> ConfigurableTask:
    """The harness' `wikitext` over these pages, with its own de-tokenizer and counts."""
    return _task(
        [{"page": page} for page in pages],
        task="wikitext",
        output_type="loglikelihood_rolling",
        doc_to_text="",
        doc_to_target=wikitext_detokenizer,
        process_results=wikitext_results,
        metric_list=[{"metric": "word_perplexity"}, {"metric": "byte_perplexity"}, {"metric": "bits_per_byte"}],
    )


def choice_task(documents: Sequence[dict[str, Any]]) -> ConfigurableTask:
    """Multiple choice over documents of `context`, `choices` and `answer` (an index)."""
    return _task(
        list(documents),
        task="choice",
        output_type="multiple_choice",
        doc_to_text="{{context}}",
        doc_to_choice="choices",
        doc_to_target="answer",
        target_delimiter="",
        metric_list=[{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    )


def run_peer(peer: HFLM, task: ConfigurableTask) -> dict[str, float]:
    """Metrics of a task by name, without the bootstrap of their standard errors."""
    name = task.config.task
    results = evaluate(peer, {"tasks": {name: task}, "groups": {}, "group_map": {}}, bootstrap_iters=0)
    assert results is not None
    numbers = results["results"][name]
    return {key.partition(",")[0]: value for key, value in numbers.items() if isinstance(value, float)}


def _task(documents: list[dict[str, Any]], **config: Any) -> ConfigurableTask:
    def load(**_: Any) -> dict[str, Dataset]:
        return {"test": Dataset.from_list(documents)}

    return ConfigurableTask(config={"custom_dataset": load, "test_split": "test", "metadata": {"version": 1}, **config})
