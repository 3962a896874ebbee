"""GPT-2 with a linear head for a labelled task (Radford et al. 2018, section 3.2; figure 1, right).

The head reads the last layer's state, after the final norm, at the last token of a sequence, and gives a number for
each class, or one number. What several sequences of one example come to is the kind of the task's to say.
"""

import torch
from torch import Tensor, nn

from ladder.models.dropout import Dropout
from ladder.models.gpt2 import GPT2, WEIGHT_STD
from ladder.models.parametrization import BaseShape
from ladder.models.sizes import Size

HEAD_SEED = 1 << 40
"""Added to the seed for the head, or it would get the numbers of the first token embeddings."""


class Classifier(GPT2):
    """GPT-2 and a head; the head is called `score`, as in Hugging Face's GPT2ForSequenceClassification."""

    def __init__(
        self,
        size: Size,
        *,
        outputs: int,
        attention: str = "sdpa",
        seed: int = 0,
        base: BaseShape | None = None,
        activation_checkpointing: bool = False,
    ) -> None:
        """With the initial weights of `seed`; the head has GPT-2's standard deviation, and a bias of 0."""
        super().__init__(
            size, attention=attention, seed=seed, base=base, activation_checkpointing=activation_checkpointing
        )
        self.score = nn.Linear(size.d_model, outputs)
        with torch.no_grad():
            generator = torch.Generator().manual_seed(HEAD_SEED + seed)
            self.score.weight.copy_(torch.empty(outputs, size.d_model).normal_(0.0, WEIGHT_STD, generator=generator))
            self.score.bias.zero_()

    def score_states(self, states: Tensor) -> Tensor:
        """States [..., D] to the head's numbers [..., C], in fp32 whatever the precision of the network."""
        with torch.autocast(states.device.type, enabled=False):
            scores: Tensor = self.score(states.float())
        return scores

    def last_states(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """The states [B, D] of the last tokens of sequences of `lengths` [B], of hidden [B, T, D]."""
        return hidden[torch.arange(len(hidden), device=hidden.device), lengths - 1]

    def score_sequences(self, tokens: Tensor, lengths: Tensor, dropout: Dropout | None = None) -> Tensor:
        """Tokens [B, T] padded to the longest, with lengths [B], to the head's numbers [B, C]."""
        return self.score_states(self.last_states(self.hidden(tokens, dropout=dropout), lengths))
