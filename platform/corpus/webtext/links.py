"""The first stage: submissions or lists of URLs become one table of links, each URL once.

Files are read one by one, each to a part: the links that may stay by their submission and by the rules. Then the
parts are merged by URL in ranges of its hash, so that memory is bounded by a range; the score of a URL is the
maximum or the sum over its submissions. Order: by the hash of the URL. The next stage is `pages.py`.
"""

import datetime
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.webtext.arrow_columns import make_column, read_integers, wrap_integers
from ladder.platform.corpus.webtext.engine import Execution, make_parts
from ladder.platform.corpus.webtext.rules import UrlRules, load_rules
from ladder.platform.corpus.webtext.stages import SAMPLES_KEPT, Stage, Task, identify, whole_or_absent
from ladder.platform.corpus.webtext.submissions import LineCounts, read_submissions
from ladder.platform.corpus.webtext.url_lists import UrlRow, read_url_list
from ladder.platform.corpus.webtext.urls import canonicalize, hash_key
from ladder.platform.corpus.webtext.workers import Watch

ROWS_AT_ONCE = 3_000
SCORES = ("max", "sum")

SCHEMA = pa.schema(
    [
        ("hash", pa.uint64()),
        ("key", pa.string()),
        ("url", pa.string()),
        ("score", pa.int64()),
        ("created", pa.int64()),
        ("delay", pa.int64()),
        ("subreddit", pa.string()),
        ("id", pa.string()),
    ]
)
"""A submission that may stay: 64 bits of the hash of the URL's normal form, the form, the URL as written, karma (null
in a list without), seconds since 1970, seconds until the score was read, where it was posted, its name on Reddit."""


@dataclass(frozen=True, kw_only=True)
class LinkOptions:
    """Which links are taken."""

    score: str = "max"
    """`max`: the highest score of a URL's submissions counts, as the paper's wording fits best; `sum`: their sum."""
    min_score: int = 3
    """Lowest score that stays (GPT-2 paper, section 2.1); URLs of lists without scores stay."""
    before: str | None = "2018-01-01"
    """Links of this day (UTC) and later are left out, as WebText has none after December 2017; None: no limit."""
    over_18: bool = False
    """Whether submissions marked as not safe for work stay."""
    rules: UrlRules = field(default_factory=load_rules)
    """Rules for domains, extensions, parts of URLs and subreddits."""

    def __post_init__(self) -> None:
        if self.score not in SCORES:
            raise InputError(f"got --karma {self.score!r}, wanted {' or '.join(SCORES)}")
        if self.before is not None:
            try:
                datetime.date.fromisoformat(self.before)
            except ValueError as error:
                raise InputError(f"got --before {self.before!r}, wanted a day such as 2018-01-01") from error

    @property
    def before_seconds(self) -> float:
        """The limit in seconds since 1970; infinity where there is none."""
        if self.before is None:
            return float("inf")
        day = datetime.datetime.fromisoformat(self.before).replace(tzinfo=datetime.UTC)
        return day.timestamp()

    def to_json(self) -> dict[str, Any]:
        """The options as a recipe records them, rules by their sha256."""
        return {**{name: value for name, value in vars(self).items() if name != "rules"}, "rules": self.rules.sha256}


@dataclass(frozen=True, kw_only=True)
class LinkFile:
    """The work of one part."""

    file: UPath
    """A dump of submissions or a list of URLs."""
    is_list: bool
    """Whether it is a list of URLs."""
    options: LinkOptions
    """Which links are taken."""


def find_links(
    folder: UPath, submissions: Sequence[UPath], lists: Sequence[UPath], options: LinkOptions, execution: Execution
) -> dict[str, Any]:
    """Runs the stage; what its `stage.json` holds.

    InputError for files that cannot be read, and if no link is left.
    """
    from ladder.platform.corpus.webtext.link_merge import merge_links

    files = [(file, False) for file in sorted(submissions, key=str)] + [(file, True) for file in sorted(lists, key=str)]
    if not files:
        raise InputError("no links: give --submissions RS_*.zst, or --urls with lists of URLs")
    stage = Stage(name="links", folder=folder, recipe={"stage": "links", "version": 1, **options.to_json()})
    identities = [identify(file) for file, _ in files]
    parts = Stage(name="links", folder=folder / "files", recipe=stage.recipe)
    tasks = [
        parts.task(index, LinkFile(file=file, is_list=is_list, options=options), identity)
        for index, ((file, is_list), identity) in enumerate(zip(files, identities, strict=True))
    ]
    n_bytes = sum(identity["bytes"] or 0 for identity in identities)
    make_parts("links", read_links, tasks, execution, n_bytes=n_bytes)
    read = parts.finish(tasks, inputs=identities)
    return merge_links(stage, read, [task.path(".arrow") for task in tasks], options)


