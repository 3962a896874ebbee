"""A small web in which every count of the card is more than none: each recounted from the files, and on the page."""

import gzip
import hashlib
import itertools
import json
import math
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from small_web import OPTIONS, build, record
from upath import UPath

from ladder.platform.corpus.build import BuildOptions
from ladder.platform.corpus.store import Corpus
from ladder.platform.corpus.webtext.card import make_card, write_card
from ladder.platform.corpus.webtext.card_overlap import overlap_with
from ladder.platform.corpus.webtext.corpus import CorpusOptions
from ladder.platform.corpus.webtext.filters import FilterOptions
from ladder.platform.overlap.bloom import BloomFilter
from ladder.platform.overlap.ngrams import hash_texts
from ladder.platform.overlap.plan import plan_filling

HELDOUT = 0.3
LEFT_OUT = {  # as the pages are made below
    "robot_page": ["<p>Please verify you are a human.</p>", "<p>Checking your browser before you go on.</p>"],
    "cookie_page": ["<p>This site uses cookies. Accept all cookies.</p>"],
    "no_text": ["<p> </p>", "<br>", "<hr>"],
    "nul": ["<p>text \0 text</p>"],
    "too_few_words": ["<p>Only four words here.</p>"],
    "parser_failed": ["<p>RAISE</p>"],
    "not_html": ["no tag at all"],
    "empty_page": [""],
}
LENGTH = 120


def good_pages() -> list[str]:
    """Texts; of some an equal, a nearly equal, or a half equal one as well."""
    texts = [[f"w{number}x{place}" for place in range(LENGTH)] for number in range(80)]
    texts += [texts[0], texts[0], texts[1], texts[2]]  # exactly
    texts += [[*texts[number][:-4], *(f"n{number}y{place}" for place in range(4))] for number in range(3, 12)]
    texts += [texts[84], texts[85]]  # exactly what is nearly another
    texts += [[*texts[number][:90], *(f"h{number}y{place}" for place in range(30))] for number in range(20, 70)]
    gaps = itertools.cycle(("  ", "\n"))  # white space is no difference
    return [f"<p>{next(gaps).join(words)}</p>" for words in texts]


def make_web(folder: Path) -> None:
    pages = good_pages() + [body for bodies in LEFT_OUT.values() for body in bodies]
    urls = [f"http://site{number % 9}.example/{number}" for number in range(len(pages))]
    records = [record(url, body) for url, body in zip(urls, pages, strict=True)]
    others = [f"http://other.example/{number}" for number in range(6)]
    records += [
        record(others[0], "<p>gone</p>", status="404 Not Found"),
        record(others[1], "<p>gone</p>", status="404 Not Found"),
        record(others[2], "picture", kind="image/png"),
        *(record(f"http://nobody.example/{number}", "<p>text</p>") for number in range(4)),  # not linked
        record(urls[0], "<p>another capture</p>").replace(b"2017-01-01", b"2001-01-01"),
    ]
    (folder / "pages.warc.gz").write_bytes(b"".join(map(gzip.compress, records)))
    posts = [
        {"url": url, "score": 3 + number % 5, "created_utc": 1_400_000_000 + number, "retrieved_on": 1_500_000_000}
        for number, url in enumerate(urls + others)  # of the last three there is no capture
    ]
    (folder / "RS_2014-05.jsonl").write_text("".join(json.dumps(post) + "\n" for post in posts))


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> UPath:
    folder = tmp_path_factory.mktemp("numbers")
    shutil.copytree(shared / "benchmarks" / "lambada", folder / "benchmarks" / "lambada")
    return UPath(folder)


