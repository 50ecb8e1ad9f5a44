"""The Podcast ECoG set: half an hour of a podcast heard by nine people with electrodes on the brain (ds005574)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from brainalign.datasets.archive_dataset import ArchiveDataset, Run
from brainalign.errors import DataError, RecipeError, listed
from brainalign.files import digest_of
from brainalign.reading.channel_tables import read_channels, read_electrodes
from brainalign.reading.recording_files import open_recording
from brainalign.reading.sensors import Sensors, open_sensors
from brainalign.reading.sidecars import read_json
from brainalign.reading.signals import Signals
from brainalign.reading.tables import read_table
from brainalign.types import Finding, Recording, Stimulus

__all__ = ["Podcast"]

STIMULUS = "podcast"
# One row a word; those of the other folders are the same words in tokens, or lack some.
TRANSCRIPT = "stimuli/spectral/transcript.tsv"
SPACE = "MNI152NLin2009aSym"


class Podcast(ArchiveDataset):
    """The Podcast ECoG set (Zada et al., 2025): nine subjects, one podcast of thirty minutes, 1,330 electrodes.

    Parameters
    ----------
    root : Path, optional
        A copy of ds005574; what it lacks is fetched.
    subjects : tuple of str, optional
        "01" to "09"; all by default.
    response : {"highgamma", "raw"}
        The archive's envelope of high gamma (70 to 200 Hz) of the good channels, or the potentials as recorded, of
        which `signals` keeps what lies below 0.4 of its ``rate_hz``.
    signals : Signals
        What is done to the recordings, see `Signals`.
    sound : bool
        Whether the podcast comes with its sound (303 MB).

    Raises
    ------
    RecipeError
        If there is no such subject or response.

    Notes
    -----
    The recordings were cut so that their first moment is the podcast's (archive: 1799.998 s of each, the last word ends
    at 1799.367 s). They have 512 samples a second, the raw one of subject 07 has 2048.

    Words: the archive has six transcripts. ``spectral`` has a row a word, 5,136 in all; ``gpt2-xl``, ``en_core_web_lg``
    and ``syntactic`` have the same words and times in tokens (``word_idx`` says which are one word); ``whisper-medium``
    lacks 2 words and ``phonetic`` the 108 that its dictionary lacks. So the first is read.

    Two voices talk at once now and then: at 19 places the transcript goes back in time, by up to 2.6 s. Words stand
    here in the order in which they begin (finding ``reordered-words``). Of the transcript's words five are followed by
    a mark of punctuation, so that no sentences can be told.

    Targets: channels that ``channels.tsv`` calls bad (no place found, noise) are left out, the archive's envelope has
    none of them. Places are of ``electrodes.tsv`` in the standard brain MNI152NLin2009aSym, in millimetres; a channel
    that has none there is kept, at NaN (finding ``unplaced-electrodes``). Electrodes that no channel is of (subjects 02
    to 04 have 5, 14 and 12) are told (``unmatched-electrodes``). Depth electrodes are called ECoG too.

    Examples
    --------
    >>> data = Podcast(subjects=("03",))
    >>> data.files(kinds=("responses",))[:2]
    ['derivatives/ecogprep/sub-03/ieeg/sub-03_task-podcast_desc-highgamma_ieeg.fif', ...]
    """

    def __init__(
        self,
        root: Path | None = None,
        subjects: tuple[str, ...] | None = None,
        response: Literal["highgamma", "raw"] = "highgamma",
        signals: Signals = Signals(),  # noqa: B008  (frozen)
        sound: bool = False,
    ) -> None:
        if response not in ("highgamma", "raw"):
            raise RecipeError(f"podcast: response is highgamma or raw, not {response}.")
        self.response: Literal["highgamma", "raw"] = response
        self.signals = signals
        super().__init__("podcast", root, subjects, sound=sound)

    def all_runs(self) -> Sequence[Run]:
        """A run for each subject."""
        pattern = r"derivatives/ecogprep/sub-\d+/ieeg/sub-\d+_task-podcast_desc-highgamma_ieeg\.fif"
        if self.response == "raw":
            pattern = r"sub-\d+/ieeg/sub-\d+_task-podcast_ieeg\.edf"
        runs = []
        for path in self.archive.matching(pattern):
            subject = Path(path).name.split("_")[0]
            stem = f"{subject}/ieeg/{subject}"
            sidecars = ("task-podcast_channels.tsv", f"space-{SPACE}_electrodes.tsv", f"space-{SPACE}_coordsystem.json")
            paths = tuple(f"{stem}_{name}" for name in sidecars)
            runs.append(Run(subject.removeprefix("sub-"), "1", STIMULUS, (path,), paths))
        return runs

    def words_files(self, stimulus: str) -> tuple[str, ...]:
        """The transcript."""
        return (TRANSCRIPT,)

    def sound_files(self, stimulus: str) -> tuple[str, ...]:
        """The podcast."""
        return ("stimuli/podcast.wav",)

    def read_stimulus(self, stimulus: str) -> Stimulus:
        """The podcast's words, in the order in which they begin."""
        words = _read_transcript(self.archive.place(TRANSCRIPT))
        ordered = words.sort_values("onset", kind="stable")
        found = []
        if n_moved := int((ordered.index.to_numpy() != words.index.to_numpy()).sum()):
            message = f"two voices at once: {n_moved} of {len(words)} words stand elsewhere than in the transcript."
            found.append(Finding("reordered-words", f"stimulus {stimulus}", message))
        return Stimulus(stimulus, ordered.reset_index(drop=True), findings=tuple(found))

    def read_run(self, run: Run) -> Recording:
        """The recording of a subject."""
        table, electrodes, system = (self.archive.place(path) for path in run.sidecars)
        channels = read_channels(table)
        path = self.archive.place(run.responses[0])
        sensors = open_sensors(
            partial(open_recording, path, kinds=channels.kinds),
            self.signals,
            "ecog",
            str(run),
            bad_channels=tuple(channels.bads),
        )
        targets, found = _placed(sensors, _read_places(electrodes, system), set(channels.kinds), str(run))
        is_envelope = self.response == "highgamma"
        steps = ("envelope of high gamma, 70 to 200 Hz (by the archive)",) if is_envelope else ()
        what_then = "the archive's envelope has none of them" if is_envelope else "`signals` says what is done about it"
        told = [finding for finding in sensors.findings if not (is_envelope and finding.code == "unknown-bad-channels")]
        return Recording(
            subject=run.subject,
            run=run.run,
            stimulus=run.stimulus,
            modality="ecog",
            clock=sensors.clock,
            offset_s=0.0,
            targets=targets,
            read=sensors.read,
            digest=digest_of(
                {"files": self.archive.digest([*run.responses, *run.sidecars]), "signals": asdict(self.signals)}
            ),
            space={"kind": "electrodes", "unit": "mm", "frame": "mni", "template": SPACE},
            steps=(*steps, *sensors.steps),
            findings=(*channels.findings(str(run), what_then), *told, *found),
        )


