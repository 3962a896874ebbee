"""Sampling text from a model, one token at a time, with the keys and values of what was read kept."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ladder.models.cache import KeyValueCache
from ladder.models.errors import InputError
from ladder.models.gpt2 import GPT2


@torch.no_grad()
def generate(
    model: GPT2,
    prompt: list[int],
    *,
    n_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    end_of_text: int | None = None,
) -> list[int]:
    """At most `n_tokens` tokens that follow `prompt`, which is not among them; they end before an `end_of_text`.

    temperature 0 takes the likeliest token each time; otherwise one is drawn with a generator of `seed` from
    softmax(logits / temperature), cut to the `top_k` likeliest and to the fewest whose probabilities reach `top_p`
    (Holtzman et al. 2020, arXiv:1904.09751), where these are given. Past the model's context the oldest tokens are
    dropped; positions are learned, so each token then costs a full pass.
    """
    _check(model, prompt, n_tokens=n_tokens, temperature=temperature, top_k=top_k, top_p=top_p)
    generator = torch.Generator().manual_seed(seed)
    tokens, start = list(prompt), len(prompt)
    cache = KeyValueCache()
    while len(tokens) < start + n_tokens:
        if cache.n_positions == model.size.context:
            cache = KeyValueCache()
        unread = tokens[-model.size.context :][cache.n_positions :]
        logits = _last_logits(model, unread, cache)  # [V]
        token = _draw(logits, temperature=temperature, top_k=top_k, top_p=top_p, generator=generator)
        if token == end_of_text:
            break
        tokens.append(token)
    return tokens[start:]


def _last_logits(model: GPT2, tokens: list[int], cache: KeyValueCache) -> Tensor:
    """Logits [V] after the last of `tokens`, float32 on the CPU, where the generator is."""
    weight = model.wte.weight
    hidden = model.hidden(torch.tensor([tokens], device=weight.device), cache)  # [1, T, D]
    return F.linear(hidden[0, -1], weight).float().cpu()


def _draw(
    logits: Tensor, *, temperature: float, top_k: int | None, top_p: float | None, generator: torch.Generator
) -> int:
    """One token drawn from logits [V]."""
    if temperature == 0:
        return int(logits.argmax())
    ordered, tokens = (logits / temperature).sort(descending=True, stable=True)
    if top_k is not None:
        ordered = ordered[:top_k]
    probabilities = ordered.softmax(0)
    if top_p is not None:
        before = probabilities.cumsum(0) - probabilities  # the first token always stays
        probabilities = probabilities[before < top_p]
    return int(tokens[torch.multinomial(probabilities, 1, generator=generator)])


def _check(
    model: GPT2, prompt: list[int], *, n_tokens: int, temperature: float, top_k: int | None, top_p: float | None
) -> None:
    if not prompt:
        raise InputError("the prompt has no tokens; wanted at least one, such as the end-of-text token")
    if not 0 <= min(prompt) <= max(prompt) < model.size.vocabulary:
        raise InputError(
            f"the prompt has tokens from {min(prompt)} to {max(prompt)} and the model a vocabulary of "
            f"{model.size.vocabulary}; encode it with the tokenizer that the model was trained with"
        )
    for name, value, right, wanted in (
        ("n_tokens", n_tokens, n_tokens >= 0, "0 or more"),
        ("temperature", temperature, 0 <= temperature < float("inf"), "0 (the likeliest token) or more"),
        ("top_k", top_k, top_k is None or top_k >= 1, "1 or more"),
        ("top_p", top_p, top_p is None or 0 < top_p <= 1, "more than 0 and at most 1"),
    ):
        if not right:
            raise InputError(f"{name} is {value}; wanted {wanted}")
