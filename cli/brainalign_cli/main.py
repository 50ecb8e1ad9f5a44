"""The command ``brainalign`` and its exit codes.

0 done; 2 the user can mend it (one to three lines on stderr); 1 a defect of ours (with its traceback); 130 interrupted.
"""

from __future__ import annotations

import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import NoReturn, TextIO

import click

from brainalign_cli.cache import cache
from brainalign_cli.check import check
from brainalign_cli.datasets import fetch, list_command
from brainalign_cli.validate import validate
from brainalign_cli.work import cancel, executor_changes, jobs_change, print_outcome, print_plan, retry, status

# Heavy modules are imported inside the commands, so that --help answers at once.
__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="brainalign")
def cli() -> None:
    """How well does each layer of a language model predict human brain responses to language?

    Begin with `brainalign run demo`.
    """


@cli.command()
def recipes() -> None:
    """List the recipes that come with brainalign."""
    from brainalign.config import list_recipes, load_recipe

    for name in list_recipes():
        click.echo(f"{name:<16} {load_recipe(name).description}")


@cli.command()
@click.argument("recipe")
@click.option("--out", help="Result folder; results/RECIPE by default.")
@click.option("--jobs", type=click.IntRange(min=1), help="Processes side by side; by default one per core.")
@click.option("--executor", type=click.Choice(["local", "slurm", "dask"]), help="Where the work is done.")
@click.option("--scheduler", metavar="ADDRESS", help="Of Dask's scheduler, or the file that it wrote.")
@click.option("--wait", is_flag=True, help="With Slurm: stay until all jobs have ended.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change the recipe: encoder.selection=r.")
@click.option("--overwrite", is_flag=True, help="Replace the result of another recipe in that folder.")
@click.option("--dry-run", is_flag=True, help="Compute nothing, only say what it would take.")
@click.option("--quiet", is_flag=True, help="No progress bars, for batch jobs.")
def run(
    recipe: str,
    out: str | None,
    jobs: int | None,
    executor: str | None,
    scheduler: str | None,
    wait: bool,
    changes: tuple[str, ...],
    overwrite: bool,
    dry_run: bool,
    quiet: bool,
) -> None:
    """Run a recipe: the path of a YAML file, or a name from `brainalign recipes`."""
    from pathlib import Path

    from brainalign.config import load_recipe

    # Checked before the heavier modules are loaded: a mistyped recipe is told at once.
    changes = (*executor_changes(executor, scheduler, wait), *changes)
    checked = load_recipe(recipe, changes)
    if jobs is not None:
        checked = load_recipe(recipe, (*changes, *jobs_change(checked, jobs)))
    folder = out or f"results/{Path(recipe).stem}"

    from brainalign import pipeline
    from brainalign.limits import allowed_cpus
    from brainalign_cli.progress import Bars

    n_jobs = jobs or allowed_cpus()
    if dry_run:
        print_plan(checked, folder, n_jobs, overwrite)
        return
    with Bars(quiet) as bars:
        outcome = pipeline.run(checked, folder, n_jobs=n_jobs, progress=bars, overwrite=overwrite)
    print_outcome(outcome)


@cli.command()
@click.argument("folder")
def report(folder: str) -> None:
    """Write report.html and summary.csv anew from a folder's scores."""
    from brainalign.pipeline import report as write

    click.echo(f"Report: {write(folder)}")


cli.add_command(cache)
cli.add_command(cancel)
cli.add_command(check)
cli.add_command(fetch)
cli.add_command(list_command)
cli.add_command(retry)
cli.add_command(status)
cli.add_command(validate)


@cli.command()
def doctor() -> None:
    """Say what this machine has, and what is missing for what."""
    from brainalign.pipeline import describe_machine
    from brainalign.pipeline.machine import reachable, versions

    machine = describe_machine()
    missing = machine.pop("missing")
    for name, value in machine.items():
        click.echo(f"{name:<15} {', '.join(value) if isinstance(value, list) else 'none' if value is None else value}")
    for name, answers in reachable().items():
        click.echo(
            f"{'online' if answers else 'offline':<15} {name}{'' if answers else ' cannot be reached from here'}"
        )
    click.echo(f"{'versions':<15} " + ", ".join(f"{name} {version}" for name, version in versions().items()))
    for name, purpose in missing.items():
        click.echo(f"{'missing':<15} {name}: {purpose}")
    if not missing:
        click.echo(f"{'missing':<15} nothing")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and leave with its exit code."""
    # What it started ends with it, as when it is interrupted.
    signal.signal(signal.SIGTERM, _ended)
    sys.exit(_exit_code(arguments))


def _ended(number: int, _: object) -> NoReturn:
    # Told once, and not again while the rest is put in order.
    signal.signal(number, signal.SIG_IGN)
    click.echo("brainalign: ended by a signal; the same command goes on from what is finished.", err=True)
    sys.exit(128 + number)


def _exit_code(arguments: Sequence[str] | None) -> int:
    from brainalign.errors import BrainalignError

    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            # Outside standalone mode, click gives back the code of --help and --version instead of leaving.
            code = cli.main(args=list(arguments) if arguments is not None else None, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return 2
    except BrainalignError as error:
        click.echo(f"brainalign: {_at_most_three_lines(str(error))}", err=True)
        return 2
    except (KeyboardInterrupt, click.Abort):
        click.echo("brainalign: interrupted; the same command goes on from what is finished.", err=True)
        return 130
    except Exception:
        traceback.print_exc()
        click.echo("brainalign: the above is a defect of brainalign, not of your data; please report it.", err=True)
        return 1
    return code if isinstance(code, int) else 0


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Say what a warning says, without the line of code that said it."""
    click.echo(f"note: {message}", err=True)


def _at_most_three_lines(message: str) -> str:
    lines = [line for line in message.splitlines() if line.strip()]
    return "\n".join(lines if len(lines) <= 3 else [*lines[:2], lines[-1]])


if __name__ == "__main__":
    main()