def _read_transcript(path: Path) -> pd.DataFrame:
    """The transcript's words, in its own order."""
    table = read_table(path)
    onset, end = table.numbers("start"), table.numbers("end")
    number = table.numbers("word_idx")
    again = np.r_[False, np.diff(number) <= 0]
    for wrong, what in ((again, "the word_idx does not grow"), (end < onset, "the end is before the start")):
        rows = np.flatnonzero(wrong)
        if len(rows):
            raise DataError(f"{path}, {table.row_names[rows[0]]}: {what}.")
    return pd.DataFrame({"onset": onset, "duration": end - onset, "text": table.texts("word")})


def _read_places(electrodes: Path, system: Path) -> pd.DataFrame:
    """Where the electrodes are in the standard brain, in millimetres."""
    told = read_json(system)
    if told.get("iEEGCoordinateSystem") != SPACE:
        raise DataError(f"{system}: iEEGCoordinateSystem is {told.get('iEEGCoordinateSystem')!r}, not {SPACE!r}.")
    places = read_electrodes(electrodes, str(told.get("iEEGCoordinateUnits")))
    return places.assign(**{axis: 1000.0 * places[axis] for axis in ("x", "y", "z")})


def _placed(
    sensors: Sensors, places: pd.DataFrame, channels: set[str], where: str
) -> tuple[pd.DataFrame, list[Finding]]:
    """The targets where the table says that they are, and what does not go together."""
    targets = sensors.targets.drop(columns=["x", "y", "z"]).merge(places, on="name", how="left", validate="1:1")
    unplaced = targets.loc[targets["x"].isna(), "name"]
    unmatched = places.loc[~places["name"].isin(channels), "name"]
    found = []
    for names, code, message in (
        (unplaced, "unplaced-electrodes", "targets have no place in electrodes.tsv and are kept without"),
        (unmatched, "unmatched-electrodes", "electrodes of electrodes.tsv have no channel"),
    ):
        if len(names):
            found.append(Finding(code, where, f"{len(names)} {message}: {listed(list(names))}."))
    return targets, found
