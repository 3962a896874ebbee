"""CoLA (Warstadt et al. 2018) by GPT-1's zero-shot heuristic: is the average log-probability of a sentence's tokens
above a threshold (Radford et al. 2018, section 5)?

The paper does not print how its threshold was chosen. Here it is the one of the highest coefficient on the train split:
the best one on the scored sentences finds up to .07 in noise. Beside it stands the area under the curve, which has no
threshold and far less noise.
"""

import numpy as np
import numpy.typing as npt
from scipy import stats
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.store import Corpus
from ladder.platform.evaluation.benchmark import Benchmark, Setting, benchmark_folder
from ladder.platform.evaluation.estimates import Estimate
from ladder.platform.evaluation.files.published import BenchmarkFile
from ladder.platform.evaluation.item_scores import ItemScores
from ladder.platform.evaluation.kinds.rolling_texts import separate_nats
from ladder.platform.evaluation.text.lines import read_text_lines

Numbers = npt.NDArray[np.float64]

DEV, TRAIN = (
    BenchmarkFile(
        name=f"{split}.tsv",
        sha256=None,
        address="https://dl.fbaipublicfiles.com/glue/data/CoLA.zip",
        member=f"CoLA/{split}.tsv",
        archive_sha256="f212fcd832b8f7b435fb991f101abf89f96b933ab400603bf198960dfc32cbff",
    )
    for split in ("dev", "train")
)
COLUMNS = 4
"""Source, label, the author's mark, sentence."""


def read_sentences(path: UPath) -> tuple[list[str], Numbers]:
    """Sentences and labels, 1 where acceptable; InputError names the line that is wrong."""
    sentences, labels = [], []
    for number, line in enumerate(read_text_lines(path), start=1):
        columns = line.split("\t")
        if len(columns) != COLUMNS or columns[1] not in ("0", "1") or not columns[3].strip():
            raise InputError(f"{path}, line {number}: wanted source, 0 or 1, mark and sentence, got {line!r:.80}")
        sentences.append(columns[3].strip())
        labels.append(float(columns[1]))
    return sentences, np.array(labels)


def coefficient(hits: Numbers, labels: Numbers) -> float:
    """Matthews' correlation of answers and labels, both 0 or 1; 0 where either is constant."""
    spread = hits.std() * labels.std()
    return float(((hits - hits.mean()) * (labels - labels.mean())).mean() / spread) if spread > 0 else 0.0


def best_threshold(values: Numbers, labels: Numbers) -> float:
    """The threshold of the highest coefficient, half way between two values."""
    order = np.argsort(values, kind="stable")
    values, labels = values[order], labels[order]
    n, positive = len(values), labels.sum()
    above = np.arange(n - 1, 0, -1, dtype=np.float64)  # those above each gap
    right = positive - np.cumsum(labels)[:-1]
    spread = np.sqrt(np.maximum(positive * (n - positive) * above * (n - above), 1e-12))
    found = np.where(np.diff(values) > 0, (n * right - positive * above) / spread, -np.inf)
    gap = int(found.argmax())
    return float((values[gap] + values[gap + 1]) / 2)


def estimate_coefficient(hits: Numbers, labels: Numbers) -> Estimate:
    """The coefficient with the jackknife's standard error."""
    value, n = coefficient(hits, labels), len(labels)
    if n < 3:
        return Estimate(value=value, standard_error=None)
    kinds, which = np.unique(2 * hits + labels, return_inverse=True)
    rows = [int(np.flatnonzero(which == kind)[0]) for kind in range(len(kinds))]
    without = np.array([coefficient(np.delete(hits, row), np.delete(labels, row)) for row in rows])[which]
    error = float(np.sqrt((n - 1) / n * np.square(without - without.mean()).sum()))
    return Estimate(value=value, standard_error=error)


def estimate_area(values: Numbers, labels: Numbers) -> Estimate:
    """The area under the curve with DeLong's standard error (DeLong, DeLong and Clarke-Pearson 1988)."""
    right, wrong = values[labels == 1], values[labels == 0]
    if min(len(right), len(wrong)) < 2:
        return Estimate(value=0.5, standard_error=None)
    ranks = stats.rankdata(np.concatenate([right, wrong]))
    of_right = (ranks[: len(right)] - stats.rankdata(right)) / len(wrong)  # share of the wrong below each
    of_wrong = 1 - (ranks[len(right) :] - stats.rankdata(wrong)) / len(right)
    error = np.sqrt(of_right.var(ddof=1) / len(right) + of_wrong.var(ddof=1) / len(wrong))
    return Estimate(value=float(of_right.mean()), standard_error=float(error))


def score(setting: Setting) -> list[ItemScores]:
    """The coefficient at the threshold of the train split, and the area."""
    folder = benchmark_folder(setting.storage, "cola")
    train, of_train = read_sentences(folder / TRAIN.name)
    sentences, labels = read_sentences(folder / DEV.name)
    sentences, labels = sentences[: setting.protocol.limit], labels[: setting.protocol.limit]
    values, known = (-nats / tokens for nats, tokens in (separate_nats(setting, part) for part in (sentences, train)))
    threshold = best_threshold(known, of_train)
    hits = (values > threshold).astype(np.float64)
    common = {
        "benchmark": "cola",
        "protocol": "average token log-probability of the sentence, zero-shot",
        "direction": "higher",
        "counted": np.ones(len(labels)),
        "totals": {"acceptable": labels, "above": hits},
    }
    return [
        ItemScores(
            metric="mcc",
            unit="Matthews' correlation coefficient",
            description=f"a sentence counts as acceptable above {threshold:.4f}, the best threshold on the train split",
            estimate=lambda kept: estimate_coefficient(hits[kept], labels[kept]),
            chance=0.0,
            **common,  # type: ignore[arg-type]
        ),
        ItemScores(
            metric="auc",
            unit="area under the curve",
            description="how often an acceptable sentence has the higher log-probability of the two",
            estimate=lambda kept: estimate_area(values[kept], labels[kept]),
            chance=0.5,
            **common,  # type: ignore[arg-type]
        ),
    ]


def read_texts(storage: UPath, corpus: Corpus | None) -> list[str]:
    """The scored sentences."""
    return read_sentences(benchmark_folder(storage, "cola") / DEV.name)[0]


COLA = Benchmark(
    name="cola",
    source="Corpus of Linguistic Acceptability, dev split: 1,043 sentences",
    score=score,
    reads=frozenset({"limit", "window", "stride"}),
    texts=read_texts,
    citation="Warstadt et al. 2018, Neural network acceptability judgments, arXiv:1805.12471; heuristic: Radford et "
    "al. 2018, Improving language understanding by generative pre-training, section 5",
    files=(DEV, TRAIN),
)
