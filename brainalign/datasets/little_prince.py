"""The Little Prince: fMRI of people who heard the audiobook in English, French or Chinese (Li et al., 2022)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from brainalign.datasets.archive_dataset import ArchiveDataset, Run
from brainalign.datasets.bold import bold_recording, with_reference
from brainalign.errors import DataError
from brainalign.reading.images import Images
from brainalign.reading.matching import in_order
from brainalign.reading.tables import read_table
from brainalign.reading.volumes import Volumes, open_volumes
from brainalign.types import Finding, Recording, Stimulus

__all__ = ["LittlePrince"]

TEMPLATE = "MNIColin27"


class LittlePrince(ArchiveDataset):
    """The Little Prince in fMRI: 49 English, 35 Chinese and 28 French listeners, nine sections of about ten minutes.

    Parameters
    ----------
    root : Path, optional
        A copy of ds003643; what it lacks is fetched.
    subjects : tuple of str, optional
        "EN057", "CN001", "FR001" ...; all of the language by default.
    stimuli : tuple of str, optional
        "EN-1" to "EN-9", and likewise "CN", "FR"; all of the language by default.
    language : {"en", "fr", "zh"}
        Of the listeners: a model reads one language, and a study of three is three runs.
    volumes : Volumes
        Which targets are made of the preprocessed volumes, which lie in MNI space (Colin 27).
    sound : bool
        Whether sections come with their sound.

    Raises
    ------
    DataError
        When a run is opened that has as many volumes as another section: runs are in another order than was thought.

    Notes
    -----
    Numbers of runs in the names of files are arbitrary ("run-15" to "run-23"): a subject's k-th run is section k. The
    volumes of each are compared with those that the archive's README names.

    The first volume of a preprocessed run began with the sound (README: volumes before it were cut), and TRs are 2 s.
    The archive's authors brought slices to one time with AFNI's 3dTshift, whose default is their mean, so that the
    first volume stands at that (``SliceTiming`` of the sidecars: 0.96 to 0.97 s); they aligned volumes to the Colin 27
    template and denoised them by multi-echo ICA.

    Words and their times are those of ``lpp<L>_word_information.csv``. Rows without a time, or with one before that of
    the row above, are left out and told: an annotation has a line twice here and there. French words are split at
    apostrophes ("j'", "avais"), as in the archive. There is neither punctuation nor sentences.

    In English and Chinese, three drawings were shown in the first section (at 10 to 75 s).

    Examples
    --------
    >>> data = LittlePrince(language="fr", stimuli=("FR-1",))
    >>> len(data.subjects), data.files(subjects=["FR001"], kinds=["responses"])
    (28, ['derivatives/sub-FR001/func/sub-FR001_task-lppFR_run-01_space-MNIColin27_desc-preproc_bold.nii.gz'])
    """

    def __init__(
        self,
        root: Path | None = None,
        subjects: tuple[str, ...] | None = None,
        stimuli: tuple[str, ...] | None = None,
        language: Literal["en", "fr", "zh"] = "en",
        volumes: Volumes = Volumes(),  # noqa: B008  (frozen)
        sound: bool = False,
    ) -> None:
        self.language = language
        self.volumes = volumes
        super().__init__("little_prince", root, subjects, stimuli, sound)

    def all_runs(self) -> Sequence[Run]:
        """Nine runs of each subject of the language, the k-th of which is section k."""
        code = self._code
        pattern = (
            rf"derivatives/sub-{code}\d+/func/sub-{code}\d+_task-lpp{code}_run-\d+_space-.*_desc-preproc_bold\.nii\.gz"
        )
        of_subject: dict[str, list[str]] = {}
        for path in self.archive.matching(pattern):
            of_subject.setdefault(path.split("/")[1].removeprefix("sub-"), []).append(path)
        runs = [
            Run(subject, str(section), f"{code}-{section}", (path,))
            for subject, paths in of_subject.items()
            for section, path in enumerate(sorted(paths, key=_number_of_run), start=1)
        ]
        return with_reference(runs, self.volumes)

    def words_files(self, stimulus: str) -> tuple[str, ...]:
        """The table of all sections' words."""
        return (f"annotation/{self._code}/lpp{self._code}_word_information.csv",)

    def sound_files(self, stimulus: str) -> tuple[str, ...]:
        """The section's sound."""
        return tuple(self.archive.matching(rf"stimuli/task-lpp{self._code}_section[-_]{_section(stimulus)}\.wav"))

    def read_stimulus(self, stimulus: str) -> Stimulus:
        """A section, its times counted from the start of its sound."""
        path = self.archive.place(self.words_files(stimulus)[0])
        words = self._words[self._words["section"] == _section(stimulus)]
        if len(words) == 0:
            raise DataError(f"{path}: no words of section {_section(stimulus)}.")
        spoken = words["text"] != ""
        kept = in_order(words["onset"].where(spoken & (words["offset"] >= words["onset"])).to_numpy(dtype=float))
        findings: tuple[Finding, ...] = ()
        if not kept.all():
            lost = [
                f"{text!r} ({onset:g} s)" for text, onset in words.loc[~kept, ["text", "onset"]].to_numpy().tolist()
            ]
            message = f"{len(lost)} of {len(words)} rows have no time, or one out of order, and are left out: "
            findings = (Finding("words-left-out", f"stimulus {stimulus}", message + ", ".join(lost[:5])),)
        words = words[kept].reset_index(drop=True)
        table = words.assign(duration=words["offset"] - words["onset"])[["onset", "duration", "text"]]
        return Stimulus(stimulus, table, language=self.language, findings=findings)

    def read_run(self, run: Run) -> Recording:
        """The recording of a section."""
        reference = next(map(self.archive.place, run.sidecars), None)
        images = open_volumes(
            self.archive.place(run.responses[0]),
            self.volumes,
            str(run),
            reference=reference,
            template=TEMPLATE,
            tr_s=self._facts["tr_s"],
        )
        return bold_recording(
            run,
            images,
            self.archive,
            self.volumes,
            offset_s=0.0,
            start_s=self._facts["first_volume_s"][self._code],
            reference=reference,
            findings=self._check_length(run, images),
        )

    def _check_length(self, run: Run, images: Images) -> list[Finding]:
        """Compare a run's volumes with those of its section."""
        expected: list[int] = self._facts["n_volumes"][self._code]
        section = _section(run.stimulus)
        if images.n_volumes == expected[section - 1]:
            return []
        if images.n_volumes in expected:
            other = expected.index(images.n_volumes) + 1
            raise DataError(
                f"{run}: {Path(run.responses[0]).name} has {images.n_volumes} volumes, those of section {other}, not "
                f"{expected[section - 1]}.\nA subject's k-th run is section k: is a run missing before it?"
            )
        message = f"{images.n_volumes} volumes; section {section} has {expected[section - 1]}."
        return [Finding("odd-length", str(run), message)]

    @property
    def _code(self) -> str:
        return {"en": "EN", "fr": "FR", "zh": "CN"}[self.language]

    @cached_property
    def _words(self) -> pd.DataFrame:
        """All sections' words: ``text``, ``onset``, ``offset``, ``section``; NaN where the annotation has no time."""
        table = read_table(self.archive.place(self.words_files("")[0]))
        numbers = {name: pd.to_numeric(pd.Series(table.texts(name)), errors="coerce") for name in ("onset", "offset")}
        return pd.DataFrame(
            {"text": table.texts("word"), **numbers, "section": np.rint(table.numbers("section")).astype(int)}
        )


def _number_of_run(path: str) -> int:
    return int(re.findall(r"_run-(\d+)_", path)[0])


def _section(stimulus: str) -> int:
    return int(stimulus.split("-")[1])
