"""A file of one's own becomes a benchmark, travels, and says what is wrong with it."""

import pickle
from pathlib import Path

import pytest
from upath import UPath

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.tokenizer import load_tokenizer
from ladder.platform.evaluation.evaluate import evaluate
from ladder.platform.evaluation.own.file import read_own_file
from ladder.platform.evaluation.registry import definitions

LINES = """{"name": "capitals", "metric": ["accuracy", "accuracy_per_token"], "citation": "mine"}
{"prompt": "The capital of France is", "choices": ["Paris", "Rome"], "answer": 0}

{"prompt": "The capital of Italy is", "choices": ["Paris", "Rome"], "answer": "Rome"}
"""

PYTHON = '''"""Sums of two digits."""
from ladder.platform.evaluation.own.rows import benchmark_of_rows

ROWS = [{"prompt": f"{a} + {b} =", "choices": [str(a + b), str(a - b)], "answer": 0} for a in (5, 7) for b in (2, 3)]
BENCHMARK = benchmark_of_rows("sums", ROWS)
'''


def write(folder: Path, name: str, content: str) -> str:
    (folder / name).write_bytes(content.encode())
    return str(folder / name)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_json_lines_are_a_benchmark(byte_gpt2: GPT2, tmp_path: Path, end: str) -> None:
    path = write(tmp_path, "mine.jsonl", LINES.replace("\n", end))
    scores = evaluate(byte_gpt2, load_tokenizer("bytes"), [path], storage=UPath(tmp_path))
    assert [(score.name, score.count) for score in scores] == [
        ("capitals/accuracy", 2),
        ("capitals/accuracy_per_token", 2),
    ]
    assert scores[0].scored_with["definition"] == read_own_file(path).fingerprint


def test_a_python_file_is_a_benchmark_and_travels_as_text(byte_gpt2: GPT2, tmp_path: Path) -> None:
    path = write(tmp_path, "sums.py", PYTHON)
    file = read_own_file(path)
    Path(path).unlink()
    there = pickle.loads(pickle.dumps(file))
    assert there.benchmark().name == "sums"
    assert definitions(("sums", "lambada"), (there,)) == {"sums": file.fingerprint, "lambada": ""}
    assert there.benchmark().definition == file.fingerprint


def test_a_python_file_may_have_a_score_of_its_own_whose_errors_name_its_line(byte_gpt2: GPT2, tmp_path: Path) -> None:
    content = """from ladder.platform.evaluation.benchmark import Benchmark


def score(setting):
    return [1 / 0]


BENCHMARK = Benchmark(name="broken", source="", score=score, citation="")
"""
    path = write(tmp_path, "broken.py", content)
    with pytest.raises(InputError, match="broken.py, line 5: ZeroDivisionError: division by zero"):
        evaluate(byte_gpt2, load_tokenizer("bytes"), [path], storage=UPath(tmp_path))
    path = write(tmp_path, "broken.py", content.replace("1 / 0", "1"))
    with pytest.raises(InputError, match="broken.py: score gave a list, wanted a list of ItemScores"):
        evaluate(byte_gpt2, load_tokenizer("bytes"), [path], storage=UPath(tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.jsonl", "{\n", "a.jsonl, line 1: not JSON"),
        ("a.jsonl", "[]\n", "a.jsonl, line 1: wanted a JSON object"),
        ("a.jsonl", '{"text": "a"}\n', 'a.jsonl, line 1: wanted a first line such as {"name": "capitals"}'),
        ("a.jsonl", '{"name": "a", "colour": 1}\n', "line 1: wanted a first line .* keys of name, metric, citation"),
        ("a.jsonl", '{"name": "a"}\n', "a.jsonl: benchmark a has no rows"),
        ("a.jsonl", '{"name": "a"}\n\n{"text": 1}\n', "a.jsonl, line 3: wanted text as 'text', got 1"),
        ("a.jsonl", '{"name": "a", "metric": "f1"}\n{"text": "a"}\n', "a.jsonl: .*unknown metric f1"),
        ("a.jsonl", '{"name": "a b"}\n{"text": "a"}\n', "a.jsonl: name of a benchmark: got 'a b'"),
        ("a.py", "x = (\n", "a.py, line 1"),
        ("a.py", "x = 1\ny = x / 0\n", "a.py, line 2: ZeroDivisionError"),
        ("a.py", "x = 1\n", "a.py defines no BENCHMARK"),
        ("a.py", "BENCHMARK = 1\n", "a.py has a BENCHMARK that is a int: wanted a Benchmark"),
        ("a.py", PYTHON.replace('"choices": [str(a + b), str(a - b)], ', ""), "a.py, line 5: benchmark sums, row 1"),
    ],
)
def test_a_wrong_file_is_named_with_its_line(tmp_path: Path, name: str, content: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        read_own_file(write(tmp_path, name, content)).benchmark()


def test_a_file_that_is_absent_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no benchmark file at .*none.jsonl"):
        read_own_file(str(tmp_path / "none.jsonl"))
    (tmp_path / "latin.jsonl").write_bytes(b'{"name": "\xe9"}\n')
    with pytest.raises(InputError, match="latin.jsonl, line 1: not UTF-8"):
        read_own_file(str(tmp_path / "latin.jsonl"))