@pytest.fixture(scope="module")
def corpus(storage: UPath, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    inputs = tmp_path_factory.mktemp("inputs")
    make_web(inputs)
    options = replace(
        OPTIONS,
        submissions=[UPath(inputs / "RS_2014-05.jsonl")],
        pages=[UPath(inputs / "pages.warc.gz")],
        text=replace(OPTIONS.text, filters=FilterOptions(min_words=20)),
        corpus=CorpusOptions(build=BuildOptions(tokenizer="bytes", heldout=HELDOUT, progress=False, workers=1)),
        pages_of_a_part=50,
    )
    return build(storage, options)


@pytest.fixture(scope="module")
def card(corpus: Corpus, storage: UPath) -> dict[str, Any]:
    return make_card(corpus, published={"site1": 9, "site2": 8}, overlap=overlap_with(storage, ["lambada", "heldout"]))


def rows_of(folder: UPath, pattern: str = "part-*.parquet") -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob(pattern)) for row in pl.read_parquet(str(path)).to_dicts()]


@pytest.fixture(scope="module")
def kept(storage: UPath) -> list[dict[str, Any]]:
    """The rows of text that stay, with the keys of their bands, in order: their place is their number."""
    folder = storage / "webtext" / "web" / "text"
    rows = []
    for path in sorted(folder.glob("part-*.parquet")):
        keys = np.load(str(path).replace(".parquet", ".keys.npy")).T.tolist()
        rows += [row | {"bands": own} for row, own in zip(pl.read_parquet(str(path)).to_dicts(), keys, strict=True)]
    return [row for row in rows if row["dropped"] is None]


@pytest.fixture(scope="module")
def side(corpus: Corpus) -> dict[str, str]:
    return {row["key"]: row["split"] for row in rows_of(corpus.folder, "documents.parquet")}


def test_pages_without_a_document_are_counted_by_reason(card: dict[str, Any], corpus: Corpus) -> None:
    (text,) = (step for step in card["funnel"] if step["name"] == "text of the pages")
    assert text["reasons"] == {reason: len(bodies) for reason, bodies in LEFT_OUT.items()}
    n_good = len(good_pages())
    assert (text["entered"], text["left"]) == (n_good + sum(map(len, LEFT_OUT.values())), n_good)
    number = itertools.count(n_good)
    for reason, bodies in LEFT_OUT.items():
        urls = {f"http://site{n % 9}.example/{n}" for n, _ in zip(number, bodies)}  # noqa: B905
        number = itertools.count(max(int(url.rpartition("/")[2]) for url in urls) + 1)
        assert {sample["url"] for sample in card["left_out"]["text"][reason]} == urls, reason
    assert card["archives"] == {
        "captures": text["entered"] + 1, "found": text["entered"], "no_html": 1, "not_found": 6, "not_linked": 4,
        "records": text["entered"] + 8, "status 404": 2,
    }  # fmt: skip
    assert card["left_out"]["pages"]["no_html"] == ["http://other.example/2"]
    assert len(card["left_out"]["pages"]["not_found"]) == 5  # samples, of six
    assert len(card["errors"]["text"]) == 1 and "the parser failed (ValueError: odd page)" in card["errors"]["text"][0]


def grams_of(text: str, n: int) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[place : place + n]) for place in range(len(words) - n + 1)}


def alike(kept: list[dict[str, Any]], numbers: list[int]) -> dict[tuple[int, int], float]:
    """The similarity of each two texts that have a key of the same band in common."""
    grams = {number: grams_of(kept[number]["text"], 5) for number in numbers}
    return {
        (one, other): len(grams[one] & grams[other]) / len(grams[one] | grams[other])
        for one, other in itertools.combinations(numbers, 2)
        if any(a == b for a, b in zip(kept[one]["bands"], kept[other]["bands"], strict=True))
    }


