"""Scoring a long text with GPT-2's vocabulary needs far less memory than its logits would."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import resource, sys
import torch
from ladder.models.gpt2 import GPT2
from ladder.models.sizes import parse_size
from ladder.models.tokenizer import load_tokenizer
from ladder.platform.evaluation.scorer import Scorer

torch.set_num_threads(1)
model = GPT2(parse_size("1x64"), seed=0)
tokens = load_tokenizer("gpt2").encode(open(sys.argv[1]).read())[:24_576]
scorer = Scorer(model, device="cpu", precision="fp32", start_token=50256)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
scorer.rolling([tokens])
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(grown * (1 if sys.platform == "darwin" else 1024))
"""


def test_24_windows_of_wikitext2_take_less_than_half_a_gibibyte_above_the_model(
    shared: Path, gpt2_vocabulary: None
) -> None:
    text = shared / "benchmarks" / "wikitext2" / "wiki.test.tokens"
    command = [sys.executable, "-c", SCRIPT, str(text)]
    root = Path(__file__).parents[3]
    done = subprocess.run(command, cwd=root, env={**os.environ}, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1 << 29  # all logits at once would be 4.6 GiB, of a batch of 2,048 tokens 0.4 GiB
