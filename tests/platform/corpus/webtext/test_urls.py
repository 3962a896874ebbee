from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

from ladder.models.errors import InputError
from ladder.platform.corpus.webtext.rules import load_rules
from ladder.platform.corpus.webtext.urls import canonicalize, hash_key, host_of

SAME = [
    "http://example.com/a/b?x=1&y=2",
    "https://example.com/a/b?x=1&y=2",
    "https://www.example.com/a/b?x=1&y=2",
    "https://WWW.Example.COM:443/a/b?x=1&y=2",
    "http://user@example.com:80/a/b?x=1&y=2#part/two",
    "https://example.com/a/b?x=1&amp;y=2",
    "https://example.com/a/b?utm_source=reddit&x=1&utm_medium=a&y=2",
    "https://example.com/a/b?x=1&y=2/",
    "  https://example.com/a/b?x=1&y=2 ",
]


@pytest.mark.parametrize("url", SAME)
def test_spellings_of_one_page_have_one_form(url: str) -> None:
    assert canonicalize(url) == "example.com/a/b?x=1&y=2"


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/a/b?y=2&x=1",
        "https://example.com/A/b?x=1&y=2",
        "https://example.com:8080/a/b?x=1&y=2",
        "https://m.example.com/a/b?x=1&y=2",
    ],
)
def test_what_servers_tell_apart_stays_apart(url: str) -> None:
    assert canonicalize(url) not in (None, "example.com/a/b?x=1&y=2")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://1:05 EST and I haven't gotten the update yet",
        "ftp://example.com/a",
        "javascript:alert(1)",
        "http://",
        "http://localhost/a",
        "http://example.com:port/",
        "http://exa\x00mple.com/",
        "http://-example.com/",
        "/r/test/comments/1",
        "http://example.com/" + "a" * 5000,
    ],
)
def test_what_is_no_web_page_has_no_form(url: str) -> None:
    assert canonicalize(url) is None


def test_only_parameters_of_campaigns_leave_no_question_mark() -> None:
    assert canonicalize("https://example.com/a/?utm_source=x") == "example.com/a"
    assert canonicalize("https://example.com?q=1") == "example.com?q=1"
    assert canonicalize("https://example.com?/") == canonicalize("https://example.com/?") == "example.com"
    assert host_of("example.com?q=1/2") == "example.com"
    assert canonicalize("https://b\u00fccher.example/x") == "xn--bcher-kva.example/x"


@given(
    st.from_regex(
        r"https?://(www\.)?[A-Za-z0-9]{1,8}\.(com|org)(/[\w.~%-]{0,8}){0,4}(\?[\w=&;#?/]{0,20})?", fullmatch=True
    )
)
@settings(max_examples=100, deadline=None)
def test_the_form_of_a_form_is_itself(url: str) -> None:
    key = canonicalize(url)
    if key is not None:
        assert "&amp;" in url or canonicalize("https://" + key) == key
        assert host_of(key) == host_of(key).lower()


def test_the_hash_does_not_depend_on_the_process() -> None:
    assert hash_key("example.com") == 0x13C51305C1CF2666  # `b2sum --length 64`


def test_a_rule_holds_for_the_host_below_it_and_no_other() -> None:
    rules = load_rules()
    for url, rule in {
        "en.m.wikipedia.org/wiki/X": "domain wikipedia.org",
        "notwikipedia.org/wiki": None,
        "i.imgur.com/a.jpg": "domain imgur.com",
        "example.com/a.PDF?x=1": "extension pdf",
        "example.com/a.pdf/view": None,
        "example.com/?f=a.pdf": None,
        "example.com": None,
        "example.com/v1.0/zip": None,
        "web.archive.org/web/2015/http://en.wikipedia.org/wiki/X": "contains wikipedia.org/wiki/",
    }.items():
        assert rules.find(url) == rule, url


def test_the_default_rules_leave_what_webtext_had(webtext: UPath) -> None:
    import tldextract

    lines = (webtext / "webtext_top_domains.txt").read_text().splitlines()
    published = {fields[1] for line in lines if len(fields := line.split()) == 2}
    assert len(published) == 999
    extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    named = {extract(domain).domain for domain in load_rules().reasons["domain"]}
    assert named & published == {"wikiwand"}  # a mirror of Wikipedia, which the paper leaves out


def test_a_list_of_rules_is_read_with_its_reasons(tmp_path: Path) -> None:
    path = tmp_path / "rules.tsv"
    path.write_text("# comment\n\ndomain\tExample.com\tours\nsubreddit\tFunny\tno text\n")
    rules = load_rules(path)
    assert rules.find("a.example.com/b") == "domain example.com"
    assert rules.find_subreddit("FUNNY") == "subreddit funny"
    assert rules.sha256 != load_rules().sha256
    path.write_text("domain\texample.com\n")
    with pytest.raises(InputError, match=r"rules.tsv:1: got 'domain\\texample.com', wanted a kind"):
        load_rules(path)
