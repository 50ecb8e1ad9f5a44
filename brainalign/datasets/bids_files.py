"""The names of files in the Brain Imaging Data Structure: what they say, and which stand beside which."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import MappingProxyType

__all__ = ["BidsFile", "beside", "parse_bids"]

# The entities that tell one recording from another; a file beside it may lack some, and may have others.
TELLING = ("sub", "ses", "task", "acq", "run")


@dataclass(frozen=True)
class BidsFile:
    """What a file's name says.

    Parameters
    ----------
    path : str
    entities : mapping of str to str
        "sub", "ses", "task" ... without their hyphens.
    suffix : str
        What stands last: "bold", "events".
    """

    path: str
    entities: Mapping[str, str]
    suffix: str

    def get(self, entity: str) -> str:
        """The value of an entity; empty where the name has none."""
        return self.entities.get(entity, "")


def parse_bids(path: str) -> BidsFile:
    """Read a file's name.

    Examples
    --------
    >>> file = parse_bids("sub-01/func/sub-01_task-story_run-2_bold.nii.gz")
    >>> dict(file.entities), file.suffix
    ({'sub': '01', 'task': 'story', 'run': '2'}, 'bold')
    """
    *parts, last = PurePosixPath(path).name.split("_")
    entities = dict(part.split("-", 1) for part in parts if "-" in part)
    return BidsFile(path, MappingProxyType(entities), last.split(".")[0])


def beside(file: BidsFile, paths: Iterable[str], suffix: str, ends: Sequence[str]) -> str | None:
    """The file of this suffix that goes with a recording: in its folder, or in one above (BIDS's inheritance).

    Parameters
    ----------
    file : BidsFile
        The recording.
    paths : iterable of str
        The data set's files.
    suffix : str
        "events", "channels", "bold" ...
    ends : sequence of str
        What the name may end with: (".tsv",).

    Returns
    -------
    str or None
        Of several, the one in the nearest folder and with the most entities; None where there is none.

    Examples
    --------
    >>> file = parse_bids("sub-01/func/sub-01_task-story_run-2_bold.nii.gz")
    >>> beside(file, ["task-story_bold.json", "sub-02/func/sub-02_task-story_bold.json"], "bold", (".json",))
    'task-story_bold.json'
    """
    folder = PurePosixPath(file.path).parent
    found = []
    for path in paths:
        if not path.endswith(tuple(f"{suffix}{end}" for end in ends)):
            continue
        other = parse_bids(path)
        place = PurePosixPath(path).parent
        fits = all(file.get(entity) == value for entity, value in other.entities.items() if entity in TELLING)
        if other.suffix == suffix and fits and (place == folder or place in folder.parents):
            found.append((len(place.parts), len(other.entities), path))
    return max(found)[2] if found else None


def number_of(text: str) -> tuple[int, str]:
    """What sorts names by the numbers in them: run 2 before run 10."""
    digits = re.search(r"\d+", text)
    return int(digits[0]) if digits else 0, text
