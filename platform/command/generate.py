"""`ladder generate`: samples from a checkpoint."""

import codecs
from collections.abc import Callable
from pathlib import Path

import click

from ladder.models.errors import InputError
from ladder.platform.command.options import device_option, echo_json, json_option, tokenizer_option


@click.command("generate")
@click.argument("checkpoint")
@click.option("--prompt", "prompts", multiple=True, help="Text to continue, repeatable; empty starts a document.")
@click.option(
    "--prompt-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="File of one prompt a line."
)
@click.option(
    "--continuations", default=1, show_default=True, type=click.IntRange(min=1), help="Texts written after each prompt."
)
@click.option(
    "--max-new-tokens", default=100, show_default=True, type=click.IntRange(min=1), help="Most tokens of a text."
)
@click.option("--temperature", default=1.0, show_default=True, help="0 takes the likeliest token always.")
@click.option("--top-k", type=int, help="Sample among so many likeliest tokens.  [default: all]")
@click.option(
    "--top-p", type=float, help="Sample among the likeliest tokens that hold this probability.  [default: all]"
)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(min=0),
    help="Seed of each prompt's first text; the next text has the next.",
)
@tokenizer_option
@device_option
@json_option
def command(
    checkpoint: str,
    prompts: tuple[str, ...],
    prompt_file: Path | None,
    continuations: int,
    max_new_tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    seed: int,
    tokenizer: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Continue texts with CHECKPOINT: a folder of ours or of Hugging Face, or a Hugging Face name.

    A prompt's text does not depend on which others are continued with it.

    \b
    Examples:
      ladder generate storage/sweeps/demo/RUN/STEP --max-new-tokens 60 \\
          --prompt "Return the name of"
      ladder generate gpt2 --prompt-file prompts.txt --continuations 3 --json
    """
    from ladder.models.generation import Sampling, generate
    from ladder.platform.evaluation.checkpoints.open import choose_device, open_checkpoint

    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    asked = [*prompts, *(_read_prompts(prompt_file) if prompt_file is not None else [])]
    if not asked:
        raise click.UsageError("there is nothing to continue: name a --prompt TEXT or a --prompt-file")
    model, words = open_checkpoint(checkpoint, device=choose_device(device), precision="fp32", tokenizer=tokenizer)
    texts = [prompt for prompt in asked for _ in range(continuations)]
    seeds = [seed + number for _ in asked for number in range(continuations)]
    alone = len(texts) == 1 and not as_json
    if alone:
        click.echo(texts[0], nl=False)
    written = generate(
        model,
        [words.encode(text) or [words.end_of_text] for text in texts],
        n_tokens=max_new_tokens,
        sampling=sampling,
        seeds=seeds,
        end_token=words.end_of_text,
        on_token=_make_printer(words.decode_bytes) if alone else None,
    )
    ends = [words.decode(continuation.tokens) for continuation in written]
    if as_json:
        rows = zip(texts, ends, written, seeds, strict=True)
        echo_json([{"prompt": p, "text": t, "token_ids": list(c.tokens), "seed": s} for p, t, c, s in rows])
    elif alone:
        click.echo()
    else:
        click.echo("\n\n".join(prompt + text for prompt, text in zip(texts, ends, strict=True)))


def _read_prompts(file: Path) -> list[str]:
    """The lines of a UTF-8 file, without their ends."""
    prompts = []
    for number, line in enumerate(file.read_bytes().removesuffix(b"\n").split(b"\n"), start=1):
        try:
            prompts.append(line.decode("utf-8").removesuffix("\r"))
        except UnicodeDecodeError as error:
            raise InputError(f"{file}, line {number}: not UTF-8 at byte {error.start + 1} of the line") from error
    return prompts


def _make_printer(decode_bytes: Callable[[list[int]], bytes]) -> Callable[[int], None]:
    """Writes each token as soon as its characters are whole."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    return lambda token: click.echo(decoder.decode(decode_bytes([token])), nl=False)
