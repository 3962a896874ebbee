"""One word means one thing on every command, and one thing has one word."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from ladder.platform.command.main import COMMANDS, cli

FOLDER = Path(__file__).parents[3] / "platform" / "command"

KINDS = {
    # `ladder fit` has one score, `ladder report` several, so that there each names its own.
    "--chance": {("fit", "float"), ("report", "COLUMN=VALUE")},
    "--score": {("fit", "COLUMN"), ("plan", "COLUMN"), ("report", "COLUMN[=KIND]")},
    # The page may be a URI, and without a FILE it goes beside the report.
    "--save": {("explore", "[FILE]"), ("fit", "path")},
}
"""Options that look different in two commands and mean the same, with the reason."""


MEANINGS = {
    "--activation-checkpointing": "compute blocks again in the backward pass",
    "--address": "cluster",
    "--benchmarks": "benchmarks",
    "--bootstrap": "refits",
    "--budget": "a budget|budget to plan",
    "--chance": "the score of guessing",
    "--cluster": "equal values",
    "--data": "folder that holds the tasks' folders",
    "--device": "what to compute on",
    "--drop-highest": "leave out the k",
    "--flops": "column of c",
    "--group-by": "each value",
    "--law": "law",
    "--licence": "licence",
    "--overwrite": "replace",
    "--params": "column of n",
    "--precision": "precision of matrix products",
    "--processes": "processes",
    "--retry-failed": "failed",
    "--samples": "item",
    "--save": "write",
    "--score": "score",
    "--seed": "seed",
    "--seeds": "seeds of",
    "--storage": "folder or uri",
    "--strategy": "what each of several workers holds",
    "--table": "runs",
    "--tasks": "tasks",
    "--tokens": "column of d",
    "--tolerance": "width in ln c of one budget",
    "--tracking": "mlflow",
    "--train-examples": "training examples",
    "--webtext-domains": "openai's published domains.txt",
    "--where": "only these rows",
}
"""Options whose help differs between commands, with words that it has in all of them."""


def walk(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """A command and those under it, with their names."""
    if not isinstance(command, click.Group):
        yield name, command
        return
    context = click.Context(command)
    for sub in command.list_commands(context):
        found = command.get_command(context, sub)
        assert found is not None
        yield from walk(found, f"{name} {sub}".strip())


@pytest.fixture(scope="module")
def commands() -> dict[str, click.Command]:
    """Every command by its words."""
    return dict(walk(cli, ""))


def options_of(command: click.Command) -> list[click.Option]:
    return [one for one in command.params if isinstance(one, click.Option)]


def kind_of(option: click.Option) -> str:
    """What is to be typed after an option."""
    if option.is_flag:
        return "nothing"
    names = {"integer range": "integer", "float range": "float", "directory": "path", "file": "path"}
    return option.metavar or names.get(option.type.name, option.type.name)


def test_the_walk_finds_every_command(commands: dict[str, click.Command]) -> None:
    assert {name.split()[0] for name in commands} == set(COMMANDS)
    assert {"corpus build", "corpus list", "corpus show", "corpus webtext"} <= set(commands)


def test_an_option_has_one_name_and_takes_the_same_everywhere(commands: dict[str, click.Command]) -> None:
    kinds: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for name, command in commands.items():
        for option in options_of(command):
            assert len(option.opts) == 1, f"{name}: {option.opts} are two words for one thing"
            kinds[option.opts[0]].add((name, kind_of(option)))
    different = {word: found for word, found in kinds.items() if len({kind for _, kind in found}) > 1}
    assert different == KINDS


def test_an_option_means_the_same_everywhere(commands: dict[str, click.Command]) -> None:
    helps: dict[str, set[str]] = defaultdict(set)
    for command in commands.values():
        for option in options_of(command):
            helps[option.opts[0]].add(re.sub(r"\s*\[default.*", "", option.help or "").lower())
    assert {word for word, texts in helps.items() if len(texts) > 1} == set(MEANINGS)
    for word, meaning in MEANINGS.items():
        assert all(re.search(meaning, text) for text in helps[word]), word


def test_choices_of_one_option_are_parts_of_one_list(commands: dict[str, click.Command]) -> None:
    choices: dict[str, list[frozenset[str]]] = defaultdict(list)
    for command in commands.values():
        for option in options_of(command):
            if isinstance(option.type, click.Choice):
                choices[option.opts[0]].append(frozenset(map(str, option.type.choices)))
    for word, found in choices.items():
        assert max(found, key=len) == frozenset().union(*found), word


def test_every_option_and_command_says_what_it_is_for(commands: dict[str, click.Command]) -> None:
    for name, command in commands.items():
        assert command.help and "Example" in command.help + (command.epilog or ""), name
        for option in options_of(command):
            assert option.help, f"{name} {option.opts[0]}"


def test_help_fits_a_terminal_of_80_columns(commands: dict[str, click.Command]) -> None:
    for name, command in commands.items():
        context = click.Context(command, info_name=f"ladder {name}", terminal_width=80)
        assert [line for line in command.get_help(context).splitlines() if len(line) > 80] == [], name


def strange_words(commands: dict[str, click.Command], line: str) -> set[str]:
    """The options in what follows the word `ladder` that its command does not have; empty where it names none."""
    name = max((one for one in commands if f"{line} ".startswith(f"{one} ")), key=len, default=None)
    if name is None:
        return set()
    there = {word for option in options_of(commands[name]) for word in (*option.opts, *option.secondary_opts)}
    return set(re.findall(r"(?<![\w/-])--[a-z][a-z0-9-]*", line)) - there - {"--help"}


def test_examples_use_words_that_exist(commands: dict[str, click.Command]) -> None:
    for name, command in commands.items():
        text = f"{command.help}\n{command.epilog or ''}".replace("\\\n", " ")
        lines = re.findall(r"^ +ladder (.+)$", text, re.MULTILINE)
        assert any(line.startswith(name) for line in lines), name
        assert not {line: strange for line in lines if (strange := strange_words(commands, line))}


def test_documents_use_words_that_exist(commands: dict[str, click.Command]) -> None:
    root = FOLDER.parents[1]
    paths = [root / "README.md", root / "Makefile", root / "cluster.yaml", *(root / "docs").glob("*.md")]
    for path in paths:
        text = path.read_text().replace("\\\n", " ")
        lines = re.findall(r"\bladder ([a-z][^`\n#]*)", text) if path.name != "log.md" else []
        assert not {line: strange for line in lines if (strange := strange_words(commands, line))}, path.name


def test_json_is_written_in_one_place() -> None:
    """`echo_json` and `json_line` know no NaN; nothing else in the commands writes JSON."""
    for path in FOLDER.glob("*.py"):
        calls = [ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        assert path.name == "options.py" or not {"json.dumps", "json.dump"} & set(calls), path.name
