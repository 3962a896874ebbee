"""Tokenizers: what goes in comes out, special tokens cannot be forged, and no network is said clearly."""

import pytest
import tiktoken
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ladder.models.errors import InputError
from ladder.models.tokenizer import END_OF_TEXT, Tokenizer, load_tokenizer

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.fixture
def gpt2(gpt2_vocabulary: None) -> Tokenizer:
    return load_tokenizer("gpt2")


@given(TEXTS)
def test_bytes_are_the_bytes(text: str) -> None:
    tokenizer = load_tokenizer("bytes")
    tokens = tokenizer.encode(text)
    assert tokens == list(text.encode("utf-8"))
    assert tokenizer.decode(tokens) == text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS)
def test_gpt2_tokens_decode_to_the_text(gpt2: Tokenizer, text: str) -> None:
    tokens = gpt2.encode(text)
    assert gpt2.decode(tokens) == text
    assert gpt2.decode_bytes(tokens) == text.encode("utf-8")


def test_gpt2_tokens_are_the_published_ones(gpt2: Tokenizer) -> None:
    assert gpt2.encode("Hello world") == [15496, 995]
    assert (gpt2.vocabulary, gpt2.end_of_text) == (50257, 50256)


def test_the_byte_tokenizer_has_257_tokens_the_last_of_which_ends_a_text() -> None:
    tokenizer = load_tokenizer("bytes")
    assert (tokenizer.vocabulary, tokenizer.end_of_text) == (257, 256)
    assert tokenizer.decode([104, 105, 256]) == "hi" + END_OF_TEXT


@pytest.mark.parametrize("name", ["bytes", "gpt2"])
def test_the_end_of_text_cannot_be_forged_in_a_text(name: str, gpt2_vocabulary: None) -> None:
    tokenizer = load_tokenizer(name)
    assert tokenizer.end_of_text not in tokenizer.encode(f"a{END_OF_TEXT}b")


def test_a_batch_is_its_texts(gpt2: Tokenizer) -> None:
    texts = ["", "a b", "\u00e9\u4e2d\n\n  x"]
    assert gpt2.encode_batch(texts) == [gpt2.encode(text) for text in texts]


def test_a_character_that_is_cut_becomes_a_replacement_mark() -> None:
    assert load_tokenizer("bytes").decode([0xC3]) == "\ufffd"


def test_a_lone_surrogate_is_encoded_as_a_replacement_mark() -> None:
    tokenizer = load_tokenizer("bytes")
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a\ufffdb"


@pytest.mark.parametrize("token", [257, -1, 1 << 40])
def test_a_token_outside_the_vocabulary_is_refused(token: int) -> None:
    with pytest.raises(InputError, match=f"token {token} is not in the vocabulary of tokenizer bytes, 0 to 256"):
        load_tokenizer("bytes").decode([1, token])


def test_fingerprints_tell_tokenizers_apart_and_stay(gpt2: Tokenizer) -> None:
    ours = load_tokenizer("bytes").fingerprint
    assert len(ours) == 64 and ours != gpt2.fingerprint
    twin = tiktoken.Encoding(
        "bytes",
        pat_str=gpt2.encoding._pat_str,
        mergeable_ranks=load_tokenizer("bytes").encoding._mergeable_ranks,
        special_tokens={END_OF_TEXT: 256},
    )
    assert Tokenizer(name="bytes", encoding=twin).fingerprint != ours


def test_an_unknown_tokenizer_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="'gpt4': wanted gpt2 or bytes"):
        load_tokenizer("gpt4")


@pytest.mark.parametrize("failure", [ConnectionError("no route to host"), ValueError("Hash mismatch for data")])
def test_no_vocabulary_and_no_network_is_said_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def fail(name: str) -> tiktoken.Encoding:
        raise failure

    load_tokenizer.cache_clear()
    monkeypatch.setattr(tiktoken, "get_encoding", fail)
    with pytest.raises(InputError, match="TIKTOKEN_CACHE_DIR.*--tokenizer bytes") as error:
        load_tokenizer("gpt2")
    assert str(failure) in str(error.value)
