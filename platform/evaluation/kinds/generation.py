"""Answers that a model writes after prompts, and how they are compared with the right ones.

The comparison is that of SQuAD's evaluation (Rajpurkar et al. 2016), which Natural Questions and CoQA took over: words
in small letters, without punctuation and articles.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ladder.models.generation import GREEDY, Sampling, generate
from ladder.models.gpt2 import GPT2
from ladder.platform.evaluation.benchmark import Setting

_ARTICLES = re.compile(r"\b(a|an|the)\b")

_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model wrote after a prompt."""

    text: str
    """The text that follows the prompt, as it was written."""
    nats: float
    """-ln p of the text, and of the end of the document where the model wrote it."""
    n_tokens: int
    """Its tokens."""
    cut: bool
    """Whether the prompt was cut on the left, since the answer would not have fitted the model's context."""


def write_answers(
    setting: Setting,
    prompts: Sequence[str],
    *,
    n_tokens: int,
    stop: Callable[[str], bool],
    sampling: Sampling = GREEDY,
    seeds: Sequence[int | str] | None = None,
) -> list[Answer]:
    """What the setting's model writes after each prompt: at most `n_tokens` tokens, and none after `stop` is true.

    Of a prompt too long the end is kept, as much as `prompt_room` has.
    """
    scorer, tokenizer = setting.scorer, setting.tokenizer
    assert isinstance(scorer.model, GPT2), "only a GPT-2 writes"
    n_kept = prompt_room(scorer.context, n_tokens)
    tokens = tokenizer.encode_batch(prompts)
    scorer.progress(expected=len(prompts))
    with torch.autocast(scorer.device.type, torch.bfloat16, enabled=scorer.precision == "bf16"):
        continuations = generate(
            scorer.model,
            [prompt[-n_kept:] for prompt in tokens],
            n_tokens=n_tokens,
            sampling=sampling,
            seeds=seeds,
            end_token=tokenizer.end_of_text,
            stop=lambda written: stop(tokenizer.decode(written)),
            on_end=lambda n_written: scorer.progress(answered=1, tokens=n_written),
        )
    return [
        Answer(
            text=tokenizer.decode(continuation.tokens),
            nats=continuation.nats,
            n_tokens=len(continuation.tokens),
            cut=len(prompt) > n_kept,
        )
        for prompt, continuation in zip(tokens, continuations, strict=True)
    ]


def describe_answers(
    prompts: Sequence[str], written: Sequence[str], right: Sequence[Sequence[str]]
) -> list[dict[str, Any]]:
    """Each prompt with what counts of the answer and the right ones, for people."""
    rows = zip(prompts, written, right, strict=True)
    return [{"prompt": prompt, "written": text, "answers": list(answers)} for prompt, text, answers in rows]


def prompt_room(context: int, n_tokens: int) -> int:
    """Tokens of a prompt that leave room for `n_tokens` in a model's context, and at least half of it."""
    return max(context // 2, context + 1 - n_tokens)  # the last token is written and never read


def first_line(text: str) -> str:
    """The text up to its first line end, without the white space around it."""
    return text.split("\n", 1)[0].strip()


def ends_line(text: str) -> bool:
    """Whether a line has ended, so that `first_line` stays as it is."""
    return "\n" in text


def normalize(text: str) -> list[str]:
    """The words that count: in small letters, without ASCII punctuation and articles."""
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def matches(answer: str, right: Sequence[str]) -> bool:
    """Whether the answer's words are those of one of the right answers."""
    return any(normalize(answer) == normalize(one) for one in right)


def overlap_f1(answer: str, right: str) -> float:
    """Harmonic mean of the shares of words in common, counted with repetitions; 1 where neither has a word."""
    words, right_words = normalize(answer), normalize(right)
    if not words or not right_words:
        return float(words == right_words)
    n_common = sum((Counter(words) & Counter(right_words)).values())
    return 2 * n_common / (len(words) + len(right_words))
