"""Pereira et al. (2018): responses of voxels to sentences, in the form that Brain-Score publishes."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainalign.datasets.archive_dataset import ArchiveDataset, Run
from brainalign.datasets.common_targets import with_common_targets
from brainalign.errors import BrainalignError, DataError, RecipeError
from brainalign.files import digest_of
from brainalign.types import Clock, Finding, Floats, Recording, Stimulus

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Pereira2018"]

OF_SENTENCES = ("experiment", "stimulus_num", "stimulus", "passage_index")
OF_VOXELS = ("neuroid_id", "subject")
# What the file tells of a voxel's place, and what it is called here.
PLACES = {
    "roi": "roi",
    "indices_in_3d": "voxel",
    "col_to_coord_1": "i",
    "col_to_coord_2": "j",
    "col_to_coord_3": "k",
}


class Pereira2018(ArchiveDataset):
    """Experiments 2 and 3 of Pereira et al. (2018): ten subjects who read 384 or 243 sentences, or both.

    Parameters
    ----------
    root : Path, optional
        A folder with Brain-Score's file; it is fetched by default.
    subjects : tuple of str, optional
        "018", "199" ...; all by default.
    stimuli : tuple of str, optional
        "243sentences" or "384sentences", the experiments; both by default.
    context : {"sentence", "passage"}
        What the column ``sentence`` of the words numbers, and so what a model with ``context: sentence`` reads
        together: sentences, or the passages of three or four that they come from, as Brain-Score has it.

    Raises
    ------
    RecipeError
        If there is no such subject, experiment or context.

    Notes
    -----
    Each row of a response is a sentence, so that the alignment is `brainalign.alignment.Items`. Subjects who did not
    see an experiment have no recording of it: the file holds NaN for them. Times are a convention: sentence i takes
    second i, its words share it evenly.

    A voxel's place is the file's: parcel (``roi``), index in the volume (``voxel``, and ``i``, ``j``, ``k``, which
    count from 1). The affine of that volume is not published with it, so that there are no millimetres.

    The layout was read in brain-score/language (commit 0e0bb4a2, ``brainscore_language/data/pereira2018``:
    ``data_packaging.py`` writes the coordinates, ``test.py`` counts 627 sentences, 10 subjects and 13,553 voxels; the
    notebook ``examples/compare_within_species.ipynb`` prints them) and in brain-score/brainio (``packaging.py``: an
    xarray variable ``data`` of NetCDF, its MultiIndex reset).

    Examples
    --------
    >>> data = Pereira2018(subjects=("018", "215"))
    >>> data.subjects, tuple(data.stimuli)
    (('018', '215'), ('243sentences', '384sentences'))
    """

    def __init__(
        self,
        root: Path | None = None,
        subjects: tuple[str, ...] | None = None,
        stimuli: tuple[str, ...] | None = None,
        context: Literal["sentence", "passage"] = "sentence",
    ) -> None:
        if context not in ("sentence", "passage"):
            raise RecipeError(f"context is sentence or passage, not {context}.")
        self.context = context
        self.file = "assy_Pereira2018_language.nc"
        super().__init__("pereira2018", root, subjects, stimuli)

    def all_runs(self) -> list[Run]:
        """Both experiments of each subject, in one file, which tells who saw which."""
        facts = self._facts
        return [
            Run(subject, experiment, experiment, (self.file,))
            for subject in facts["subjects"]
            for experiment in facts["experiments"]
        ]

    def words_files(self, stimulus: str) -> tuple[str, ...]:
        """The file, which holds the sentences too."""
        return (self.file,)

    def read_stimulus(self, stimulus: str) -> Stimulus:
        """The sentences of an experiment, in the file's order of them."""
        sentences = self._layout.sentences.iloc[self._layout.rows_of(stimulus)]
        texts = [text.split() for text in sentences["stimulus"]]
        lengths = np.array([len(words) for words in texts])
        item = np.repeat(np.arange(len(texts)), lengths)
        place = np.concatenate([np.arange(length) for length in lengths])
        passage = pd.factorize(sentences["passage_index"])[0][item]
        words = pd.DataFrame(
            {
                "onset": item + place / lengths[item],
                "duration": 1.0 / lengths[item],
                "text": [word for words in texts for word in words],
                "sentence": item if self.context == "sentence" else passage,
                "item": item,
            }
        )
        return Stimulus(stimulus, words)

    def recordings(
        self, subjects: Sequence[str] | None = None, stimuli: Sequence[str] | None = None
    ) -> list[Recording]:
        """The recordings of these subjects and experiments, of those that each subject saw."""
        runs = self._runs_of(subjects, stimuli)
        self.archive.fetch(self._files_of(runs, ("responses",)))
        seen = [run for run in runs if len(self._layout.columns_of(run.subject, run.stimulus))]
        return with_common_targets([self.read_run(run) for run in seen])

    def read_run(self, run: Run) -> Recording:
        """The recording of a subject and an experiment."""
        layout = self._layout
        rows, columns = layout.rows_of(run.stimulus), layout.columns_of(run.subject, run.stimulus)
        voxels = layout.voxels.iloc[columns].reset_index(drop=True)
        known = {ours: voxels[theirs] for theirs, ours in PLACES.items() if theirs in voxels}
        unseen = [other for other in self.stimuli if not len(layout.columns_of(run.subject, other))]
        message = f"no responses to {', '.join(unseen)}: not every subject saw both experiments."
        return Recording(
            subject=run.subject,
            run=run.run,
            stimulus=run.stimulus,
            modality="fmri",
            clock=Clock(step_s=1.0),
            offset_s=0.0,
            targets=pd.DataFrame({"name": voxels["neuroid_id"], "kind": "voxel", **known}),
            read=partial(_read_responses, self.archive.place(self.file), rows, columns),
            digest=digest_of({"files": self.archive.digest(run.responses), "run": [run.subject, run.stimulus]}),
            findings=(Finding("unseen-stimulus", f"subject {run.subject}", message),) if unseen else (),
        )

    @cached_property
    def _layout(self) -> _Layout:
        return _read_layout(self.archive.place(self.file))


