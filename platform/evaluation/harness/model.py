"""Our scorer and our generation as a model of lm-evaluation-harness, so that its tasks run at our speed.

The harness asks in text; what it means in tokens is that of its `hf` model: white space at the end of a context goes to
the continuation, a context too long is cut for each request by itself, the last window of a long text is a full one.
Imports lm_eval, so only `tasks` next to it imports this.
"""

from collections.abc import Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text

from ladder.models.errors import InputError
from ladder.models.generation import GREEDY, Sampling
from ladder.platform.evaluation.benchmark import Setting
from ladder.platform.evaluation.kinds.generation import write_answers
from ladder.platform.evaluation.scorer import Request

MOST_TOKENS = 256
"""Tokens of an answer where a task names no number, as in the harness."""


class ScorerModel(TemplateLM):  # type: ignore[misc]  # lm_eval has no types
    """The model of a setting, as the harness calls one."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.setting = setting

    @property
    def eot_token_id(self) -> int:
        """The token before a document's first and after its last."""
        return self.setting.tokenizer.end_of_text

    @property
    def max_length(self) -> int:
        """Tokens that the model sees at once."""
        return self.setting.scorer.context

    @property
    def tokenizer_name(self) -> str:
        """Name of the tokenizer."""
        return self.setting.tokenizer.name

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Tokens of a text; the end of a document may be written in it, as in the harness."""
        return self.setting.tokenizer.encoding.encode(string, allowed_special="all")

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """ln p of each continuation after its context, and whether it is what the model would write."""
        scores: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        return scores

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        asked = [self._request(texts, context, continuation) for texts, context, continuation in requests]
        return [(-score.total_nats, bool(score.greedy.all())) for score in self.setting.scorer.loglikelihood(asked)]

    def _request(self, texts: Any, context: list[int], continuation: list[int]) -> Request:
        """A request whose context is cut to what fits before this continuation."""
        if not continuation:
            raise InputError(f"the task asks for the likelihood of no text, after {texts[0][-60:]!r}")
        room = max(1, self.max_length + 1 - len(continuation))
        return Request(context=tuple(context[-room:]), continuation=tuple(continuation))

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = True) -> list[float]:
        """ln p of each text from a document's start on."""
        texts = [self.tok_encode(request.args[0]) for request in requests]
        return [-float(nats.sum(dtype="float64")) for nats in self.setting.scorer.rolling(texts, full_last_window=True)]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """What the model writes after each context, up to the first of its stop sequences."""
        alike: dict[str, list[int]] = {}  # requests with the same arguments are written together
        for index, request in enumerate(requests):
            alike.setdefault(repr(request.args[1]), []).append(index)
        written: dict[int, str] = {}
        for indices in alike.values():
            contexts = [requests[index].args[0] for index in indices]
            written.update(zip(indices, self._write(contexts, requests[indices[0]].args[1], indices), strict=True))
        return [written[index] for index in range(len(requests))]

    def _write(self, contexts: Sequence[str], arguments: dict[str, Any], indices: Sequence[int]) -> list[str]:
        asked: dict[str, Any] = dict(normalize_gen_kwargs(arguments, MOST_TOKENS))
        stop = handle_stop_sequences(asked.get("until"), eos=None)
        n_tokens, context = int(asked["max_gen_toks"]), self.max_length
        if n_tokens >= context:
            raise InputError(f"the task lets the model write {n_tokens} tokens, and it sees only {context} at once")
        sampling = GREEDY
        if asked["do_sample"] and asked["temperature"] > 0:
            sampling = Sampling(
                temperature=asked["temperature"], top_k=asked.get("top_k") or None, top_p=asked.get("top_p")
            )
        answers = write_answers(
            self.setting,
            contexts,
            n_tokens=n_tokens,
            stop=lambda text: any(term and term in text for term in stop),
            sampling=sampling,
            seeds=[f"{self.setting.protocol.seed} {index}" for index in indices],
        )
        return [postprocess_generated_text(answer.text, stop, None) for answer in answers]
