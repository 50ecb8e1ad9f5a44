"""The simple properties that every layer is compared with: which ones the data allow, and their columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from brainalign.alignment import ItemsRun
from brainalign.errors import DataError
from brainalign.features import SOUND_ENVELOPE, Baseline, sound_envelope
from brainalign.types import AlignedRun, Floats, Recording, Stimulus

__all__ = ["BASELINE_OF_WORDS", "baseline_columns", "baseline_names", "check_baseline"]

# What a word-level baseline holds where none is named. Word-locked samples have one word each, so that the word rate
# is the same for all.
BASELINE_OF_WORDS = {
    "fmri": ("word_rate", "word_length", "word_duration", "log_frequency", "pause_before", "position"),
    "meg": ("word_length", "word_duration", "log_frequency", "pause_before", "position"),
    # Of items no times are known but by convention, nor their order, which is each subject's own.
    "words": ("word_length", "log_frequency"),
    "sentences": ("word_rate", "word_length", "log_frequency"),
}


def baseline_names(modality: str, recordings: Sequence[Recording], stimuli: Mapping[str, Stimulus]) -> tuple[str, ...]:
    """The baseline that these data allow: properties of words, and the sound's envelope where all have it."""
    items = [stimulus.words["item"] for stimulus in stimuli.values() if "item" in stimulus.words]
    if items:
        return BASELINE_OF_WORDS["sentences" if any(item.duplicated().any() for item in items) else "words"]
    words = BASELINE_OF_WORDS["fmri" if modality == "fmri" else "meg"]
    has_sound = all(_has_sound(recording, stimuli[recording.stimulus]) for recording in recordings)
    return (*words, SOUND_ENVELOPE) if has_sound and recordings else words


def check_baseline(names: Sequence[str], recordings: Sequence[Recording], stimuli: Mapping[str, Stimulus]) -> None:
    """Raise a DataError if `names` asks for sound where there is none, before anything is computed."""
    for recording in recordings if SOUND_ENVELOPE in names else ():
        if not _has_sound(recording, stimuli[recording.stimulus]):
            raise DataError(
                f"{recording}: the baseline names {SOUND_ENVELOPE}, but stimulus '{recording.stimulus}' comes without "
                "sound; leave it out of the baseline, or give the sound."
            )


def _has_sound(recording: Recording, stimulus: Stimulus) -> bool:
    return stimulus.audio is not None or SOUND_ENVELOPE in recording.regressors()


def baseline_columns(
    names: Sequence[str],
    runs: Sequence[AlignedRun],
    recordings: Sequence[Recording],
    stimuli: Mapping[str, Stimulus],
) -> tuple[Floats | None, tuple[str, ...]]:
    """The baseline's columns of all runs, one under the other, (sample, column), and what each column is.

    None, and no names, where it names nothing. A property that comes with delays has a column for each.
    """
    if not names:
        return None, ()
    words = Baseline(tuple(name for name in names if name != SOUND_ENVELOPE))
    blocks, called = [], []
    for run, recording in zip(runs, recordings, strict=True):
        stimulus = stimuli[recording.stimulus]
        place = run.place_properties if isinstance(run, ItemsRun) else run.place
        columns = [place(words.extract(stimulus))[0]] if words.names else []
        if SOUND_ENVELOPE in names:
            columns.append(_envelope(run, recording, stimulus))
        blocks.append(np.hstack(columns))
        sets = [words.names, (SOUND_ENVELOPE,)] if words.names else [(SOUND_ENVELOPE,)]
        # Delayed copies of all properties stand side by side.
        called = [own * (block.shape[1] // len(own)) for own, block in zip(sets, columns, strict=False)]
    return np.concatenate(blocks), tuple(name for own in called for name in own)


def _envelope(run: AlignedRun, recording: Recording, stimulus: Stimulus) -> Floats:
    given = run.regressors()
    if SOUND_ENVELOPE in given:
        return given[[SOUND_ENVELOPE]].to_numpy(dtype=np.float64)
    return run.place(sound_envelope(stimulus))[0]
