"""Every number of the card, computed again from the files by other means."""

import gzip
import json
import math
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl
import pytest
import zstandard
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.build import BuildOptions, build_corpus
from ladder.platform.corpus.store import Corpus, open_corpus
from ladder.platform.corpus.webtext.card import make_card, write_card
from ladder.platform.corpus.webtext.card_overlap import overlap_with
from ladder.platform.corpus.webtext.corpus import CorpusOptions
from ladder.platform.corpus.webtext.domains import read_published
from ladder.platform.corpus.webtext.duplicates import DuplicateOptions
from ladder.platform.corpus.webtext.engine import Execution
from ladder.platform.corpus.webtext.pipeline import WebtextOptions, run_webtext


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> UPath:
    return UPath(tmp_path_factory.mktemp("card"))


@pytest.fixture(scope="module")
def corpus(webtext: UPath, storage: UPath, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The real sample with a tenth held out, and twins of 1 in 4 texts near .6, which a threshold of .8 leaves."""
    options = WebtextOptions(
        submissions=[webtext / "RS_2017_made_up.zst"],
        pages=[webtext / "article_extraction_benchmark.warc.gz"],
        corpus=CorpusOptions(build=BuildOptions(tokenizer="bytes", heldout=0.1, progress=False, workers=1)),
        execution=Execution(workers=1, progress=False),
    )
    made = run_webtext(storage, "web", options)
    assert made is not None
    return made


@pytest.fixture(scope="module")
def card(corpus: Corpus, webtext: UPath) -> dict[str, Any]:
    return make_card(corpus, published=read_published(webtext / "webtext_top_domains.txt"), overlap=None)


@pytest.fixture(scope="module")
def rows(corpus: Corpus) -> list[dict[str, Any]]:
    return pl.read_parquet(str(corpus.folder / "documents.parquet")).to_dicts()


def test_the_funnel_adds_up_from_lines_to_documents(card: dict[str, Any], corpus: Corpus, webtext: UPath) -> None:
    for step in card["funnel"]:
        assert step["entered"] - sum(step["reasons"].values()) == step["left"], step
    for before, after in zip(card["funnel"], card["funnel"][1:], strict=False):
        assert before["left"] == after["entered"]
    expected = pl.read_csv(str(webtext / "RS_2017_made_up.expected.tsv"), separator="\t")
    kinds = dict(expected.group_by("kind").len().rows())
    funnel = {step["name"]: step for step in card["funnel"]}
    posted = funnel["links that may stay"]
    assert posted["reasons"]["over_18"] == kinds["nsfw"] and posted["reasons"]["late"] == kinds["late"]
    # Of the pages of the WARC those stay that are good, spelt in variants, or voted down once and up once.
    assert funnel["enough karma"]["reasons"] == {"low_score": kinds["low"] + kinds["split"]}
    assert funnel["text of the pages"]["left"] == kinds["good"] + kinds["variants"] + kinds["neg"]
    assert funnel["to train on"]["left"] == corpus.splits["train"].documents


def test_sizes_and_lengths_are_those_of_the_shards(card: dict[str, Any], corpus: Corpus) -> None:
    lengths: list[int] = []
    for name, split in card["splits"].items():
        data = b"".join((corpus.folder / shard.name).read_bytes() for shard in corpus.splits[name].shards)
        tokens = [int.from_bytes(data[place : place + 2], "little") for place in range(0, len(data), 2)]
        ends = [place for place, token in enumerate(tokens) if token == 256]
        own = [end - start for start, end in zip([-1, *ends[:-1]], ends, strict=True)]
        texts = bytes(token for token in tokens if token != 256)
        words = sum(len(bytes(tokens[end - n + 1 : end]).decode().split()) for n, end in zip(own, ends, strict=True))
        assert (split["documents"], split["tokens"], split["bytes"], split["words"]) == (
            len(own),
            len(tokens),
            len(texts),
            words,
        )
        assert split["characters"] == len(texts.decode())
        assert split["bytes_per_token"] == 1  # the tokens are bytes, and the end of text stands for none
        lengths += own
    lengths.sort()
    assert card["lengths"]["mean"] == pytest.approx(sum(lengths) / len(lengths))
    assert card["lengths"]["short"] == sum(length < 128 for length in lengths)
    deciles = card["lengths"]["deciles"]
    assert (deciles[0], deciles[-1]) == (lengths[0], lengths[-1])
    for share, value in enumerate(deciles):
        assert lengths[max(0, math.floor(share / 10 * 118))] <= value <= lengths[math.ceil(share / 10 * 118)]


def test_domains_languages_and_years_are_counted(
    card: dict[str, Any], rows: list[dict[str, Any]], webtext: UPath
) -> None:
    import tldextract

    extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    found = [extract(row["url"]) for row in rows]
    domains = Counter(f"{each.domain}.{each.suffix}" for each in found)
    names = Counter(each.domain for each in found)
    assert {row["domain"]: row["documents"] for row in card["domains"]["by_documents"]}.items() <= domains.items()
    assert card["domains"]["domains"] == len(domains)
    entropy = -sum(n / 119 * math.log(n / 119) for n in domains.values())
    assert card["domains"]["effective_domains"] == pytest.approx(math.exp(entropy))
    tokens = Counter[str]()
    for each, row in zip(found, rows, strict=True):
        tokens[f"{each.domain}.{each.suffix}"] += row["tokens"]
    assert [row["tokens"] for row in card["domains"]["by_tokens"]] == [n for _, n in tokens.most_common(50)]
    published = dict(
        reversed(line.split()) for line in (webtext / "webtext_top_domains.txt").read_text().splitlines()[::-1]
        if len(line.split()) == 2
    )  # fmt: skip
    known = [name for name in names if name in published]
    compared = card["domains"]["webtext"]
    assert (compared["known"], compared["published"], compared["compared"]) == (len(known), 999, len(names))
    assert compared["documents_known"] == pytest.approx(sum(names[name] for name in known) / 119)
    from scipy.stats import spearmanr

    expected = spearmanr([names[name] for name in known], [int(published[name]) for name in known]).statistic
    assert compared["rank_correlation"] == pytest.approx(expected)
    languages = Counter(row["language"] for row in rows)
    assert {row["value"]: row["documents"] for row in card["languages"]} == languages
    assert card["years"] == [{"value": 2017, "documents": 119}]
    scores = sorted(row["score"] for row in rows)
    assert (card["scores"][0], card["scores"][-1]) == (scores[0], scores[-1])
    assert card["delay_days"][5] == pytest.approx(sorted(row["delay"] for row in rows)[59] / 86400)


def test_samples_are_texts_of_the_corpus(card: dict[str, Any], corpus: Corpus, rows: list[dict[str, Any]]) -> None:
    assert len(card["documents"]) == 20
    by_url = {row["url"]: row for row in rows}
    text = pl.concat(
        [
            pl.read_parquet(str(path))
            for path in sorted((corpus.folder.parent.parent / "webtext" / "web" / "text").glob("part-*.parquet"))
        ]
    )
    texts = dict(text.select("url", "text").rows())
    for document in card["documents"]:
        row = by_url[document["url"]]
        assert (document["split"], document["tokens"]) == (row["split"], row["tokens"])
        shown = document["text"].rstrip("\ufffd")
        assert shown and texts[document["url"]].startswith(shown)
    assert card["left_out"]["links"]["over_18"] and len(card["left_out"]["links"]["late"]) == 5
    assert ":41: no submission" in card["errors"]["links"][0]


def twins(tmp_path: Path, threshold: float | None) -> Corpus:
    """200 texts, of which every fourth has twins at similarities near .9 and .6."""
    lines = []
    for number in range(200):
        words = [f"w{number}x{place}" for place in range(200)]
        texts = [words]
        if number % 4 == 0:
            texts += [
                [*words[:-8], *[f"a{number}y{n}" for n in range(8)]],
                [*words[:150], *[f"b{number}y{n}" for n in range(50)]],
            ]
        lines += [{"url": f"http://{number}.example/{twin}", "text": " ".join(text)} for twin, text in enumerate(texts)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = WebtextOptions(
        pages=[UPath(tmp_path / "texts.jsonl")],
        duplicates=DuplicateOptions(threshold=threshold),
        corpus=CorpusOptions(build=BuildOptions(tokenizer="bytes", heldout=0.3, progress=False, workers=1)),
        execution=Execution(workers=1, progress=False),
    )
    made = run_webtext(UPath(tmp_path), "twins", options)
    assert made is not None
    return made


@pytest.mark.parametrize("threshold", [0.95, 0.8])
def test_leakage_is_what_pairs_across_the_split_say(tmp_path: Path, threshold: float) -> None:
    corpus = twins(tmp_path, threshold)
    card = make_card(corpus, published=None, overlap=None)
    documents = pl.read_parquet(str(corpus.folder / "documents.parquet")).to_dicts()
    texts = {line["url"][7:]: line["text"].split() for line in map(json.loads, (tmp_path / "texts.jsonl").open())}
    grams = {key: {tuple(words[n : n + 5]) for n in range(len(words) - 4)} for key, words in texts.items()}
    split = {row["key"]: row["split"] for row in documents}
    expected = {0.8: 0, 0.5: 0}
    for key, side in split.items():
        others = [key[:-1] + twin for twin in "012" if key[:-1] + twin in split and key[-1] != twin]
        alike = [
            len(grams[key] & grams[other]) / len(grams[key] | grams[other])
            for other in others
            if side == "heldout" and split[other] == "train"
        ]
        for least in expected:
            expected[least] += any(similarity >= least for similarity in alike)
    found = {row["similarity"]: row for row in card["leakage"]}
    assert found[0.8]["documents"] == expected[0.8]
    assert 0.5 * expected[0.5] <= found[0.5]["documents"] <= expected[0.5] and expected[0.5] > 5
    n_heldout = sum(side == "heldout" for side in split.values())
    assert found[0.5]["share"] == found[0.5]["documents"] / n_heldout
    assert (expected[0.8] == 0) == (threshold == 0.8)
    if threshold == 0.8:
        assert card["duplicates"]["clusters"] == [{"value": 2, "documents": 50}]
        assert card["duplicates"]["counts"]["near"] == 50
    pairs = pl.read_parquet(str(corpus.folder / "pairs.parquet"))
    removed = pl.read_parquet(str(corpus.folder / "removed.parquet"))
    counts = card["duplicates"]["counts"]
    assert card["duplicates"]["threshold"] == threshold
    assert (counts["candidates"], counts["near"], counts["exact"]) == (len(pairs), len(removed), 0)
    assert (counts["documents"], counts["kept"]) == (len(texts), len(documents))
    assert counts["pairs"] == sum(similarity >= threshold for similarity in pairs["similarity"])
    for example in card["duplicates"]["examples"]:
        one, other = (grams[example[name]["url"].removeprefix("http://")] for name in ("one", "other"))
        assert example["similarity"] == pytest.approx(len(one & other) / len(one | other))


class _Page(HTMLParser):
    """Open elements are closed in their order; the texts."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_is_whole_and_needs_nothing_else(corpus: Corpus, card: dict[str, Any]) -> None:
    page = write_card(corpus, card)
    source = page.read_text(encoding="utf-8")
    parser = _Page()
    parser.feed(source)
    assert parser.open == []
    assert "<script" not in source and "src=" not in source and "<link" not in source
    text = " ".join(parser.texts)
    for step in card["funnel"]:
        assert f"{step['left']:,} of {step['entered']:,} {step['unit']}" in text
    assert card["fingerprint"] in text and card["recipe_sha256"] in text
    assert json.loads((corpus.folder / "card.json").read_text()) == card


def test_what_was_not_measured_is_said(corpus: Corpus, storage: UPath, tmp_path: Path) -> None:
    bare = make_card(corpus, published=None, overlap=None)
    text = write_card(corpus, bare).read_text()
    assert "Not compared with WebText: its published list was not at hand" in text
    assert "Overlap with benchmarks was not measured" in text
    (missing,) = overlap_with(storage, ["lambada"])(corpus)
    assert "lambada" in missing["missing"]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": f"text {n}"}) + "\n" for n in range(50)))
    plain = build_corpus(storage, "plain", [tmp_path / "a.jsonl"], tokenizer="bytes", heldout=0.3, progress=False)
    with pytest.raises(InputError, match="corpus 'plain' has no card"):
        make_card(plain, published=None, overlap=None)
    with pytest.raises(InputError, match="cannot read the published domains .*no.txt"):
        read_published(UPath(tmp_path / "no.txt"))


def test_overlap_with_a_benchmark_is_that_of_the_study(
    corpus: Corpus, storage: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    (row,) = overlap_with(storage, ["heldout"])(open_corpus(storage, "web"))
    assert row["missing"] is None and row["ngrams"] > 1000
    assert 0 <= row["share"] < 0.2 and row["share"] == pytest.approx(row["found"] / row["ngrams"], abs=1e-9)


def decile(values: list[Any]) -> list[float]:
    ordered = sorted(values)
    return [ordered[((len(ordered) - 1) * tenth + 5) // 10] for tenth in range(11)]


def test_every_decile_is_that_of_the_sorted_values(card: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    assert card["lengths"]["deciles"] == decile([row["tokens"] for row in rows])
    assert card["scores"] == decile([row["score"] for row in rows])
    assert card["delay_days"] == pytest.approx(decile([row["delay"] / 86400 for row in rows]), abs=1e-9)
    assert card["lengths"]["share_short"] == sum(row["tokens"] < 128 for row in rows) / len(rows)


def table(folder: Any, name: str) -> list[dict[str, Any]]:
    read = pl.read_ipc if name.endswith(".arrow") else pl.read_parquet
    return [row for file in sorted(Path(str(folder)).glob(name)) for row in read(file).to_dicts()]


def test_each_reason_of_the_links_is_counted_from_the_dump(card: dict[str, Any], webtext: UPath) -> None:
    funnel = {step["name"]: step for step in card["funnel"]}
    data = (
        zstandard.ZstdDecompressor(max_window_size=1 << 31)
        .stream_reader((webtext / "RS_2017_made_up.zst").open("rb"))
        .read()
    )
    lines = data.removesuffix(b"\n").split(b"\n")
    posts, unread = [], Counter[str]()
    for line in lines:
        try:
            posts.append(json.loads(line))
        except ValueError:
            unread["broken" if line.strip() else "empty"] += 1
    assert funnel["lines of the dumps"] == {
        "name": "lines of the dumps", "unit": "lines", "entered": len(lines), "left": len(posts), "reasons": unread
    }  # fmt: skip
    reasons = funnel["links that may stay"]["reasons"]
    open_posts = [post for post in posts if not post["over_18"] and int(post["created_utc"]) < 1_514_764_800]
    urls = [post["url"] for post in open_posts if not post["is_self"] and not post["domain"].startswith("self.")]
    assert reasons["self"] == len(open_posts) - len(urls)
    hosts = [urlsplit(url).hostname or "" for url in urls]
    for reason, n in reasons.items():
        kind, _, value = reason.partition(" ")
        if kind == "domain":
            assert n == sum(f".{host}".endswith(f".{value}") for host in hosts), reason
        elif kind == "extension":
            assert n == sum(urlsplit(url).path.lower().endswith(f".{value}") for url in urls), reason
    assert reasons["bad_url"] == sum(
        not url.startswith("http") or "." not in host for url, host in zip(urls, hosts, strict=True)
    )


def test_each_reason_after_the_links_is_counted_from_the_stages_files(
    card: dict[str, Any], corpus: Corpus, webtext: UPath
) -> None:
    made = corpus.folder.parent.parent / "webtext" / "web"
    funnel = {step["name"]: step for step in card["funnel"]}
    best: dict[str, int] = {}
    posted = table(made / "links" / "files", "*.arrow")
    for row in posted:
        best[row["key"]] = max(row["score"], best.get(row["key"], row["score"]))
    assert funnel["links that may stay"]["left"] == len(posted)
    assert funnel["each URL once"]["reasons"] == {"same_url": len(posted) - len(best)}
    assert funnel["enough karma"]["reasons"] == {"low_score": sum(score < 3 for score in best.values())}
    n_found = len(table(made / "pages", "*.parquet"))
    assert funnel["found in the archives"]["reasons"] == {"not_found": funnel["enough karma"]["left"] - n_found}
    texts = table(made / "text", "*.parquet")
    assert funnel["text of the pages"]["reasons"] == Counter(row["dropped"] for row in texts if row["dropped"])
    splits = Counter(row["split"] for row in table(corpus.folder, "documents.parquet"))
    assert funnel["to train on"]["reasons"] == {"held_out": splits["heldout"]}
    raw = gzip.decompress((webtext / "article_extraction_benchmark.warc.gz").read_bytes())
    records = raw.count(b"WARC-Type: response\r\n")
    assert (card["archives"]["records"], card["archives"]["not_linked"]) == (records, records - n_found)


def test_overlap_is_that_of_sets_of_eight_words(corpus: Corpus, storage: UPath) -> None:
    from ladder.platform.evaluation.benchmarks.heldout.loss import read_texts

    def grams(text: str) -> list[tuple[str, ...]]:
        words = re.sub(r"[\W_]", " ", text).lower().split()
        return [tuple(words[place : place + 8]) for place in range(len(words) - 7)]

    made = corpus.folder.parent.parent / "webtext" / "web" / "text"
    texts = {row["key"]: row["text"] for row in table(made, "*.parquet")}
    documents = table(corpus.folder, "documents.parquet")
    held = {gram for row in documents if row["split"] == "train" for gram in grams(texts[row["key"]])}
    items = [grams(text) for text in read_texts(storage, corpus)]
    (row,) = overlap_with(storage, ["heldout"])(corpus)
    found = [sum(gram in held for gram in item) for item in items]
    assert (row["ngrams"], row["found"], row["items"]) == (sum(map(len, items)), sum(found), len(items))
    assert row["share"] == pytest.approx(sum(found) / sum(map(len, items)))
    assert row["items_with_any"] == sum(n > 0 for n in found)
    assert row["items_without_ngrams"] == sum(not item for item in items)
    assert row["items_above_threshold"] == sum(n > 0.15 * len(item) for n, item in zip(found, items, strict=True))
    shares = [n / len(item) for n, item in zip(found, items, strict=True) if item]
    assert row["mean_share_of_items"] == pytest.approx(sum(shares) / len(shares))


def test_the_page_shows_the_numbers_of_the_card(corpus: Corpus, card: dict[str, Any]) -> None:
    parser = _Page()
    parser.feed(write_card(corpus, card).read_text(encoding="utf-8"))
    text = " ".join(" ".join(parser.texts).split())

    def shown(value: float | None) -> str:
        if value is None:
            return "-"
        return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"

    for name, split in card["splits"].items():
        numbers = [shown(split[unit]) for unit in ("documents", "tokens", "bytes", "words")]
        assert " ".join([name, *numbers, f"{split['bytes_per_token']:.3f}"]) in text
    for values in (card["lengths"]["deciles"], card["scores"], card["delay_days"]):
        assert " ".join(map(shown, values)) in text
    for row in card["domains"]["by_documents"] + card["domains"]["by_tokens"]:
        assert " ".join([row["domain"], *(shown(row[key]) for key in ("documents", "tokens", "webtext_rank"))]) in text
    for row in card["languages"] + card["years"]:
        assert f"{row['value']} {row['documents']} {100 * row['documents'] / 119:.1f} %" in text
    for step in card["funnel"]:
        why = ", ".join(f"{why.replace('_', ' ')} {n:,}" for why, n in step["reasons"].items())
        assert f"{step['unit']} ({100 * step['left'] / step['entered']:.1f} %) {why or 'none'}" in text
    assert ", ".join(f"{why.replace('_', ' ')} {n:,}" for why, n in card["archives"].items()) in text
    for row in card["leakage"]:
        share = f"{100 * row['share']:.1f} %"
        assert f"{row['documents']} held-out documents ({share}) have a training document of similarity" in text
    other = card["domains"]["webtext"]
    assert f"{other['known']} of the {other['compared']} largest names ({100 * other['share_known']:.1f} %)" in text
    assert f"counts is {other['rank_correlation']:.2f}." in text


def test_ranks_and_shares_of_domains_are_those_of_the_published_file(card: dict[str, Any], webtext: UPath) -> None:
    lines = [line.split() for line in (webtext / "webtext_top_domains.txt").read_text().splitlines()]
    published = [(-int(line[0]), line[1]) for line in lines if len(line) == 2]
    rank = {name: place for place, (_, name) in enumerate(sorted(published), 1)}
    for row in card["domains"]["by_documents"] + card["domains"]["by_tokens"]:
        assert row["webtext_rank"] == rank.get(row["name"])
    other = card["domains"]["webtext"]
    assert other["share_known"] == other["known"] / other["compared"]