def test_exact_and_near_duplicates_and_leakage_are_recounted(
    card: dict[str, Any], corpus: Corpus, kept: list[dict[str, Any]], side: dict[str, str]
) -> None:
    rank = sorted(range(len(kept)), key=lambda number: (-kept[number]["score"], kept[number]["key"]))
    first: dict[str, int] = {}
    survivor = {number: first.setdefault(" ".join(kept[number]["text"].split()), number) for number in rank}
    unique = sorted(first.values())
    similar = alike(kept, unique)
    place = {number: index for index, number in enumerate(rank)}
    near = {pair for pair, similarity in similar.items() if similarity >= 0.8}
    for _ in unique:  # the best of a cluster speaks for all that pairs connect with it
        for one, other in near:
            survivor[one] = survivor[other] = min(survivor[one], survivor[other], key=place.__getitem__)
    final = {number: survivor[survivor[number]] for number in survivor}
    stays = {number for number, best in final.items() if number == best}
    counts = card["duplicates"]["counts"]
    assert counts == {
        "documents": len(kept), "exact": len(kept) - len(unique), "near": len(unique) - len(stays), "kept": len(stays),
        "candidates": len(similar), "pairs": len(near),
    }  # fmt: skip
    assert (counts["exact"], counts["near"], counts["pairs"]) == (6, 9, 9) and counts["candidates"] > 20
    assert {kept[number]["key"] for number in stays} == side.keys()
    (once,) = (step for step in card["funnel"] if step["name"] == "each text once")
    assert once["reasons"] == {"near_duplicate": 9, "exact_duplicate": 6}
    sizes = Counter(n for n in Counter(final.values()).values() if n > 1)
    assert {row["value"]: row["documents"] for row in card["duplicates"]["clusters"]} == sizes and len(sizes) == 2
    urls = {row["url"]: number for number, row in enumerate(kept)}
    shown = [
        sorted(urls[example[name]["url"]] for name in ("one", "other")) for example in card["duplicates"]["examples"]
    ]
    assert len({tuple(pair) for pair in shown}) == 5
    for pair, example in zip(shown, card["duplicates"]["examples"], strict=True):
        assert tuple(pair) in near and example["similarity"] == pytest.approx(similar[pair[0], pair[1]])
        for name in ("one", "other"):
            assert example[name]["text"] == kept[urls[example[name]["url"]]]["text"][:400]
    n_heldout = sum(split == "heldout" for split in side.values())
    for row in card["leakage"]:
        seen = set()
        for pair, similarity in similar.items():
            splits = {side.get(kept[number]["key"]): number for number in pair}
            if similarity >= row["similarity"] and splits.keys() == {"train", "heldout"}:
                seen.add(splits["heldout"])
        assert (row["documents"], row["share"]) == (len(seen), len(seen) / n_heldout)
    assert [row["similarity"] for row in card["leakage"]] == [0.8, 0.5]
    assert card["leakage"][0]["documents"] == 0 < 3 < card["leakage"][1]["documents"]


def test_identity_is_that_of_the_files(
    card: dict[str, Any], corpus: Corpus, storage: UPath, side: dict[str, str]
) -> None:
    def sha256(value: Any) -> str:
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()

    written = json.loads((corpus.folder / "corpus.json").read_text())
    shards = {
        split: [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(corpus.folder.glob(f"{split}-*.bin"))]
        for split in ("heldout", "train")
    }
    recipe = sha256(card["recipe"])
    identity = {"tokenizer": written["tokenizer_fingerprint"], "shards": shards, "recipe": recipe}
    assert (card["recipe_sha256"], card["fingerprint"]) == (recipe, sha256(identity))
    assert card["recipe"] == written["recipe"] and card["corpus"] == "web" and card["tokenizer"] == "bytes"
    stages = storage / "webtext" / "web"
    assert card["recipe"]["stages"] == json.loads((stages / "duplicates" / "stage.json").read_text())["recipe"]
    assert card["recipe"]["stages"]["text"]["filters"]["min_words"] == 20
    assert card["recipe"]["heldout"] == HELDOUT and card["recipe"]["stages"]["threshold"] == 0.8
    assert card["heldout"] == {"share": HELDOUT, "by": "url"}
    assert "take-down" in card["licence"]
    for key, split in side.items():
        digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
        assert split == ("heldout" if int.from_bytes(digest, "big") / 2**64 < HELDOUT else "train")


