"""`ladder submit`: a sweep as a job on a running cluster."""

from typing import Any

import click

from ladder.platform.command.chosen import (
    GPT2_VOCABULARY,
    budget_option,
    corpus_option,
    execution_arguments,
    execution_options,
    executions,
    with_execution,
)
from ladder.platform.command.completion import complete_sweeps
from ladder.platform.storage import open_storage
from ladder.sweeps.load import load_sweep, sweep_file


@click.command("submit")
@click.argument("sweep", shell_complete=complete_sweeps)
@click.option("--address", required=True, help="The cluster's job server, such as http://127.0.0.1:8265.")
@click.option(
    "--storage",
    envvar="LADDER_STORAGE",
    show_envvar=True,
    required=True,
    help="Folder or URI as the cluster sees it: s3://, gs://, or a folder that all nodes share.",
)
@click.option(
    "--tracking",
    envvar="MLFLOW_TRACKING_URI",
    show_envvar=True,
    help="MLflow as the cluster sees it.  [default: the MLFLOW_TRACKING_URI of the head]",
)
@corpus_option
@budget_option
@execution_options
@click.option("--wait", "waits", is_flag=True, help="Wait for the job's end.")
def command(
    sweep: str,
    address: str,
    storage: str,
    tracking: str | None,
    corpus: str | None,
    budget_gpu_hours: float | None,
    waits: bool,
    **execution: Any,
) -> None:
    """Run SWEEP as a job on a running Ray cluster: this code and the sweep's file go there, and need not stay here.

    Waits until the cluster has taken the sweep; where no node can hold a run, the exit code is 2. With --wait the exit
    codes are those of `ladder run`.

    \b
    Examples:
      ray up cluster.yaml; ray dashboard cluster.yaml &
      ladder submit gpt2 --address http://127.0.0.1:8265 \\
          --storage s3://bucket/ladder
      ladder submit mine.py --address http://127.0.0.1:8265 \\
          --storage s3://bucket/ladder --accelerator-type H100
      ladder status gpt2 --storage s3://bucket/ladder
    """
    from ladder.platform.launching.submission import logs, submit, wait

    # What is wrong with the sweep or the options is said here, not in a log on the cluster.
    executions(with_execution(load_sweep(sweep), execution), GPT2_VOCABULARY)
    options = ["--storage", str(open_storage(storage))]
    options += ["--tracking", tracking] if tracking else []
    options += ["--corpus", corpus] if corpus else []
    options += execution_arguments({"budget_gpu_hours": budget_gpu_hours, **execution})
    job_id = submit(sweep_file(sweep), options, address=address)
    click.echo(f"submitted as {job_id}; follow it with: ray job logs --address {address} --follow {job_id}", err=True)
    click.echo(job_id)
    code = wait(job_id, address=address, until_begun=not waits)
    if waits or code:
        click.echo(logs(job_id, address=address), err=True)
        click.echo(f"{job_id} {'succeeded' if code == 0 else f'failed with exit code {code}'}", err=True)
    if code:
        raise SystemExit(code)
