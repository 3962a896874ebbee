"""A multiple-choice data set as data: how its file is read, what is compared, and the benchmark that follows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from upath import UPath

from ladder.platform.corpus.store import Corpus
from ladder.platform.evaluation.benchmark import Benchmark, Setting, benchmark_folder
from ladder.platform.evaluation.files.published import BenchmarkFile
from ladder.platform.evaluation.item_scores import ItemScores
from ladder.platform.evaluation.kinds.choice import (
    Compared,
    Question,
    ask,
    name_shots,
    score_accuracy,
    score_choices,
    warn_of_count,
)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """When a question counts as answered rightly."""

    compared: Compared
    """The number that decides: the choice where it is least is chosen."""
    description: str
    """The same in words, for a caption."""


@dataclass(frozen=True, kw_only=True)
class ChoiceTask:
    """A data set of questions with choices."""

    name: str
    """Name of the benchmark."""
    source: str
    """What the text is: data set, version and split."""
    citation: str
    """The paper that the data set is from, or the protocol."""
    file: BenchmarkFile
    """The file of the questions that are scored."""
    read: Callable[[UPath], list[Question]]
    """The questions of a file; InputError names the line that is wrong."""
    manner: str
    """What a prompt is made of and what is compared, for the protocol's words."""
    rules: Mapping[str, Rule]
    """Metric to its rule."""
    examples: BenchmarkFile | None = None
    """The file of another split that solved examples are drawn from; None where a prompt has none."""
    examples_split: str = ""
    """Name of that split."""
    n_questions: int | None = None
    """Questions of the published file, where no checksum says whether it is whole."""
    version: int = 1
    """As `Benchmark.version`."""
    paper_scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """As `Benchmark.paper_scores`."""
    on_request: bool = False
    """As `Benchmark.on_request`."""

    def benchmark(self) -> Benchmark:
        """The benchmark of the data set."""
        return Benchmark(
            name=self.name,
            source=self.source,
            score=self.score,
            version=self.version,
            reads=frozenset({"limit", "shots", "seed"} if self.examples else {"limit"}),
            texts=self.read_texts,
            citation=self.citation,
            files=(self.file,),
            example_files=(self.examples,) if self.examples else (),
            paper_scores=self.paper_scores,
            on_request=self.on_request,
        )

    def score(self, setting: Setting) -> list[ItemScores]:
        """Each rule's accuracy over all questions, and over those of each group that the file has."""
        questions = self._ask(setting)
        scored = score_choices(setting, questions)
        groups = np.array([question.group for question in questions])
        parts = {"": np.ones(len(questions))} | {f"_{name}": groups == name for name in dict.fromkeys(groups) if name}
        return [
            score_accuracy(
                questions,
                scored,
                compared=rule.compared,
                benchmark=self.name,
                metric=metric + suffix,
                counted=counted,
                protocol=f"{self.manner}, {self._describe_shots(setting)}",
                description=rule.description,
            )
            for metric, rule in self.rules.items()
            for suffix, counted in parts.items()
        ]

    def read_texts(self, storage: UPath, corpus: Corpus | None) -> list[str]:
        """The text of each question."""
        questions = self.read(benchmark_folder(storage, self.name) / self.file.name)
        return [question.solved if question.about is None else question.about for question in questions]

    def _describe_shots(self, setting: Setting) -> str:
        if self.examples is None:
            return "zero-shot"
        return name_shots(setting, self.examples_split)

    def _ask(self, setting: Setting) -> Sequence[Question]:
        folder, examples = benchmark_folder(setting.storage, self.name), self.examples
        questions = self.read(folder / self.file.name)
        if self.n_questions is not None:
            warn_of_count(folder / self.file.name, len(questions), self.n_questions)
        if examples is None:
            return questions[: setting.protocol.limit]
        return ask(setting, questions, lambda: self.read(folder / examples.name))