def rate_of(corpus: Corpus, texts: list[str]) -> float:
    """How often the filter of these texts finds what it does not hold: its bits counted one by one.

    A block is 2^16 bytes, bit i of each being plane i; two of the 16 functions look at each plane (bloom.py).
    """
    plan = plan_filling(corpus, n=8, processes=1).filter
    bloom = BloomFilter(plan)
    bloom.insert(hash_texts(texts, 8)[0])
    bits = np.unpackbits(bloom.bits).reshape(plan.n_blocks, 1 << 16, 8)
    assert plan.n_hashes == 16
    return float(np.mean([math.prod(fill**2 for fill in block.mean(axis=0).tolist()) for block in bits]))


def test_the_overlap_with_benchmarks_is_recounted(
    card: dict[str, Any],
    corpus: Corpus,
    storage: UPath,
    kept: list[dict[str, Any]],
    side: dict[str, str],
    shared: Path,
) -> None:
    def grams(text: str) -> list[tuple[str, ...]]:
        words = re.sub(r"[\W_]", " ", text).lower().split()
        return [tuple(words[place : place + 8]) for place in range(len(words) - 7)]

    texts = {row["key"]: row["text"] for row in kept}
    train = {gram for key, split in side.items() if split == "train" for gram in grams(texts[key])}
    passages = (storage / "benchmarks" / "lambada" / "lambada_test.jsonl").read_text().splitlines()
    items = {
        "lambada": [grams(json.loads(line)["text"]) for line in passages],
        "heldout": [grams(texts[key]) for key, split in side.items() if split == "heldout"],
    }
    assert [row["benchmark"] for row in card["overlap"]] == ["lambada", "heldout"]
    rate = rate_of(corpus, [texts[key] for key, split in side.items() if split == "train"])
    for row in card["overlap"]:
        own = items[row["benchmark"]]
        n, total = len(own), sum(map(len, own))
        found = [sum(gram in train for gram in item) for item in own]
        share = sum(found) / total
        residuals = sum((hits - share * len(item)) ** 2 for hits, item in zip(found, own, strict=True))
        shares = [hits / len(item) for hits, item in zip(found, own, strict=True) if item]
        mean = sum(shares) / len(shares)
        variance = sum((value - mean) ** 2 for value in shares) / (len(shares) - 1)
        expected = {
            "items": n, "ngrams": total, "found": sum(found), "share": share,
            "standard_error": math.sqrt(n / (n - 1) * residuals) / total,
            "mean_share_of_items": mean, "mean_share_standard_error": math.sqrt(variance / len(shares)),
            "items_with_any": sum(hits > 0 for hits in found),
            "items_above_threshold": sum(hits > 0.15 * len(item) for hits, item in zip(found, own, strict=True)),
            "items_without_ngrams": sum(not item for item in own),
        }  # fmt: skip
        assert {name: row[name] for name in expected} == pytest.approx(expected)
        assert row["expected_false_positives"] == pytest.approx(rate * (total - sum(found)))
        assert row.keys() == expected.keys() | {"benchmark", "expected_false_positives", "paper_share", "missing"}
        assert row["missing"] is None
    lambada, heldout = card["overlap"]
    assert heldout["found"] > 100 and heldout["standard_error"] > 0 and heldout["items_above_threshold"] > 3
    published = (shared / "laws" / "gpt2_other_numbers.tsv").read_text().splitlines()
    (of_paper,) = (line.split("\t")[4] for line in published if "\tavg_8gram_overlap_pct\t" in line)
    assert (lambada["paper_share"], heldout["paper_share"]) == (pytest.approx(float(of_paper) / 100), None)


def test_the_documents_shown_are_drawn_from_both_splits(card: dict[str, Any]) -> None:
    shown_of = Counter(row["split"] for row in card["documents"])
    assert shown_of.total() == 20 and 1 <= shown_of["heldout"] <= 13  # of 20, 6 are expected; 13 is 3.4 sigma more


