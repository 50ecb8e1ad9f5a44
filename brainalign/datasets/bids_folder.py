"""A folder in the Brain Imaging Data Structure: which recordings it has, and what goes with each."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from brainalign.archives.archive import Archive
from brainalign.datasets.bids_files import BidsFile, beside, number_of, parse_bids
from brainalign.errors import DataError, RecipeError, listed, nearest
from brainalign.reading.channel_tables import Channels, read_channels, read_electrodes
from brainalign.reading.sidecars import read_json
from brainalign.types import Modality

__all__ = ["SERIES", "BidsFolder"]

FOLDERS = {"fmri": "func", "meg": "meg", "eeg": "eeg", "ecog": "ieeg"}
RAW_ENDS = (".fif", ".fif.gz", ".con", ".sqd", ".ds", ".vhdr", ".edf", ".bdf", ".set")
SERIES = ("_bold.nii.gz", "_bold.nii", "_bold.func.gii", "_bold.dtseries.nii")
# Spaces that are taken first, where no other is named; and what a derivative's name has and the scan's has not.
SPACES = ("MNI152NLin2009cAsym", "fsaverage6", "fsLR")
DERIVED = ("space", "desc", "res", "hemi", "den")


@dataclass(frozen=True)
class BidsFolder:
    """The recordings of one modality in a folder; nothing is looked at before it is asked for.

    Parameters
    ----------
    archive : Archive
        Whose `root` is the folder.
    modality : {"fmri", "meg", "eeg", "ecog"}
    subjects : tuple of str, optional
        Whose; all by default.
    task : str, optional
        Which task.
    sessions : tuple of str, optional
        Which sessions.
    derivatives : Path, optional
        Where preprocessed fMRI lies, from the folder.
    space : str, optional
        Which space of it; "raw" for the scanner's volumes.
    """

    archive: Archive
    modality: Modality
    subjects: tuple[str, ...] | None = None
    task: str | None = None
    sessions: tuple[str, ...] | None = None
    derivatives: Path | None = None
    space: str | None = None

    @cached_property
    def recordings(self) -> tuple[BidsFile, ...]:
        """The recordings of the modality, task, subjects and sessions wanted, one file (or folder) each."""
        found = self._in_the_spaces_wanted() if self.modality == "fmri" else self._raw()
        keys = ("sub", "ses", "task", "run")
        return tuple(sorted(found, key=lambda file: [number_of(file.get(key)) for key in keys]))

    def _wanted(self, found: list[BidsFile]) -> list[BidsFile]:
        """Those of the task, the subjects and the sessions."""
        tasks = sorted({file.get("task") for file in found})
        if self.task is None and len(tasks) > 1:
            raise RecipeError(f"bids: which task? {self.archive.root} has {', '.join(tasks)}; name one as `task`.")
        if self.task is not None and self.task not in tasks:
            raise RecipeError(f"bids: no recording of task '{self.task}'. {nearest(self.task, tasks)}")
        for entity, wanted, what in (("sub", self.subjects, "subject"), ("ses", self.sessions, "session")):
            known = sorted({file.get(entity) for file in found})
            for name in wanted or ():
                if name not in known:
                    raise RecipeError(f"bids: no {what} '{name}'. {nearest(name, known)}")
        return [
            file
            for file in found
            if self.task in (None, file.get("task"))
            and (self.sessions is None or file.get("ses") in self.sessions)
            and (self.subjects is None or file.get("sub") in self.subjects)
        ]

    def _raw(self) -> list[BidsFile]:
        folder = FOLDERS[self.modality]
        # A CTF recording is a folder.
        paths = {
            re.sub(r"(\.ds)/.*", r"\1", path) for path in self.archive.matching(rf"sub-[^/]+/(ses-[^/]+/)?{folder}/.*")
        }
        files = [parse_bids(path) for path in sorted(paths) if path.endswith(RAW_ENDS)]
        files = [file for file in files if file.suffix == folder]
        if not files:
            raise DataError(f"{self.archive.root}: no recordings in sub-*/{folder}/ (*_{folder}.fif, .vhdr, .edf ...).")
        # Only the first part of a FIF file that was split is opened.
        parts = {re.sub(r"_split-\d+", "", file.path): file for file in reversed(files)}
        for file in parts.values():
            if file.get("split") not in ("", "1", "01"):
                raise DataError(f"{self.archive.root}: the first part of {file.path} (split-01) is missing.")
        return self._wanted(list(reversed(parts.values())))

    def _in_the_spaces_wanted(self) -> list[BidsFile]:
        """The runs of fMRI: derivatives in the space wanted, else as scanned."""
        of_space = self._by_space()
        scanned = of_space.pop("", [])
        if self.derivatives is not None and not of_space:
            raise RecipeError(f"bids: no preprocessed fMRI (*_space-*_bold.*) in {self._derivatives_folder}.")
        if self.space == "raw" or not of_space:
            return self._wanted(scanned)
        if self.space is not None and self.space not in of_space:
            raise RecipeError(f"bids: no fMRI in the space '{self.space}'. {nearest(self.space, [*of_space, 'raw'])}")
        every = {
            self._run_of(file) for file in self._wanted([*scanned, *(f for some in of_space.values() for f in some)])
        }
        wanted = {space: [f for f in files if self._run_of(f) in every] for space, files in of_space.items()}
        lacking = {space: sorted(every - {self._run_of(f) for f in files}) for space, files in wanted.items()}
        order = [self.space] if self.space else [*(space for space in SPACES if space in wanted), *sorted(wanted)]
        whole = next((space for space in order if not lacking[space]), None)
        if whole is None:
            told = "; ".join(f"{space}: not of {listed(lacking[space])}" for space in dict.fromkeys(order))
            raise DataError(
                f"{self.archive.root}: no space of {self._derivatives_folder} has all runs ({told}).\n"
                "Choose `space` and the `subjects` that have it, or `space: raw` for the scanner's volumes."
            )
        return wanted[whole]

    def _by_space(self) -> dict[str, list[BidsFile]]:
        """The runs of fMRI in each space; "" is the scanner's."""
        of_space: dict[str, list[BidsFile]] = {}
        for path in self.archive.paths:
            file = parse_bids(path)
            if not path.endswith(SERIES) or "/func/" not in f"/{path}" or file.get("hemi") == "R":
                continue
            derived = path.startswith(self._derivatives_folder)
            if (derived and file.get("space")) or re.match(r"sub-[^/]+/", path):
                of_space.setdefault(file.get("space") if derived else "", []).append(file)
        if not of_space:
            where = f"sub-*/func/ (*_bold.nii.gz) nor in {self._derivatives_folder}"
            raise DataError(f"{self.archive.root}: no fMRI in {where}.")
        return of_space

    @staticmethod
    def _run_of(file: BidsFile) -> str:
        return " ".join(f"{key}-{file.get(key)}" for key in ("sub", "ses", "task", "run") if file.get(key))

    @cached_property
    def _derivatives_folder(self) -> str:
        if self.derivatives is not None:
            return f"{self.derivatives.as_posix().strip('/')}/"
        folders = ("derivatives/fmriprep/", "derivatives/")
        return next((f for f in folders if any(path.startswith(f) for path in self.archive.paths)), folders[0])

    def responses_of(self, file: BidsFile) -> tuple[str, ...]:
        """The files that hold a recording: parts of a split one, hemispheres, a header's data."""
        if file.path.endswith(".ds"):
            return tuple(self.archive.matching(rf"{re.escape(file.path)}/.*"))
        if file.get("hemi") == "L":
            return file.path, file.path.replace("_hemi-L_", "_hemi-R_")
        stem = file.path.replace("_split-01_", "_split-*_").replace("_split-1_", "_split-*_")
        parts = self.archive.matching(re.escape(stem).replace(r"\*", r"\d+"))
        return tuple(parts) if "*" in stem else (file.path, *self._companions(file))

    def _companions(self, file: BidsFile) -> list[str]:
        """The files that hold the numbers of a header: BrainVision's, EEGLAB's."""
        if not file.path.endswith((".vhdr", ".set")):
            return []
        stem = re.escape(str(PurePosixPath(file.path).with_suffix("")))
        return self.archive.matching(rf"{stem}\.(eeg|vmrk|dat|fdt)")

    def beside(self, file: BidsFile, suffix: str, end: str) -> str | None:
        """The file of this suffix that goes with a recording; None where there is none."""
        # A derivative's events and sidecars are those of the scan that it was made of.
        scan = replace(file, path=file.path.removeprefix(self._derivatives_folder))
        return beside(scan, self.archive.paths, suffix, (end,))

    def required(self, file: BidsFile, suffix: str, end: str) -> str:
        """The same, where it must be there."""
        found = self.beside(file, suffix, end)
        if found is None:
            raise DataError(f"{self.archive.root}: no *_{suffix}{end} goes with {file.path}.")
        return found

    def placed(self, file: BidsFile, end_of_name: str, ends: tuple[str, ...]) -> list[Path]:
        """Files of the recording's own folder and session, by the end of their names."""
        folder = re.escape(str(PurePosixPath(file.path).parent))
        endings = "|".join(map(re.escape, ends))
        found = self.archive.matching(rf"{folder}/[^/]*{end_of_name}({endings})")
        of_run = [path for path in found if parse_bids(path).get("task") in ("", file.get("task"))]
        return [self.archive.place(path) for path in of_run if parse_bids(path).get("run") in ("", file.get("run"))]

    def read_beside(self, file: BidsFile) -> list[Path]:
        """What a recording of sensors or electrodes is read with: channels, places, markers and digitised points."""
        channels = self.beside(file, "channels", ".tsv")
        found = [] if channels is None else [self.archive.place(channels)]
        for name, ends in (
            ("markers", (".mrk", ".sqd")),
            ("headshape", (".pos", ".elp", ".hsp", ".txt")),
            ("_electrodes", (".tsv",)),
            ("_coordsystem", (".json",)),
        ):
            found += self.placed(file, name, ends)
        return found

    def json_of(self, file: BidsFile) -> dict[str, Any]:
        """The TR of the scan's sidecar, and what the derivative's own adds."""
        scan = self.beside(
            replace(file, entities={k: v for k, v in file.entities.items() if k not in DERIVED}), "bold", ".json"
        )
        own = re.sub(r"\.(nii|nii\.gz|func\.gii|dtseries\.nii)$", ".json", file.path)
        content: dict[str, Any] = {}
        for path in (scan, own):
            if path is not None and path in set(self.archive.paths):
                content |= read_json(self.archive.place(path))
        return content

    def mask_of(self, file: BidsFile) -> str | None:
        """The brain mask that goes with a derivative."""
        path = re.sub(r"_desc-[A-Za-z0-9]+_bold\.nii(\.gz)?$", r"_desc-brain_mask.nii\1", file.path)
        return path if path != file.path and path in set(self.archive.paths) else None

    def confounds_of(self, file: BidsFile) -> str | None:
        """The table of confounds that goes with a derivative."""
        folder = re.escape(str(PurePosixPath(file.path).parent))
        start = re.escape(PurePosixPath(file.path).name.split("_space-")[0].split("_hemi-")[0])
        return self.archive.first(rf"{folder}/{start}_desc-confounds_(timeseries|regressors)\.tsv")

    def channels_of(self, file: BidsFile) -> tuple[Channels, pd.DataFrame | None, str]:
        """Kinds and faults of the channels, and the places of electrodes with what these are in."""
        table = self.beside(file, "channels", ".tsv")
        channels = read_channels(self.archive.place(table)) if table else Channels({}, {})
        electrodes = self.placed(file, "_electrodes", (".tsv",)) if self.modality in ("eeg", "ecog") else []
        systems = self.placed(file, "_coordsystem", (".json",))
        if not electrodes or not systems:
            return channels, None, "head"
        chosen = next((path for path in electrodes if "MNI" in path.name), electrodes[0])
        space = parse_bids(chosen.name).get("space")
        system = next((path for path in systems if parse_bids(path.name).get("space") == space), systems[0])
        content = read_json(system)
        kind = "iEEG" if self.modality == "ecog" else "EEG"
        name, unit = content.get(f"{kind}CoordinateSystem", ""), content.get(f"{kind}CoordinateUnits", "")
        frame = "mni" if "MNI" in str(name) else "head" if name in ("CapTrak", "ACPC") and kind == "EEG" else "unknown"
        return channels, read_electrodes(chosen, str(unit)), frame