def read_links(task: Task, watch: Watch) -> dict[str, Any]:
    """Makes one part: the submissions of a file that may stay; its counts, errors and samples."""
    spec: LinkFile = task.spec
    watch.report(str(spec.file))
    counts, lines = Counter[str](), LineCounts()
    selector = _Selector(spec.options, counts)
    rows = selector.from_list(read_url_list(spec.file, lines)) if spec.is_list else selector.from_dump(spec.file, lines)
    task.folder.mkdir(parents=True, exist_ok=True)
    _write_rows(task.path(".arrow"), rows)
    counts.update({"lines": lines.lines, "empty": lines.empty, "broken": lines.errors.n})
    return {"counts": dict(counts), "errors": lines.errors.first, "samples": selector.samples}


class _Selector:
    """Decides for each submission whether its link may stay, and counts why not."""

    def __init__(self, options: LinkOptions, counts: Counter[str]) -> None:
        self._options = options
        self._before = options.before_seconds
        self._counts = counts
        self.samples: dict[str, list[str]] = {}

    def from_dump(self, file: UPath, lines: LineCounts) -> Iterator[tuple[Any, ...]]:
        """The rows of a dump of submissions."""
        for batch in read_submissions(file, lines):
            self._counts["submissions"] += len(batch)
            for submission in batch:
                created = _seconds(submission.created_utc)
                url = submission.url or ""
                if submission.over_18 and not self._options.over_18:
                    self._drop("over_18", url)
                elif created is not None and created >= self._before:
                    self._drop("late", url)
                elif created is None and self._before != float("inf"):
                    self._drop("no_date", url)
                elif submission.is_self or _is_self_domain(submission.domain):
                    self._drop("self", url)
                elif (rule := self._options.rules.find_subreddit(submission.subreddit or "")) is not None:
                    self._drop(rule, url)
                elif (key := self._key(url)) is not None:
                    retrieved = _seconds(submission.retrieved_on)
                    delay = None if retrieved is None or created is None else int(retrieved - created)
                    whole = None if created is None else int(created)
                    yield hash_key(key), key, url, submission.score, whole, delay, submission.subreddit, submission.id

    def from_list(self, rows: Iterable[UrlRow]) -> Iterator[tuple[Any, ...]]:
        """The rows of a list of URLs; what the list does not say is null."""
        for row in rows:
            self._counts["submissions"] += 1
            if row.created is not None and row.created >= self._before:
                self._drop("late", row.url)
            elif (key := self._key(row.url)) is not None:
                yield hash_key(key), key, row.url, row.score, row.created, None, None, None

    def _key(self, url: str) -> str | None:
        """The normal form of a URL that may stay by the rules; counts the reason of any other."""
        key = canonicalize(url)
        if key is None:
            self._drop("bad_url", url)
            return None
        rule = self._options.rules.find(key)
        if rule is not None:
            self._drop(rule, url)
            return None
        self._counts["links"] += 1
        return key

    def _drop(self, reason: str, url: str) -> None:
        self._counts[reason] += 1
        kept = self.samples.setdefault(reason, [])
        if len(kept) < SAMPLES_KEPT:
            kept.append(url[:300])


def _seconds(value: int | float | str | None) -> float | None:
    """A time of any year's type as seconds since 1970; None where it is absent or no number."""
    try:
        return None if value is None else float(value)
    except ValueError:
        return None


def _is_self_domain(domain: str | None) -> bool:
    return domain is not None and domain.startswith("self.")


def _write_rows(path: UPath, rows: Iterator[tuple[Any, ...]]) -> None:
    """Writes rows to an Arrow file, ROWS_AT_ONCE in memory, sorted by hash within each such group as the merge wants.

    Not to parquet, whose writer and reader hold a description of every group until the file ends.
    """
    options = pa.ipc.IpcWriteOptions(compression="zstd", use_threads=False)
    with whole_or_absent(path) as file, pa.ipc.new_file(file, SCHEMA, options=options) as writer:
        while group := list(itertools.islice(rows, ROWS_AT_ONCE)):
            writer.write_table(_table_of(group))


def _table_of(group: list[tuple[Any, ...]]) -> pa.Table:
    """Rows as a table sorted by hash. By columns is twice as fast as by rows."""
    columns = zip(*group, strict=True)
    arrays = [make_column(values, field.type) for field, values in zip(SCHEMA, columns, strict=True)]
    order = np.argsort(read_integers(arrays[0])[0], kind="stable")
    return pa.Table.from_arrays(arrays, schema=SCHEMA).take(wrap_integers(order))