def test_the_papers_shares_are_its_table(shared: Path) -> None:
    from ladder.platform.overlap.study import PAPER_SHARES

    rows = [line.split("\t") for line in (shared / "laws" / "gpt2_other_numbers.tsv").read_text().splitlines()]
    names = {"PTB": "ptb", "WikiText-2": "wikitext2", "WikiText-103": "wikitext103", "1BW": "lm1b"}
    table = {
        names.get(row[1], row[1]): float(row[4]) / 100
        for row in rows
        if row[0] == "Table 6" and row[2] == "pct_test_8grams_overlapping" and row[3] == "WebText train"
    }
    assert len(table) == 6 and PAPER_SHARES == pytest.approx(table | {"lambada": 0.012})


def test_texts_without_links_are_counted_too(tmp_path: Path) -> None:
    lines = [{"url": f"http://a.example/{n % 37}", "text": f"text {n} of {n * n} words"} for n in range(40)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    made = build(UPath(tmp_path), replace(OPTIONS, pages=[UPath(tmp_path / "texts.jsonl")]))
    card = make_card(made, published=None, overlap=None)
    first, text, once, _ = card["funnel"]
    assert (first["entered"], first["left"], first["reasons"]) == (40, 37, {"same_url": 3})
    assert (
        (text["entered"], once["left"])
        == (37, 37)
        == (text["left"], sum(split.documents for split in made.splits.values()))
    )
    assert card["archives"]["records"] == 40 and card["scores"] is None and card["delay_days"] is None
    page = _Page(write_card(made, card).read_text(encoding="utf-8")).text
    assert "score of a link not known" in page and "days from a link to its score not known" in page


class _Page(HTMLParser):
    """The texts of a page but its style, with single spaces."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self._inside = ""
        self._texts: list[str] = []
        self.feed(source)
        self.text = " ".join(" ".join(self._texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside != "style":
            self._texts.append(data)


def number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def percent(share: float | None) -> str:
    if share is None:
        return "-"
    return f"{100 * share:.1f} %" if share >= 0.001 or share == 0 else f"{100 * share:.2g} %"


def flat(text: Any) -> str:
    return " ".join(str(text).split())


def shown(card: dict[str, Any]) -> list[str]:
    """Every run of the page's text that holds a number, in the page's order."""
    train, heldout = card["splits"]["train"], card["splits"]["heldout"]
    documents = train["documents"] + heldout["documents"]
    domains, duplicates, lengths = card["domains"], card["duplicates"], card["lengths"]
    runs = [
        f"Fingerprint {card['fingerprint']} Recipe {card['recipe_sha256']}",
        f"{documents} documents {train['tokens'] + heldout['tokens']:,} tokens (bytes) "
        f"{number(train['bytes_per_token'])} bytes a token in train",
        f"{number(domains['domains'])} domains, {number(domains['effective_domains'])} effective "
        f"{number(heldout['documents'])} held out, by the hash of the url "
        f"{percent(card['leakage'][0]['share'])} of them with a twin in train",
    ]
    for step in card["funnel"]:
        reasons = ", ".join(f"{why.replace('_', ' ')} {number(n)}" for why, n in step["reasons"].items()) or "none"
        share = percent(step["left"] / step["entered"])
        runs += [f"{step['name']} {step['left']:,} of {step['entered']:,} {step['unit']} ({share}) {reasons}"]
    runs += [", ".join(f"{why.replace('_', ' ')} {number(n)}" for why, n in card["archives"].items()) + "."]
    for name, split in card["splits"].items():
        figures = " ".join(number(split[unit]) for unit in ("documents", "tokens", "bytes", "words"))
        runs += [f"{name} {figures} {split['bytes_per_token']:.3f}"]
    runs += [
        f"{number(lengths['short'])} documents ({percent(lengths['share_short'])}) have fewer than 128 tokens; "
        f"the mean is {number(lengths['mean'])}.",
        "maximum of " + " ".join(f"{10 * tenth} %" for tenth in range(11)),
        "tokens of a document " + " ".join(map(number, lengths["deciles"])),
        "score of a link " + " ".join(map(number, card["scores"])),
        "days from a link to its score " + " ".join(map(number, card["delay_days"])),
    ]
    other = domains["webtext"]
    runs += [
        f"{other['known']} of the {other['compared']} largest names ({percent(other['share_known'])}), with "
        f"{percent(other['documents_known'])} of the documents, are among the {other['published']} that OpenAI"
    ]
    for order in ("by_documents", "by_tokens"):
        for row in domains[order]:
            runs += [
                " ".join([row["domain"], *(number(row[name]) for name in ("documents", "tokens", "webtext_rank"))])
            ]
    for row in card["languages"] + card["years"]:
        runs += [f"{row['value']} {row['documents']} {percent(row['documents'] / documents)}"]
    counts = duplicates["counts"]
    clusters = ", ".join(f"{row['documents']} of {row['value']}" for row in duplicates["clusters"])
    runs += [
        f"{counts['exact']} equal texts and {counts['near']} near-duplicates went (Jaccard similarity of word 5-grams "
        f"of {duplicates['threshold']} or more, checked for each of {counts['candidates']} pairs with a common "
        "MinHash key)",
        f"Clusters: {clusters} documents.",
    ]
    for example in duplicates["examples"]:
        both = " ".join(f"{example[name]['url']} {flat(example[name]['text'])}" for name in ("one", "other"))
        runs += [f"Similarity {example['similarity']:.3f} {both}"]
    runs += [
        f"{row['documents']} held-out documents ({percent(row['share'])}) have a training document of similarity "
        f"{row['similarity']} or more"
        for row in card["leakage"]
    ]
    runs += [". Found by MinHash keys: 99.8 % of the pairs at .8, about a quarter of those at .5.", "8-grams found"]
    for row in card["overlap"]:
        figures = (
            f"{number(row['ngrams'])} {number(row['found'])} {percent(row['share'])} {percent(row['paper_share'])}"
        )
        runs += [f"{row['benchmark']} {figures}"]
    for row in card["documents"]:
        facts = f"{row['split']}, {number(row['tokens'])} tokens, {row['language']}, score {number(row['score'])}"
        runs += [f"{row['url']} | {facts} {flat(row['text'])}"]
    for stage, reasons in card["left_out"].items():
        for reason, samples in reasons.items():
            each = [flat(f"{one['url']} {one['text']}") if isinstance(one, dict) else one for one in samples]
            runs += [" ".join([f"{stage}: {reason.replace('_', ' ')}", *each])]
    runs += [f"{stage}: {error}" for stage, errors in card["errors"].items() for error in errors]
    return [*runs, flat(json.dumps(card["recipe"], indent=1))]


def test_every_number_on_the_page_is_one_of_the_card(corpus: Corpus, card: dict[str, Any]) -> None:
    rest = _Page(write_card(corpus, card).read_text(encoding="utf-8")).text
    for run in shown(card):
        before, found, rest = rest.partition(run)
        assert found, f"not on the page, or out of order: {run}; what follows is {rest or before:.300}"
        assert not re.search(r"\d", before.replace("rank in WebText", "")), f"a number that nobody counted: {before}"
    assert not re.search(r"\d", rest)


@pytest.mark.parametrize("change", [lambda card: card["duplicates"]["counts"], lambda card: card["overlap"][1]])
def test_the_page_follows_the_card(
    corpus: Corpus, card: dict[str, Any], change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    other = json.loads(json.dumps(card))
    change(other).update({"exact": 91, "near": 92, "candidates": 93, "ngrams": 94, "found": 95})
    page = _Page(write_card(corpus, other).read_text(encoding="utf-8")).text
    assert all(run in page for run in shown(other)) and any(run not in page for run in shown(card))
