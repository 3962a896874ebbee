"""LAMBADA: the real file's counts, the arithmetic of its metrics, and what is wrong in a file."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from upath import UPath

from ladder.analysis.tables.sweeps import make_references
from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.sizes import parse_size
from ladder.models.tokenizer import load_tokenizer
from ladder.models.weights import save_weights
from ladder.platform.evaluation.benchmarks.gpt2.lambada import LAMBADA, preprocess, read_passages
from ladder.platform.evaluation.evaluate import evaluate
from ladder.platform.evaluation.kinds.last_word import make_requests, split_passage
from ladder.platform.evaluation.kinds.word_beam import is_stop_word


def install(storage: UPath, lines: list[str]) -> UPath:
    """A LAMBADA file of these lines in storage."""
    path = storage / "benchmarks" / "lambada" / LAMBADA.files[0].name
    path.parent.mkdir(parents=True)
    path.write_bytes("".join(line + "\n" for line in lines).encode())
    return path


def test_the_real_file_holds_5153_passages_with_targets_as_counted(shared: Path, gpt2_vocabulary: None) -> None:
    passages = read_passages(UPath(shared / "benchmarks" / "lambada" / LAMBADA.files[0].name))
    assert len(passages) == 5153
    requests = make_requests(load_tokenizer("gpt2"), [(p.context, p.word) for p in passages])
    lengths = [len(request.continuation) for request in requests]
    assert max(len(request.context) + len(request.continuation) for request in requests) == 224
    assert 4000 <= lengths.count(1) <= 4010


def test_metrics_are_those_of_a_table_of_probabilities(bigram: Callable[..., GPT2], tmp_path: Path) -> None:
    texts = ["aa bb", "ab ba", "b abab", "b cab"]
    install(UPath(tmp_path), [json.dumps({"text": text}) for text in texts])
    model = bigram(classes=257, context=32)
    table = model.log_probabilities
    words = [b" bb", b" ba", b" abab", b" cab"]
    before = [b"a bb", b"b ba", b"b abab", b"b cab"]
    for first, then in ((32, 97), (97, 98)):  # so that " abab" is right to its last letter
        table[first, then] = 1.0
    table[98, 97] = table[98, 32] = 1.0
    table.copy_(table.log_softmax(1))
    nats = [-sum(table[a, b].item() for a, b in zip(text, text[1:], strict=False)) for text in before]
    scores = {m.metric: m for m in evaluate(model, load_tokenizer("bytes"), ["lambada"], storage=UPath(tmp_path))}
    assert scores["perplexity"].value == pytest.approx(math.exp(sum(nats) / 4), rel=1e-4)
    assert scores["perplexity"].totals["nats"] == pytest.approx(sum(nats), rel=1e-5)
    assert scores["perplexity"].totals["bytes"] == sum(map(len, words))
    greedy = [[int(table[a].argmax()) == b for a, b in zip(text, text[1:], strict=False)] for text in before]
    assert scores["accuracy"].value == sum(map(all, greedy)) / 4
    assert scores["accuracy_last_token"].value == sum(flags[-1] for flags in greedy) / 4
    assert scores["accuracy_last_token"].value > scores["accuracy"].value
    assert scores["accuracy"].count == 4


def test_the_first_real_passages_score_as_in_transformers(shared: Path, gpt2_vocabulary: None, tmp_path: Path) -> None:
    lines = (shared / "benchmarks" / "lambada" / LAMBADA.files[0].name).read_text(encoding="utf-8").split("\n")[:12]
    install(UPath(tmp_path), lines)
    model, tokenizer = GPT2(parse_size("2x64", context=256)), load_tokenizer("gpt2")
    measured = {m.metric: m for m in evaluate(model, tokenizer, ["lambada"], storage=UPath(tmp_path))}
    save_weights(model, tmp_path / "weights", tokenizer="gpt2")
    reference = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "weights").eval()
    nats = 0.0
    for line in lines:
        context, _, word = json.loads(line)["text"].rpartition(" ")
        start, tokens = len(tokenizer.encode(context)), tokenizer.encode(context + " " + word)
        with torch.no_grad():
            loglikelihoods = reference(torch.tensor([tokens])).logits[0].log_softmax(-1)
        nats -= sum(loglikelihoods[i - 1, tokens[i]].item() for i in range(start, len(tokens)))
    assert measured["perplexity"].totals["nats"] == pytest.approx(nats, abs=1e-3)


def test_the_papers_accuracies_stand_beside_the_last_token_also_in_the_report(byte_gpt2: GPT2, tmp_path: Path) -> None:
    install(UPath(tmp_path), [json.dumps({"text": text}) for text in ("aa bb", "ab ba")])
    measured = evaluate(byte_gpt2, load_tokenizer("bytes"), ["lambada"], storage=UPath(tmp_path))
    references = make_references(measurement.to_json() for measurement in measured)
    rows = {(row["name"], row["model"]): row["score"] for row in references.iter_rows(named=True)}
    assert rows["lambada/accuracy_last_token", "117M"] == 0.4599
    assert rows["lambada/perplexity", "1542M"] == 8.63
    assert {name for name, _ in rows} == {"lambada/accuracy_last_token", "lambada/perplexity"}


def test_openais_preprocessing_straightens_quotes_and_begins_with_a_line(
    bigram: Callable[..., GPT2], tmp_path: Path
) -> None:
    model = bigram(classes=257, context=64)
    texts = ["\u201caa\u201d it\u2019s \u201cbb", " b ab"]
    install(UPath(tmp_path), [json.dumps({"text": text}) for text in texts])
    measured = evaluate(model, load_tokenizer("bytes"), ["lambada-preprocessed"], storage=UPath(tmp_path))
    scores = {m.metric: m for m in measured}
    table = model.log_probabilities
    wanted = 0.0
    for text in (b's "bb', b"b ab"):  # from the byte before the last word on
        wanted -= sum(table[a, b].item() for a, b in zip(text, text[1:], strict=False))
    assert scores["perplexity"].totals["nats"] == pytest.approx(wanted, rel=1e-5)
    assert scores["accuracy_last_token"].paper_scores["117M"] == 0.4599
    passage = preprocess(split_passage(texts[0]))
    assert passage.context + passage.word == '\n"aa" it\u2019s "bb'


def test_openais_preprocessing_changes_the_quotes_of_1622_real_passages(shared: Path) -> None:
    passages = read_passages(UPath(shared / "benchmarks" / "lambada" / LAMBADA.files[0].name))
    changed = [preprocess(p).context != "\n" + p.context or preprocess(p).word != p.word for p in passages]
    assert sum(changed) == 1622


def test_stop_words_are_left_out_as_whole_words(bigram: Callable[..., GPT2], tmp_path: Path) -> None:
    """After a space comes "the" or "cab", by the table of `word_beam`: .45 ends as a stop word, .40 as the word."""
    model = bigram(classes=257, context=32)
    follow(model, {" ": {"t": 0.5, "c": 0.4, "x": 0.1}, "t": {"h": 1.0}, "h": {"e": 1.0}, "e": {".": 0.9, "n": 0.1}})
    follow(model, {"n": {".": 1.0}, "c": {"a": 1.0}, "a": {"b": 1.0}, "b": {".": 1.0}, "x": {",": 1.0}})
    follow(model, {"z": {" ": 1.0}})
    texts = ["zz the", "zz cab", "yz cab", "zz then", "zz x"]
    install(UPath(tmp_path), [json.dumps({"text": text}) for text in texts])
    measured = evaluate(model, load_tokenizer("bytes"), ["lambada", "lambada-stop-words"], storage=UPath(tmp_path))
    scores = {f"{m.benchmark}/{m.metric}": m for m in measured}
    assert scores["lambada/accuracy"].value == 1 / 5  # "the"
    filtered = scores["lambada-stop-words/accuracy"]
    assert (filtered.value, filtered.count) == (2 / 5, 5)  # "cab", twice


def test_a_model_of_a_tiny_context_is_asked_for_words_that_fit(tmp_path: Path) -> None:
    install(UPath(tmp_path), [json.dumps({"text": "aa bb"})])
    model = GPT2(parse_size("1x8h1", context=8, vocabulary=257), seed=0)
    (score,) = evaluate(model, load_tokenizer("bytes"), ["lambada-stop-words"], storage=UPath(tmp_path))
    assert score.count == 1


def test_of_the_real_passages_45_end_in_a_stop_word_and_no_name_is_one(shared: Path) -> None:
    words = [p.word.strip() for p in read_passages(UPath(shared / "benchmarks" / "lambada" / LAMBADA.files[0].name))]
    filtered = [word for word in words if is_stop_word(word)]
    assert len(filtered) == 45
    assert {"donuts", "werewolves", "Will"} <= set(words) - set(filtered)


def follow(model: GPT2, table: dict[str, dict[str, float]]) -> None:
    """Sets what bytes follow a byte, with which probabilities."""
    for byte, followers in table.items():
        row = torch.full((257,), 1e-9)
        for other, probability in followers.items():
            row[ord(other)] = probability
        model.log_probabilities[ord(byte)] = (row / row.sum()).log()


def test_space_before_the_last_word_belongs_to_it() -> None:
    passage = split_passage("she saw the \n\nrecorder")
    assert (passage.context, passage.word) == ("she saw the", " \n\nrecorder")


def test_a_passage_longer_than_the_context_is_cut_on_the_left_and_counted(byte_gpt2: GPT2, tmp_path: Path) -> None:
    storage = UPath(tmp_path)
    ending = "z" * 61 + " word"  # 66 bytes: 64 are read, and one more is predicted
    install(storage, [json.dumps({"text": text}) for text in ("aa " + ending, "b c")])
    long = evaluate(byte_gpt2, load_tokenizer("bytes"), ["lambada"], storage=storage)[0]
    assert long.totals["items_cut"] == 1


def test_a_word_longer_than_the_context_is_scored_as_far_as_it_fits_and_is_never_right(
    bigram: Callable[..., GPT2], tmp_path: Path
) -> None:
    model = bigram(classes=257, context=8)
    model.log_probabilities[:, ord("z")] = 9.0  # every letter is the likeliest
    model.log_probabilities[ord("a"), ord(" ")] = 99.0
    model.log_probabilities.copy_(model.log_probabilities.log_softmax(1))
    install(UPath(tmp_path), [json.dumps({"text": text}) for text in ("aa " + "z" * 20, "ba zzz")])
    measured = evaluate(model, load_tokenizer("bytes"), ["lambada"], storage=UPath(tmp_path))
    scores = {m.metric: m for m in measured}
    assert scores["perplexity"].totals["items_cut"] == 1
    assert scores["perplexity"].totals["tokens"] == 8 + 4
    assert (scores["accuracy"].value, scores["accuracy_last_token"].value) == (0.5, 0.5)


def test_line_ends_of_other_systems_are_no_part_of_a_passage(tmp_path: Path) -> None:
    path = UPath(tmp_path) / "lambada_test.jsonl"
    path.write_bytes(b'{"text": "a b"}\r\n{"text": "c d"}\r\n')
    assert [passage.word for passage in read_passages(path)] == [" b", " d"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty"),
        (b'{"text": "a b"}\n{"text": \n', "line 2: JSONDecodeError"),
        (b'{"words": "a b"}\n', "line 1: KeyError"),
        (b'["a b"]\n', "line 1: TypeError"),
        (b'{"text": "alone"}\n', "line 1: wanted a text of several words"),
        (b'{"text": 3}\n', "line 1: wanted a text"),
        (b'{"text": "a b"}\n{"text": "\xff b"}\n', "line 2: not UTF-8 at byte 11"),
        (b'{"text": "a b"}\n{"text": "a \\ud83d b"}\n', "line 2: JSONDecodeError: half of a surrogate pair"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = UPath(tmp_path) / "lambada_test.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=complaint):
        read_passages(path)
