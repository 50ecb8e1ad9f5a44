"""Stories of The Moth: fMRI of whole brains, hours of it for each subject (LeBel et al., 2023; OpenNeuro ds003020)."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from brainalign.archives.local_files import require_file
from brainalign.datasets.archive_dataset import ArchiveDataset, Run
from brainalign.errors import DataError, RecipeError
from brainalign.files import digest_of
from brainalign.reading.array_files import array_shape, read_array
from brainalign.reading.words import SILENCES, read_words
from brainalign.types import Clock, Finding, Floats, Recording, Stimulus

if TYPE_CHECKING:
    import h5py

__all__ = ["LeBel2023"]

RESPONSES = "derivative/preprocessed_data"
LENGTHS = "derivative/respdict.json"
# What the files call the response, and those to each time the story was heard (repeat, time, voxel).
MEAN = "data"
REPEATS = "individual_repeats"


class LeBel2023(ArchiveDataset):
    """The LeBel set: nine subjects, 26 to 83 stories each, every cortical voxel.

    Parameters
    ----------
    root : Path, optional
        A copy of ds003020; what it lacks is fetched.
    subjects : tuple of str, optional
        "UTS01" to "UTS09"; all by default. UTS01 to UTS03 heard 83 stories.
    stimuli : tuple of str, optional
        Which stories; all by default.
    repeats : {"mean", "each"}
        Of the story that was heard five or ten times ("wheretheressmoke"): the mean response, or a run for each time.
    voxels : Path, optional
        A ``.npy`` file of the numbers of the voxels to take, or of one truth value for each; all by default. As the
        voxels are each subject's own, it needs one subject.

    sound : bool
        Whether stories come with their sound (about 90 MB each).

    Notes
    -----
    Row i of a story's response is at 10 + 2 i seconds of its sound: the archive cut volumes at both ends. This was
    compared with words by the dataset's own texts (word ends against rows, nine stories). The lengths are compared with
    ``respdict.json``, the volumes of each scan, of which the archive keeps all but twenty.

    Responses are z-scored by story by those who made them. Some voxels hold NaN, which `check_recording` finds.

    TextGrids name breaths, laughs, coughs and pauses among the words ("{BR}", "{LG}", "{CG}", "sp"); they are left out.
    Words are in small letters, without punctuation or sentences.

    Voxels are of each subject's own brain, numbered as in the files; the archive's transforms for pycortex are not
    read, so that there is no place to draw them at.

    Examples
    --------
    >>> data = LeBel2023(subjects=("UTS03",), stimuli=("souls", "legacy"))
    >>> data.files()[:2]
    ['derivative/preprocessed_data/UTS03/legacy.hf5', 'derivative/respdict.json']
    """

    def __init__(
        self,
        root: Path | None = None,
        subjects: tuple[str, ...] | None = None,
        stimuli: tuple[str, ...] | None = None,
        repeats: Literal["mean", "each"] = "mean",
        voxels: Path | None = None,
        sound: bool = False,
    ) -> None:
        self.repeats = repeats
        self.voxels = voxels
        super().__init__("lebel2023", root, subjects, stimuli, sound)
        if voxels is not None and (subjects is None or len(subjects) != 1):
            raise RecipeError("lebel2023: `voxels` are one subject's own; name that subject.")

    def all_runs(self) -> Sequence[Run]:
        """A run for each subject and story."""
        paths = self.archive.matching(rf"{RESPONSES}/UTS\d+/\w+\.hf5")
        return [Run(Path(path).parent.name, Path(path).stem, Path(path).stem, (path,), (LENGTHS,)) for path in paths]

    def words_files(self, stimulus: str) -> tuple[str, ...]:
        """The story's TextGrid."""
        return (f"derivative/TextGrids/{stimulus}.TextGrid",)

    def sound_files(self, stimulus: str) -> tuple[str, ...]:
        """The story's sound."""
        return tuple(self.archive.matching(rf"stimuli/{stimulus}\.wav"))

    def read_stimulus(self, stimulus: str) -> Stimulus:
        """The story, its times counted from the start of the sound."""
        marks = self._facts["not_words"]
        silences = (*SILENCES, *marks, *(f"{{{mark}}}" for mark in marks))
        words = read_words(self.archive.place(self.words_files(stimulus)[0]), tier="word", silences=silences)
        return Stimulus(stimulus, words.assign(text=words["text"].str.lower()))

    def recordings(
        self, subjects: Sequence[str] | None = None, stimuli: Sequence[str] | None = None
    ) -> list[Recording]:
        """The recordings of these subjects and stories; fetches their files where needed."""
        found = super().recordings(subjects, stimuli)
        if self.repeats == "mean":
            return found
        return [each for recording in found for each in self._each_repeat(recording)]

    def read_run(self, run: Run) -> Recording:
        """The response to a story; to one heard several times, the mean."""
        path = self.archive.place(run.responses[0])
        n_rows, n_voxels = array_shape(path, MEAN)
        voxels = np.arange(n_voxels) if self.voxels is None else _read_voxels(self.voxels, n_voxels)
        n_volumes = self._n_volumes.get(run.stimulus)
        found = []
        if n_volumes is not None and n_rows != n_volumes - self._facts["n_trimmed"]:
            message = (
                f"{n_rows} rows, not {n_volumes - self._facts['n_trimmed']} as its scan of {n_volumes} volumes has."
            )
            found.append(Finding("odd-length", str(run), message))
        return Recording(
            subject=run.subject,
            run=run.run,
            stimulus=run.stimulus,
            modality="fmri",
            clock=Clock(self._facts["tr_s"], self._facts["first_row_s"]),
            offset_s=0.0,
            targets=pd.DataFrame({"name": [f"voxel {i}" for i in voxels], "kind": "voxel", "voxel": voxels}),
            read=partial(read_array, path, MEAN, *([] if self.voxels is None else [voxels.tolist()])),
            digest=digest_of({"files": self.archive.digest(run.responses), "voxels": voxels.tolist()}),
            space={"kind": "voxels", "template": None, "n_voxels": n_voxels},
            steps=("z-scored by story (by the archive)",),
            findings=tuple(found),
        )

    def _each_repeat(self, recording: Recording) -> list[Recording]:
        if recording.stimulus != self._facts["repeated"]:
            return [recording]
        path = self.archive.place(f"{RESPONSES}/{recording.subject}/{recording.stimulus}.hf5")
        voxels = recording.targets["voxel"].tolist()
        return [
            replace(
                recording,
                run=f"{recording.run}-{number + 1}",
                read=partial(_read_repeat, path, number, voxels),
                digest=digest_of({"mean": recording.digest, "repeat": number}),
            )
            for number in range(_n_repeats(path))
        ]

    @cached_property
    def _n_volumes(self) -> dict[str, int]:
        """Volumes of each story's scan."""
        path = require_file(self.archive.place(LENGTHS))
        try:
            return {str(story): int(n) for story, n in json.loads(path.read_text(encoding="utf-8")).items()}
        except (ValueError, AttributeError, TypeError) as error:
            raise DataError(f"{path}: not a JSON object of volumes by story ({error}).") from error


