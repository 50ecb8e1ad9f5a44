"""LibriBrain: fifty hours of one person who heard the Sherlock Holmes books, in MEG (Özdogan et al., 2025)."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from brainalign.archives.local_files import require_file
from brainalign.datasets.archive_dataset import ArchiveDataset, Run
from brainalign.errors import DataError
from brainalign.files import digest_of
from brainalign.reading.clocks import fit_clock
from brainalign.reading.matching import match_words
from brainalign.reading.sensors import open_sensors
from brainalign.reading.signals import Signals
from brainalign.reading.tables import Table, read_table
from brainalign.types import Finding, Floats, Recording, Stimulus

if TYPE_CHECKING:
    import h5py
    from mne import Info
    from mne.io import BaseRaw

__all__ = ["LibriBrain"]

STEPS = "bad channels, head movement, SSS, mains and band cleaned, lowered to 250 Hz (by the archive)"
NAME = re.compile(
    r"(\w+)/derivatives/serialised/"
    r"sub-(\d+)_ses-(\d+)_task-\1_run-(\d+)_proc-bads\+headpos\+sss\+notch\+bp\+ds_meg\.h5"
)


class LibriBrain(ArchiveDataset):
    """LibriBrain: one subject, seven books of Sherlock Holmes in some ninety chapters, 306 sensors.

    Parameters
    ----------
    root : Path, optional
        A copy of the repository pnpl/LibriBrain of the Hugging Face Hub, into which pnpl/LibriBrain2 may be copied too
        (two more books, and 32 more people who heard two chapters); what it lacks of the first is fetched.
    subjects : tuple of str, optional
        "0", and of LibriBrain2 "1" to "32"; all that are there by default.
    stimuli : tuple of str, optional
        Book and session, a chapter: "Sherlock1-1" ...; all by default.
    signals : Signals
        What is done to the signals, see `Signals`, after what the archive did.

    Raises
    ------
    RecipeError
        If there is no such subject or chapter, when the archive's list of files is first asked for.

    Notes
    -----
    Signals are those that the archive's authors cleaned and lowered to 250 rows a second, in HDF5 (``data``, channel by
    time, in tesla and tesla a metre; the rate is the attribute ``sample_frequency``). They are read block by block.
    Places of sensors are not in these files: by their names they are those of MNE's Neuromag helmet.

    Times of words (``timemeg``) are of the recording. A stimulus starts with its first word, and its times are those of
    the first of the chosen subjects who heard it; the other recordings' clocks are fitted to them. The sound is not
    read: which file of sound a session is of is not told.

    By the authors' convention a model is chosen on "Sherlock1-11" and tested on "Sherlock1-12", and trained on all
    others of subject 0. `splits` hold out whole chapters, all of them in turn.

    Sources: pnpl 0.2.0, the authors' package, for names and columns; the archive itself could not be looked at.

    Examples
    --------
    >>> LibriBrain(stimuli=("Sherlock1-1", "Sherlock1-2")).licence
    'CC BY-NC 4.0'
    """

    def __init__(
        self,
        root: Path | None = None,
        subjects: tuple[str, ...] | None = None,
        stimuli: tuple[str, ...] | None = None,
        signals: Signals = Signals(),  # noqa: B008  (frozen)
    ) -> None:
        self.signals = signals
        self._read: dict[str, pd.DataFrame] = {}
        super().__init__("libribrain", root, subjects, stimuli)

    def all_runs(self) -> Sequence[Run]:
        """A run for each subject and chapter, chapters in the books' order."""
        found = [match for path in self.archive.paths if (match := NAME.fullmatch(path))]
        runs = []
        for match in sorted(found, key=lambda match: (int(match[2]), match[1], int(match[3]), int(match[4]))):
            task, subject, session, number = match.groups()
            events = f"{task}/derivatives/events/sub-{subject}_ses-{session}_task-{task}_run-{number}_events.tsv"
            name = f"{task}-{session}"
            runs.append(Run(subject, f"{name} run-{number}", name, (match[0],), (events,), session))
        return runs

    def words_files(self, stimulus: str) -> tuple[str, ...]:
        """The first chosen subject's table of events."""
        return next(run.sidecars for run in self._chosen_runs if run.stimulus == stimulus)

    def read_stimulus(self, stimulus: str) -> Stimulus:
        """The words of a chapter, their times counted from its first word."""
        path = self.archive.place(self.words_files(stimulus)[0])
        words, findings = _read_words(path, f"stimulus {stimulus}")
        return Stimulus(stimulus, words.assign(onset=words["onset"] - words["onset"].iloc[0]), findings=findings)

    def read_run(self, run: Run) -> Recording:
        """The recording of a chapter."""
        path = self.archive.place(run.responses[0])
        sensors = open_sensors(partial(_open_serialised, path), self.signals, "meg", str(run))
        heard = self._words(run.sidecars[0])
        told = self._words(self.words_files(run.stimulus)[0])
        number = match_words(told["text"].tolist(), heard["text"].tolist())
        onset_s = told["onset"].to_numpy()[number >= 0] - told["onset"].iloc[0]
        fit = fit_clock(onset_s, heard["onset"].to_numpy()[number[number >= 0]], str(run))
        content = {
            "files": self.archive.digest(run.responses),
            "signals": asdict(self.signals),
            "clock": [fit.offset_s, fit.rate],
        }
        return Recording(
            subject=run.subject,
            run=run.run,
            stimulus=run.stimulus,
            modality="meg",
            clock=fit.clock(sensors.clock.step_s),
            offset_s=fit.stimulus_start_s,
            targets=sensors.targets,
            read=sensors.read,
            digest=digest_of(content),
            space=sensors.space,
            steps=(STEPS, *sensors.steps),
            findings=(*sensors.findings, *fit.findings(str(run))),
        )

    def _words(self, path: str) -> pd.DataFrame:
        """The words that a table of events tells, on its recording's clock."""
        if path not in self._read:
            self.archive.fetch([path])
            self._read[path] = _read_words(self.archive.place(path), path)[0]
        return self._read[path]


