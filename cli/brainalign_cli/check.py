"""The command ``brainalign check``: what of a dataset is here, and whether its words and signals fit together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from brainalign_cli.settings import settings_of

if TYPE_CHECKING:
    from brainalign.pipeline.inspection import Inspection
    from brainalign.types import Dataset

__all__ = ["check"]

# So many findings of one code are printed; the page has all.
N_FINDINGS = 3


@click.command()
@click.argument("dataset")
@click.option("--subjects", help="Names, separated by commas; all by default.")
@click.option("--root", help="Folder of your own copy of the files.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="A setting of the dataset: radius_mm=10.")
@click.option("--out", help="Folder for check.html and check.json; checks/DATASET by default.")
@click.option("--no-responses", is_flag=True, help="Look at the files only, and read no recording.")
@click.option("--quiet", is_flag=True, help="No progress bars, for batch jobs.")
def check(
    dataset: str,
    subjects: str | None,
    root: str | None,
    changes: tuple[str, ...],
    out: str | None,
    no_responses: bool,
    quiet: bool,
) -> None:
    """Say what of a dataset is here, what is odd, and whether words and signals fit together.

    DATASET is a name from `brainalign list`, or a recipe (a YAML file), of which the dataset is looked at. Nothing is
    downloaded.
    """
    data = _dataset(dataset, subjects.split(",") if subjects else None, root, changes)

    from brainalign.pipeline.inspection import inspect
    from brainalign.pipeline.results import write_json
    from brainalign.report.check_page import write_check
    from brainalign_cli.progress import Bars

    with Bars(quiet) as bars:
        found = inspect(data, responses=not no_responses, progress=bars)
    record = found.record()
    folder = Path(out or f"checks/{Path(dataset).stem}")
    write_check(record, folder / "check.html")
    write_json(record, folder / "check.json")
    _print(found, record)
    click.echo(f"Page: {folder / 'check.html'}")


def _dataset(dataset: str, subjects: Sequence[str] | None, root: str | None, changes: Sequence[str]) -> Dataset:
    """The dataset of this name, or of this recipe, with its settings changed."""
    from brainalign.datasets import list_datasets, load_dataset

    folder = None if root is None else Path(root).absolute()
    if dataset in list_datasets():
        return load_dataset(dataset, root=folder, subjects=subjects, options=settings_of(changes))
    from brainalign.config import list_recipes, load_recipe
    from brainalign.errors import RecipeError, nearest

    if dataset not in list_recipes() and not Path(dataset).is_file():
        known = [*list_datasets(), *list_recipes()]
        raise RecipeError(f"There is no dataset or recipe '{dataset}'. {nearest(dataset, known)}")
    recipe = load_recipe(dataset, [f"dataset.{change}" for change in changes])
    chosen = subjects or (None if recipe.subjects == "all" else recipe.subjects)
    return load_dataset(recipe.dataset, root=folder, subjects=chosen, options=recipe.dataset_options)


def _print(found: Inspection, record: dict[str, Any]) -> None:
    from brainalign.report.check_page import check_summary

    click.echo(f"{found.dataset['name']}: {found.dataset['title']}")
    if found.files is not None:
        states = ", ".join(f"{found.count(state)} {state}" for state in ("here", "missing", "damaged"))
        click.echo(f"Files: {states}.")
    if found.recordings:
        click.echo(_columns(*check_summary(record)))
    for entry in found.shared:
        click.echo(
            f"Inter-subject correlation, {entry['stimulus']}: median {entry['median']:z.2f} over targets, "
            f"from {entry['lowest']:z.2f} to {entry['highest']:z.2f}."
        )
    if found.word_rate is not None:
        peak_s, peak_r = found.word_rate["peak_s"], found.word_rate["peak_r"]
        click.echo(f"Response and rate of words: r is highest, {peak_r:.2f}, when words are moved by {peak_s:+.0f} s.")
    if found.word_response is not None:
        answer = found.word_response
        click.echo(
            f"Response to words: highest {answer['peak_s']:+.2f} s from onset, signal-to-noise {answer['snr']:.1f}, "
            f"half-split r = {answer['half_split_r']:.2f}."
        )
    _print_findings(found)


def _print_findings(found: Inspection) -> None:
    from brainalign.warning_codes import CODES

    by_code: dict[str, list[str]] = {}
    for finding in found.findings:
        by_code.setdefault(finding.code, []).append(str(finding))
    for code, messages in by_code.items():
        if code in CODES:
            click.echo(f"[{code}] {CODES[code]}")
        for message in messages[:N_FINDINGS]:
            click.echo(f"[{code}] {message}")
        if len(messages) > N_FINDINGS:
            click.echo(f"[{code}] and {len(messages) - N_FINDINGS} more; check.html has all.")


def _columns(headers: list[str], rows: list[list[str]]) -> str:
    table = [headers, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(headers))]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in table)
