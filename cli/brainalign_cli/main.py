"""The command ``brainalign`` and its exit codes.

0 done; 2 the user can mend it (one to three lines on stderr); 1 a defect of ours (with its traceback); 130 interrupted.
"""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

import click

from brainalign_cli.cache import cache
from brainalign_cli.check import check
from brainalign_cli.datasets import fetch, list_command
from brainalign_cli.validate import validate

if TYPE_CHECKING:
    from brainalign.pipeline import Outcome

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
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change the recipe: encoder.selection=r.")
@click.option("--overwrite", is_flag=True, help="Replace the result of another recipe in that folder.")
@click.option("--quiet", is_flag=True, help="No progress bars, for batch jobs.")
def run(recipe: str, out: str | None, jobs: int | None, changes: tuple[str, ...], overwrite: bool, quiet: bool) -> None:
    """Run a recipe: the path of a YAML file, or a name from `brainalign recipes`."""
    from pathlib import Path

    from brainalign.config import load_recipe

    # Checked before the heavier modules are loaded: a mistyped recipe is told at once.
    checked = load_recipe(recipe, changes)
    folder = out or f"results/{Path(recipe).stem}"

    from brainalign import pipeline
    from brainalign.limits import allowed_cpus
    from brainalign_cli.progress import Bars

    with Bars(quiet) as bars:
        outcome = pipeline.run(checked, folder, n_jobs=jobs or allowed_cpus(), progress=bars, overwrite=overwrite)
    _print_outcome(outcome)


def _print_outcome(outcome: Outcome) -> None:
    from brainalign.report import group_profile
    from brainalign.report.curves import layer_called

    for notice in outcome.notices:
        click.secho(f"\n*** {notice}\n", fg="red", bold=True, err=True)
    if outcome.scores is None:
        click.echo(f"Submitted. How far it is: brainalign status {outcome.folder}")
        return
    for finding in outcome.scores.attrs["findings"]:
        click.echo(f"note: {finding['where']}: {finding['message']}", err=True)
    profile = group_profile(outcome.scores)
    shown = [name for name in ("r", "r_baseline", "r_joint", "gain") if name in profile]
    click.echo(profile[["feature_space", "layer_name", *shown]].round(3).to_string(index=False))
    if profile["r"].notna().any():
        best = profile.loc[profile["r"].idxmax()]
        layer = layer_called(str(best["feature_space"]), str(best["layer_name"]))
        click.echo(f"Best layer (selected on these scores): {layer}.")
    click.echo("Done." if outcome.computed else "Nothing was left to compute.")
    for notice in outcome.notices:
        click.secho(notice.split(".")[0] + ".", fg="red", err=True)
    click.echo(f"Report: {outcome.folder / 'report.html'}")


@cli.command()
@click.argument("folder")
def status(folder: str) -> None:
    """Say what a result folder holds."""
    from brainalign.pipeline import status as look

    found = look(folder)
    click.echo(f"{folder}: {found.state}" + (f", {found.title}" if found.title else ""))
    if found.state == "unfinished":
        click.echo("  running, or stopped: the command that began it goes on from what is finished")
    if found.started:
        click.echo(f"  started {found.started}; report: {folder}/report.html")
    for finding in found.findings:
        click.echo(f"  {finding}")


@cli.command()
@click.argument("folder")
def report(folder: str) -> None:
    """Write report.html and summary.csv anew from a folder's scores."""
    from brainalign.pipeline import report as write

    click.echo(f"Report: {write(folder)}")


cli.add_command(cache)
cli.add_command(check)
cli.add_command(fetch)
cli.add_command(list_command)
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
    sys.exit(_exit_code(arguments))


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
