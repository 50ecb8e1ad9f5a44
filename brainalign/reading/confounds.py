"""Tables of what is to be regressed out of fMRI: motion, white matter, drifts, components of noise."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainalign.errors import DataError, RecipeError, listed, nearest
from brainalign.reading.tables import Table, read_table
from brainalign.types import Finding, Floats

__all__ = ["STRATEGIES", "confounds_findings", "read_confounds_table"]

STRATEGIES: dict[str, dict[str, Any]] = {
    "motion": {"strategy": ("motion",), "motion": "basic"},
    "motion24": {"strategy": ("motion",), "motion": "full"},
    "wm_csf": {"strategy": ("wm_csf",), "wm_csf": "basic"},
    "cosine": {"strategy": ("high_pass",)},
    # Components are of series that were high-passed; nilearn wants the cosines beside them.
    "acompcor": {"strategy": ("high_pass", "compcor"), "compcor": "anat_combined", "n_compcor": 5},
}
"""Named choices of fMRIPrep's columns, as nilearn's `load_confounds` makes them: 6 or 24 of motion; means of white
matter and CSF; drifts below 1/128 Hz; five components of white matter and CSF together (aCompCor), with the drifts."""

FMRIPREP_NAME = re.compile(r"(.*_)?desc-confounds_(timeseries|regressors)\.tsv")
NOTHING = ("n/a", "nan", "NaN", "")


def read_confounds_table(
    path: Path, columns: Sequence[str] | None = None, n_volumes: int | None = None
) -> pd.DataFrame:
    r"""Read confounds, one row per volume.

    What a derivative lacks in the first row is its value in the second, as nilearn fills it; see `confounds_findings`.

    Parameters
    ----------
    path : Path
        A tsv or csv file with a header, such as fMRIPrep's ``desc-confounds_timeseries.tsv``.
    columns : sequence of str, optional
        Names of columns, and, for a file that fMRIPrep made, of `STRATEGIES`; all columns by default.
    n_volumes : int, optional
        How many rows there must be.

    Raises
    ------
    DataError
        If the file is missing or no such table, has another number of rows, or a cell that is no number after the
        first row; the message names the line.
    RecipeError
        If there is no such column or strategy, or the file has not what the strategy needs.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "confounds.tsv"
    ...     _ = path.write_text("csf\tcsf_derivative1\n1.0\tn/a\n1.5\t0.5\n")
    ...     read_confounds_table(path)
       csf  csf_derivative1
    0  1.0              0.5
    1  1.5              0.5
    """
    table = read_table(path)
    if n_volumes is not None and len(table) != n_volumes:
        raise DataError(f"{path}: {len(table)} rows of confounds for {n_volumes} volumes; is it another run's?")
    names = _names(path, table, columns)
    return pd.DataFrame({name: _filled(table, name) for name in names})


def confounds_findings(path: Path, columns: Sequence[str] | None, where: str) -> list[Finding]:
    """Say what was filled in, and which volumes fMRIPrep took for unsteady.

    Returns
    -------
    list of Finding
        Codes: ``first-row-filled``; ``non-steady-state`` (these volumes are kept).
    """
    table = read_table(path)
    findings = []
    filled = [name for name in _names(path, table, columns) if table.texts(name)[0] in NOTHING]
    if filled:
        message = f"{len(filled)} confounds of {path.name} begin with n/a, for which the second row's value is taken"
        findings.append(Finding("first-row-filled", where, f"{message}: {listed(filled)}."))
    unsteady = [name for name in table.columns if name.startswith("non_steady_state_outlier")]
    if unsteady:
        message = f"{path.name} marks {len(unsteady)} volumes as before the magnetisation was steady; they are kept."
        findings.append(Finding("non-steady-state", where, message))
    return findings


def _names(path: Path, table: Table, columns: Sequence[str] | None) -> list[str]:
    names: list[str] = []
    for column in table.columns if columns is None else columns:
        if column in table.columns:
            names.append(column)
        elif column in STRATEGIES:
            names += _names_of_strategy(path, column)
        else:
            raise RecipeError(
                f"{path}: no confound '{column}'. {nearest(column, [*STRATEGIES, *table.columns])[:1000]}"
            )
    return list(dict.fromkeys(names))


def _names_of_strategy(path: Path, strategy: str) -> list[str]:
    from nilearn.interfaces.fmriprep import load_confounds

    if not FMRIPREP_NAME.fullmatch(path.name):
        raise RecipeError(
            f"{path}: '{strategy}' stands for columns of fMRIPrep's desc-confounds_timeseries.tsv; name columns here."
        )
    # nilearn looks for the table beside an image, of which only the name is used.
    image = path.with_name(re.sub(r"desc-confounds_\w+\.tsv", "desc-preproc_bold.nii.gz", path.name))
    try:
        confounds, _ = load_confounds(str(image), demean=False, **STRATEGIES[strategy])
    except Exception as error:  # nilearn meets an odd table or sidecar in many ways
        reason = " ".join(str(error).split())[:200]
        raise RecipeError(f"{path}: it has not what '{strategy}' needs ({reason}); name columns instead.") from error
    return list(pd.DataFrame(confounds).columns)


def _filled(table: Table, name: str) -> Floats:
    cells = table.texts(name)
    if cells[0] in NOTHING and len(cells) > 1:
        cells[0] = cells[1]
    filled = Table(table.path, {name: cells}, table.row_names)
    return np.asarray(filled.numbers(name))
