"""A checkpoint's tokenizer files: transformers and the harness read our tokens in them."""

from pathlib import Path

import pytest
import torch

from ladder.models.gpt2 import GPT2
from ladder.models.sizes import parse_size
from ladder.models.tokenizer import END_OF_TEXT, load_tokenizer
from ladder.models.weights import save_weights

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # transformers' own

TEXTS = [
    "Hello world, it's 1234 o'clock \u2014 na\u00efve \u65e5\u672c\U0001f600.",
    "  two  spaces\n\n\ttab \r\n end ",
    "",
    "\x00\x7f\u00a0\u00ad",
]


@pytest.fixture(params=["gpt2", "bytes"])
def checkpoint(request: pytest.FixtureRequest, gpt2_vocabulary: None, tmp_path: Path) -> tuple[str, Path]:
    """(tokenizer, folder) of a small model."""
    vocabulary = load_tokenizer(request.param).vocabulary
    save_weights(GPT2(parse_size("1x8h1", context=64, vocabulary=vocabulary)), tmp_path, tokenizer=request.param)
    return request.param, tmp_path


def test_auto_tokenizer_has_our_tokens_and_gives_the_text_back(checkpoint: tuple[str, Path]) -> None:
    from transformers import AutoTokenizer

    name, folder = checkpoint
    ours, theirs = load_tokenizer(name), AutoTokenizer.from_pretrained(folder)
    assert len(theirs) == ours.vocabulary
    assert theirs.eos_token_id == theirs.bos_token_id == ours.end_of_text
    assert theirs.model_max_length == 64
    for text in TEXTS:
        assert theirs.encode(text) == ours.encode(text)
        assert theirs.decode(ours.encode(text)) == text
    assert theirs.encode(END_OF_TEXT) == [ours.end_of_text]


def test_every_byte_and_every_merge_of_gpt2_is_read(gpt2_vocabulary: None, shared: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    save_weights(GPT2(parse_size("1x8h1", context=64, vocabulary=50257)), tmp_path, tokenizer="gpt2")
    ours, theirs = load_tokenizer("gpt2"), AutoTokenizer.from_pretrained(tmp_path)
    text = (shared / "benchmarks" / "lambada" / "lambada_test.jsonl").read_text()[:100_000]
    assert theirs.encode(text) == ours.encode(text)
    words = [ours.decode([token]) for token in range(ours.end_of_text)]
    assert theirs(words)["input_ids"] == ours.encode_batch(words)


def test_a_model_without_a_tokenizer_has_no_files_of_one(tmp_path: Path) -> None:
    save_weights(GPT2(parse_size("1x8h1", context=64, vocabulary=300)), tmp_path, tokenizer=None)
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors", "config.json"}


def test_the_harness_scores_a_checkpoint_by_its_folder_as_we_do(checkpoint: tuple[str, Path]) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    from ladder.models.weights import load_weights

    name, folder = checkpoint
    tokenizer, model = load_tokenizer(name), load_weights(folder)
    peer = HFLM(pretrained=str(folder), device="cpu", batch_size=1, dtype="float32")
    context, continuation = "The first one", " was good"
    request = Instance(request_type="loglikelihood", doc={}, arguments=(context, continuation), idx=0)
    ((loglikelihood, _),) = peer.loglikelihood([request], disable_tqdm=True)
    tokens = tokenizer.encode(context + continuation)
    with torch.no_grad():
        scores = model(torch.tensor([tokens]))[0].log_softmax(-1)
    start = len(tokenizer.encode(context))
    ours = sum(scores[place - 1, tokens[place]].item() for place in range(start, len(tokens)))
    assert ours < -5
    assert loglikelihood == pytest.approx(ours, abs=1e-3)
