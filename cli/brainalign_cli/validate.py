"""The command ``brainalign validate``: whether the methods find what was planted, and only that."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from brainalign.validation.checks import Check

__all__ = ["validate"]

HEADERS = ("id", "design", "criterion", "observed", "passed")
# 100 characters with two between columns.
WIDTHS = (4, 28, 30, 24, 6)


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--full", is_flag=True, help="The designs as specified, which take tens of minutes.")
@click.option("--seed", default=0, type=click.IntRange(min=0), show_default=True, help="Of all that is drawn.")
def validate(ids: tuple[str, ...], full: bool, seed: int) -> int:
    """Check the methods on simulated data of known truth.

    ID is a ground truth, such as V1 or V7a; all by default. Leaves with 1 if one of them is missed.
    """
    from brainalign.validation.table import validate as checks_of

    checks = checks_of(ids or None, size="full" if full else "quick", seed=seed)
    click.echo(_row(HEADERS))
    click.echo("  ".join("-" * width for width in WIDTHS))
    n_checks, missed = 0, list[str]()
    for check in checks:
        click.echo(_row(_cells(check)))
        n_checks += 1
        missed += [] if check.passed else [check.id]
    click.echo(f"{n_checks - len(missed)} of {n_checks} passed" + (f"; missed: {_named(missed)}." if missed else "."))
    return 1 if missed else 0


def _cells(check: Check) -> tuple[str, ...]:
    return check.id, check.design, check.criterion, check.observed, "yes" if check.passed else "NO"


def _row(cells: Sequence[str]) -> str:
    """Cells side by side, each wrapped to its column."""
    columns = [
        textwrap.wrap(cell, width, break_on_hyphens=False) or [""] for cell, width in zip(cells, WIDTHS, strict=True)
    ]
    lines = zip_longest(*columns, fillvalue="")
    return "\n".join(
        "  ".join(part.ljust(width) for part, width in zip(line, WIDTHS, strict=True)).rstrip() for line in lines
    )


def _named(ids: Sequence[str]) -> str:
    """The ground truths missed, each once."""
    return ", ".join(dict.fromkeys(ids))
