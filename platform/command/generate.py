"""`ladder generate`: samples from a checkpoint."""

import click


@click.command("generate")
@click.argument("checkpoint")
@click.option("--prompt", required=True, help="Text to continue; empty starts a document.")
@click.option("--tokens", default=100, show_default=True, type=click.IntRange(min=1), help="Tokens to sample.")
@click.option("--temperature", default=1.0, show_default=True, help="0 takes the likeliest token always.")
@click.option("--top-k", type=int, help="Sample among so many likeliest tokens.")
@click.option("--top-p", type=float, help="Sample among the likeliest tokens that hold this probability.")
@click.option("--seed", default=0, show_default=True, help="Seed of the sampling.")
@click.option("--tokenizer", help="gpt2 or bytes; default the one that the checkpoint names.")
@click.option("--device", default="auto", show_default=True, type=click.Choice(["auto", "cpu", "cuda"]))
def command(
    checkpoint: str,
    prompt: str,
    tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    seed: int,
    tokenizer: str | None,
    device: str,
) -> None:
    """Continue a text with CHECKPOINT: a folder of ours or of Hugging Face, or a Hugging Face name.

    \b
    Example:
      ladder generate storage/sweeps/demo/RUN/STEP --prompt "Return the name of" --tokens 60
    """
    from ladder.models.generation import generate
    from ladder.platform.evaluation.checkpoint import choose_device, open_checkpoint

    model, words = open_checkpoint(checkpoint, device=choose_device(device), precision="fp32", tokenizer=tokenizer)
    continuation = generate(
        model,
        words.encode(prompt) or [words.end_of_text],
        n_tokens=tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        end_of_text=words.end_of_text,
    )
    click.echo(prompt + words.decode([token for token in continuation if token != words.end_of_text]))