def _read_voxels(path: Path, n_voxels: int) -> np.ndarray:
    """The numbers of the voxels that a file names."""
    values = np.load(require_file(path), allow_pickle=False)
    if values.dtype == bool and values.shape == (n_voxels,):
        return np.flatnonzero(values)
    if values.dtype.kind not in "iu" or values.ndim != 1 or len(values) == 0:
        raise DataError(
            f"{path}: expected numbers of voxels, or {n_voxels} truth values; found {values.dtype} of shape "
            f"{values.shape}."
        )
    if values.min() < 0 or values.max() >= n_voxels or len(np.unique(values)) != len(values):
        raise DataError(f"{path}: voxels are numbered from 0 to {n_voxels - 1}, and each may be named once.")
    return np.sort(values)


def _n_repeats(path: Path) -> int:
    with _opened(path) as file:
        return int(file[REPEATS].shape[0])


def _read_repeat(path: Path, number: int, voxels: Sequence[int]) -> Floats:
    """One repeat, shape (time, voxel)."""
    with _opened(path) as file:
        return np.asarray(file[REPEATS][number], dtype=np.float32)[:, list(voxels)]


@contextmanager
def _opened(path: Path) -> Generator[h5py.File]:
    """The file, which must hold each repeat."""
    import h5py

    with h5py.File(path, "r") as file:
        if REPEATS not in file or file[REPEATS].ndim != 3:
            raise DataError(f"{path}: no array '{REPEATS}' of shape (repeat, time, voxel); take `repeats: mean`.")
        yield file
