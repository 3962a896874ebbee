"""The command `ladder`: commands are loaded when called; what a user got wrong ends in exit code 2 and a message."""

import importlib
import logging
import os
import sys

import click
from click.shell_completion import CompletionItem

from ladder.models.errors import InputError, PartialFailure, did_you_mean
from ladder.platform.processes import set_wait_policy

COMMANDS = {
    "sizes": "Show the ladder of model sizes.",
    "corpus": "Build, list and show corpora.",
    "fetch": "Get benchmark files: downloads or local copies, checked.",
    "plan": "Show what a sweep would cost and resolve, or what to train with a budget.",
    "tune": "Search the learning rate of a sweep's sizes.",
    "run": "Train and score a sweep, or go on with it.",
    "submit": "Run a sweep as a job on a running cluster.",
    "status": "Show how far a sweep is, and what it took.",
    "stop": "End a sweep's work, from anywhere, and leave it resumable.",
    "retry": "Open failed runs again.",
    "report": "Fit the laws and write the report of a sweep, of two, or of a table.",
    "fit": "Fit laws to any table.",
    "evaluate": "Score checkpoints, or any GPT-2, on benchmarks.",
    "finetune": "Fine-tune checkpoints on labelled tasks: transfer, beside training from scratch.",
    "overlap": "Find how much of benchmarks a corpus holds already.",
    "generate": "Continue texts with a checkpoint.",
    "explore": "Show one text through every checkpoint of a sweep, in a browser.",
    "bench": "Measure training speed on this hardware.",
    "ui": "Open MLflow's UI on the runs.",
}
"""In the order of use; each is a module of this folder whose `command` is the click command. The summaries stand here,
so that `ladder --help` imports none of them."""


class LazyGroup(click.Group):
    """A group that imports a command's module only when it is called."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            if context.resilient_parsing:  # the shell asks
                return None
            context.fail(f"no command {name!r}{did_you_mean(name, COMMANDS)}; `ladder --help` lists them")
        command = importlib.import_module(f"ladder.platform.command.{name}").command
        assert isinstance(command, click.Command), name
        return command

    def shell_complete(self, context: click.Context, incomplete: str) -> list[CompletionItem]:
        if incomplete.startswith("-"):
            return click.Command.shell_complete(self, context, incomplete)  # the options; click's group imports all
        return [CompletionItem(name, help=COMMANDS[name]) for name in COMMANDS if name.startswith(incomplete)]

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="ladder")
@click.option("--verbose", "-v", is_flag=True, help="Show what the libraries underneath log.")
def cli(verbose: bool) -> None:
    """Scaling-law experiments on GPT-2 models, from a sweep in a few lines of Python to a report with intervals.

    \b
    A first tour:
      ladder sizes          the ladder of model sizes
      ladder plan demo      what the sweep `demo` would cost, and could resolve
      ladder run demo       train and score it on this machine
      ladder report demo    fit the laws and write the report

    Exit codes: 0 all is done, 1 a part failed, 2 what was asked for is wrong.
    """
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )


def main() -> None:
    """Run the command; never shows a traceback for what a user got wrong."""
    # Arrow reads it when it is first imported. Its own allocator keeps what many small batches leave behind: merging
    # 6 million links of a dump took 80 MiB more, with never more than 5 MiB in use at once.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    os.environ.setdefault("TQDM_DISABLE", "1")  # libraries' bars, which would stand among our own
    set_wait_policy()
    try:
        code = cli(prog_name="ladder", standalone_mode=False)
    except InputError as error:
        click.echo(f"ladder: {error}", err=True)
        code = 1 if isinstance(error, PartialFailure) else 2
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("ladder: interrupted", err=True)
        code = 130
    sys.exit(code if isinstance(code, int) else 0)
