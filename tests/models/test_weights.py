"""Weights: transformers loads ours and we load transformers', and what is broken is named."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2
from ladder.models.sizes import parse_size
from ladder.models.weights import CONFIG_FILE, SHARDS_FILE, WEIGHTS_FILE, load_weights, read_config, save_weights

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # transformers' own

SHAPES = ["2x64", "3x96h3"]
TINY = parse_size("1x32", context=16, vocabulary=257)


def some_tokens() -> Tensor:
    return torch.randint(300, (3, 48), generator=torch.Generator().manual_seed(0))


def stirred(model: torch.nn.Module) -> torch.nn.Module:
    """The model with no parameter at a value that could hide a mistake, such as biases of zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_weights(GPT2(TINY), tmp_path / "model", tokenizer="bytes")
    return tmp_path / "model"


@pytest.mark.parametrize("shape", SHAPES)
def test_transformers_loads_what_we_save_and_gives_our_logits(shape: str, tmp_path: Path) -> None:
    from transformers import GPT2LMHeadModel

    model = stirred(GPT2(parse_size(shape, context=48, vocabulary=300)))
    save_weights(model, tmp_path, tokenizer="bytes")
    theirs, report = GPT2LMHeadModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    with torch.no_grad():
        difference = (model(some_tokens()) - theirs.eval()(some_tokens()).logits).abs().max()
    assert difference < 1e-4


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("shard_size", ["5GB", "100KB"])
def test_we_load_what_transformers_saves_and_give_its_logits(shape: str, shard_size: str, tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    size = parse_size(shape, context=48, vocabulary=300)
    config = GPT2Config(
        n_layer=size.n_layer, n_embd=size.d_model, n_head=size.n_head, n_positions=48, vocab_size=300,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    theirs = stirred(GPT2LMHeadModel(config)).eval()
    theirs.save_pretrained(tmp_path, max_shard_size=shard_size)
    assert (tmp_path / SHARDS_FILE).exists() == (shard_size == "100KB")
    model = load_weights(tmp_path)
    assert model.size == size
    assert all(parameter.requires_grad for parameter in model.parameters())
    with torch.no_grad():
        difference = (model(some_tokens()) - theirs(some_tokens()).logits).abs().max()
    assert difference < 1e-4


def test_saving_and_loading_gives_the_same_weights_and_size(tmp_path: Path) -> None:
    model = GPT2(parse_size("117M", context=8, vocabulary=9), seed=4)
    save_weights(model, tmp_path, tokenizer=None)
    back = load_weights(tmp_path, attention="reference")
    assert back.size == model.size
    assert all(torch.equal(tensor, back.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert read_config(tmp_path)["ladder"] == {"size": "117M", "tokenizer": None}


def test_names_without_prefix_and_masks_of_old_files_are_read(folder: Path) -> None:
    wanted = load_weights(folder)
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in load_file(folder / WEIGHTS_FILE).items()}
    tensors["h.0.attn.bias"] = torch.ones(1, 1, 16, 16)  # the released gpt2 has these
    tensors["lm_head.weight"] = tensors["wte.weight"].clone()
    save_file(tensors, folder / WEIGHTS_FILE)
    assert torch.equal(load_weights(folder).h[0].attn.c_attn.weight, wanted.h[0].attn.c_attn.weight)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder .*nowhere"):
        load_weights(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no folder ./nowhere"):
        load_weights("./nowhere")


@pytest.mark.parametrize("file", [CONFIG_FILE, WEIGHTS_FILE])
def test_a_missing_file_is_named(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(InputError, match=file):
        load_weights(folder)


@pytest.mark.parametrize("left", [0, 5, 300, -1])
def test_a_truncated_file_is_named(folder: Path, left: int) -> None:
    path = folder / WEIGHTS_FILE
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(InputError, match=f"{WEIGHTS_FILE} cannot be read.*truncated or damaged"):
        load_weights(folder)


def test_a_missing_shard_is_named(folder: Path) -> None:
    shutil.move(folder / WEIGHTS_FILE, folder / "model-00001-of-00002.safetensors")
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / SHARDS_FILE).write_text(json.dumps({"weight_map": names}))
    with pytest.raises(InputError, match="model-00002-of-00002.safetensors is missing"):
        load_weights(folder)


def test_a_damaged_index_is_named(folder: Path) -> None:
    (folder / WEIGHTS_FILE).unlink()
    (folder / SHARDS_FILE).write_text("{}")
    with pytest.raises(InputError, match=f"{SHARDS_FILE} is not an index of shards"):
        load_weights(folder)


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_damaged_config_is_named(folder: Path, text: str) -> None:
    (folder / CONFIG_FILE).write_text(text)
    with pytest.raises(InputError, match="config.json"):
        load_weights(folder)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("n_positions", 17, r"wpe.weight is \[16, 32\] and should be \[17, 32\]"),
        ("vocab_size", 300, r"wte.weight is \[257, 32\] and should be \[300, 32\]"),
        ("n_layer", 2, "names the size 1x32 but describes 2 layers"),
        ("n_head", None, "n_head is None; wanted a whole number"),
        ("model_type", "llama", "model_type is 'llama'; this GPT-2 has 'gpt2'"),
        ("activation_function", "relu", "activation_function is 'relu'"),
        ("layer_norm_epsilon", 1e-6, "layer_norm_epsilon is 1e-06"),
        ("tie_word_embeddings", False, "tie_word_embeddings is False"),
        ("n_inner", 64, "n_inner is 64; this GPT-2 has 128"),
    ],
)
def test_a_config_of_another_model_is_refused(folder: Path, field: str, value: object, said: str) -> None:
    config = read_config(folder) | {field: value}
    (folder / CONFIG_FILE).write_text(json.dumps(config))
    with pytest.raises(InputError, match=said):
        load_weights(folder)


def test_a_tensor_too_few_or_too_many_is_named(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS_FILE)
    save_file({name: tensor for name, tensor in tensors.items() if "ln_f.bias" not in name}, folder / WEIGHTS_FILE)
    with pytest.raises(InputError, match=r"ln_f.bias is absent and should be \[32\]"):
        load_weights(folder)
    save_file(tensors | {"transformer.extra": torch.ones(2)}, folder / WEIGHTS_FILE)
    with pytest.raises(InputError, match=r"extra is \[2\] and should be absent"):
        load_weights(folder)


def test_a_name_on_the_hub_without_the_hubs_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match="no folder gpt2.*pip install huggingface_hub"):
        load_weights("gpt2")


def test_a_name_on_the_hub_without_a_network_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def offline(*_: object, **__: object) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("offline and not cached")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(InputError, match="no folder gpt2.*offline and not cached.*network"):
        load_weights("gpt2")


def test_a_name_on_the_hub_is_loaded_from_its_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(folder))
    assert load_weights("someone/tiny").size == TINY


def test_a_half_written_file_never_bears_the_final_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ladder.models import weights

    before = (folder / WEIGHTS_FILE).read_bytes()

    def dies(tensors: object, path: Path, **_: object) -> None:
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(weights, "save_file", dies)
    with pytest.raises(OSError, match="No space left"):
        save_weights(GPT2(TINY, seed=9), folder, tokenizer=None)
    assert (folder / WEIGHTS_FILE).read_bytes() == before