def _read_words(path: Path, where: str) -> tuple[pd.DataFrame, tuple[Finding, ...]]:
    """Words in the order in which they begin: ``onset`` and ``duration`` in seconds of the recording, ``text``, and
    ``sentence`` where it is told.
    """
    table = read_table(path)
    rows = [row for row, kind in enumerate(table.texts("kind")) if kind == "word"]
    if not rows:
        raise DataError(f"{path}: no row is of the kind 'word'.")
    times, texts = table.texts("timemeg"), table.texts("segment")
    kept = [row for row in rows if texts[row] and _is_told(times[row])]
    words = _frame(_rows_of(table, kept))
    findings = []
    if len(kept) < len(rows):
        message = f"{len(rows) - len(kept)} of {len(rows)} words have no time or no text, and are left out."
        findings.append(Finding("words-left-out", where, message))
    if n_moved := int((words["onset"].diff() < 0).sum()):
        message = f"at {n_moved} of {len(words)} words the table goes back in time; they stand here as they begin."
        findings.append(Finding("reordered-words", where, message))
    return words.sort_values("onset", kind="stable", ignore_index=True), tuple(findings)


def _is_told(time: str) -> bool:
    return time.lower() not in ("", "n/a", "nan")


def _rows_of(table: Table, rows: Sequence[int]) -> Table:
    columns = {name: [cells[row] for row in rows] for name, cells in table.columns.items()}
    return Table(table.path, columns, [table.row_names[row] for row in rows])


def _frame(table: Table) -> pd.DataFrame:
    words = pd.DataFrame(
        {"onset": table.numbers("timemeg"), "duration": table.numbers("duration"), "text": table.texts("segment")}
    )
    if "sentenceidx" not in table.columns:
        return words
    sentences = table.numbers("sentenceidx")
    return words.assign(sentence=np.cumsum(np.r_[False, np.diff(sentences) != 0]).tolist())


def _open_serialised(path: Path) -> BaseRaw:
    """A recording in the archive's HDF5, whose signals are read when they are asked for."""
    import h5py
    from mne._fiff.utils import _mult_cal_one
    from mne.io import BaseRaw

    class Serialised(BaseRaw):
        """What MNE needs to read a stretch of it."""

        def _read_segment_file(
            self, data: Floats, idx: slice, fi: int, start: int, stop: int, cals: Floats, mult: Floats | None
        ) -> None:
            with h5py.File(path, "r") as file:
                _mult_cal_one(data, file["data"][:, start:stop], idx, cals, mult)

    with h5py.File(require_file(path), "r") as file:
        info, n_times = _info_of(file, path)
    return Serialised(
        info, filenames=[path], first_samps=[0], last_samps=[n_times - 1], orig_format="single", verbose="error"
    )


def _info_of(file: h5py.File, path: Path) -> tuple[Info, int]:
    """MNE's description of the sensors, and how many samples there are."""
    import mne

    try:
        n_channels, n_times = file["data"].shape
        rate_hz = float(file.attrs["sample_frequency"])
        names, kinds = (re.split(r",\s*", file.attrs[f"channel_{what}"]) for what in ("names", "types"))
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path}: not a recording as LibriBrain serialises it ({error}).") from error
    if not (len(names) == len(kinds) == n_channels and math.isfinite(rate_hz) and rate_hz > 0 and n_times > 0):
        raise DataError(
            f"{path}: {n_channels} rows of data, {len(names)} names and {len(kinds)} kinds of channels, {n_times} "
            f"samples at {rate_hz:g} Hz; the file is damaged."
        )
    helmet = mne.channels.read_meg_canonical_info("neuromag")
    # Newer systems write names without the blank that MNE's have.
    mne.rename_channels(helmet, {name: name.replace(" ", "") for name in helmet.ch_names})
    bare = [name.replace(" ", "") for name in names]
    if set(bare) <= set(helmet.ch_names):
        info = mne.pick_info(helmet, [helmet.ch_names.index(name) for name in bare])
        mne.rename_channels(info, dict(zip(bare, names, strict=True)))
    else:
        info = mne.create_info(names, rate_hz, kinds)
    with info._unlock():
        info["sfreq"] = rate_hz
        info["highpass"] = float(file.attrs.get("highpass_cutoff", 0.0))
        info["lowpass"] = float(file.attrs.get("lowpass_cutoff", rate_hz / 2))
    return info, n_times