@dataclass(frozen=True)
class _Layout:
    """What a file's rows and columns are: tables of sentences and voxels, and which experiments have which voxels."""

    sentences: pd.DataFrame
    voxels: pd.DataFrame
    measured: dict[str, NDArray[np.bool_]]

    def rows_of(self, experiment: str) -> NDArray[np.intp]:
        """The rows of an experiment's sentences, in their order."""
        rows = np.flatnonzero(self.sentences["experiment"] == experiment)
        return rows[np.argsort(self.sentences["stimulus_num"].to_numpy()[rows], kind="stable")]

    def columns_of(self, subject: str, experiment: str) -> NDArray[np.intp]:
        """The columns of a subject's voxels that have responses to an experiment."""
        return np.flatnonzero((self.voxels["subject"] == subject).to_numpy() & self.measured[experiment])


def _read_layout(path: Path) -> _Layout:
    with _opened(path) as data:
        sentences, voxels = _coordinates(path, data, "presentation"), _coordinates(path, data, "neuroid")
        has_value = np.isfinite(data.to_numpy())
    lacking = [name for name in OF_SENTENCES if name not in sentences] + [n for n in OF_VOXELS if n not in voxels]
    if lacking:
        raise DataError(f"{path}: no coordinate {', '.join(map(repr, lacking))}; is it Brain-Score's assembly?")
    experiments = sentences["experiment"].astype(str)
    measured = {name: has_value[(experiments == name).to_numpy()].any(axis=0) for name in experiments.unique()}
    texts = {"experiment": experiments, "stimulus": sentences["stimulus"].astype(str)}
    names = {name: voxels[name].astype(str) for name in OF_VOXELS}
    return _Layout(sentences.assign(**texts), voxels.assign(**names), measured)


def _coordinates(path: Path, data: xr.DataArray, dimension: str) -> pd.DataFrame:
    """The coordinates along a dimension, one column each."""
    return pd.DataFrame(
        {str(name): values.to_numpy() for name, values in data.coords.items() if values.dims == (dimension,)}
    )


def _read_responses(path: Path, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Floats:
    # A subject's voxels stand side by side, and reading a stretch is much faster than picking.
    first, last = int(columns[0]), int(columns[-1])
    with _opened(path) as data:
        stretch = data.isel(neuroid=slice(first, last + 1)).to_numpy()
    return stretch[np.ix_(rows, columns - first)].astype(np.float32)


@contextmanager
def _opened(path: Path) -> Generator[xr.DataArray]:
    """The file's responses (presentation, neuroid), not read yet."""
    import xarray as xr

    try:
        with xr.open_dataset(path) as file:
            yield file["data"].transpose("presentation", "neuroid")
    except BrainalignError:
        raise
    except Exception as error:  # its readers meet a damaged file with whatever they stumble over
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: not a NetCDF file of Brain-Score ({type(error).__name__}: {reason}).") from error
