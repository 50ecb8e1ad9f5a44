"""Responses to items, words or sentences: one row for each, without a time axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainalign.alignment.cleaning import Cleaner, cleaner
from brainalign.errors import DataError, RecipeError, nearest
from brainalign.types import Features, Finding, Floats, Recording, Stimulus

__all__ = ["Items", "ItemsRun", "Pooling"]

Pooling = Literal["last", "first", "mean", "sum"]
# Neighbouring items tell of the same thing: words share a sentence (of 15 words at most where responses to single words
# are published), sentences a passage (of 3 or 4).
SPAN_ITEMS = 15
# What is scaled to unit size must vary by more than rounding; two samples cannot tell.
FEWEST_ITEMS = 10


@dataclass(frozen=True)
class Items:
    """Pair each row of the response with the words of its item.

    Row i of the response belongs to item i, and a column ``item`` of the stimulus's words says which words an item
    has: one each (amplitudes word by word), or those of a sentence. An item that has no response (NaN in every target,
    a rejected trial) is left out; one that lacks some targets leaves these undefined.

    Parameters
    ----------
    pooling : {"last", "first", "mean", "sum"}
        What stands for an item of several words: the features of its last word, which in a causal model has read all
        of the item, or of its first, or their mean or sum.
    confounds : bool
        Whether to regress the recording's confounds (the amplitude before the word) out of responses and features.

    Raises
    ------
    RecipeError
        If there is no such pooling.

    Notes
    -----
    Items stand in for seconds: by convention item i is at i seconds of a clock with a step of one second. Blocks that
    are held out are therefore blocks of consecutive items, and a gap (``gap_s`` of `brainalign.encoding.Splits`) counts
    items: 15 by default, so that no sentence or passage stands on both sides. Both sides are centred, and responses
    scaled to a standard deviation of one, recording by recording: sessions differ in both.

    Examples
    --------
    >>> from brainalign.types import Clock
    >>> words = pd.DataFrame({"onset": range(24), "duration": 1.0, "text": "word", "item": np.arange(24) // 2})
    >>> recording = Recording(
    ...     "s1", "1", "pairs", "eeg", Clock(1.0), 0.0, pd.DataFrame({"name": ["N400"], "kind": "component"}),
    ...     lambda: np.arange(12.0)[:, None], "",
    ... )
    >>> run = Items(pooling="mean").align(recording, Stimulus("pairs", words))
    >>> run.responses.shape, run.times_s[:3].tolist()
    ((12, 1), [0.0, 1.0, 2.0])
    """

    rows: ClassVar[Literal["items"]] = "items"

    pooling: Pooling = "last"
    confounds: bool = True

    def __post_init__(self) -> None:
        if self.pooling not in get_args(Pooling):
            known = nearest(self.pooling, get_args(Pooling))
            raise RecipeError(f"alignment: there is no pooling '{self.pooling}'. {known}")

    @property
    def span_s(self) -> float:
        """Items by which training and test samples must be apart."""
        return float(SPAN_ITEMS)

    def align(self, recording: Recording, stimulus: Stimulus) -> ItemsRun:
        """Read one recording, leave out the items without a response, and prepare to place features on the others.

        Raises
        ------
        DataError
            If the words do not say which item they are of, the response has another number of rows than there are
            items, too few have a response, or a confound lacks where there is one.
        """
        response = recording.response().astype(np.float64)
        first_words = _first_words(stimulus, len(response), str(recording))
        rows = np.flatnonzero(np.isfinite(response).any(axis=1))
        if len(rows) < FEWEST_ITEMS:
            raise DataError(
                f"{recording}: {len(rows)} of {len(response)} items have a response; {FEWEST_ITEMS} are the fewest."
            )
        confounds = _rows_of(
            recording.confounds() if self.confounds else pd.DataFrame(), rows, len(response), recording
        )
        _check_confounds(confounds, rows, recording)
        clean = cleaner(rows.astype(float), confounds, None, str(recording))
        return ItemsRun(self, recording, len(response), first_words, rows, clean, _standardise(response[rows], clean))


@dataclass(frozen=True)
class ItemsRun:
    """One recording's items that have a response; made by `Items.align`.

    `responses` (sample, target) are centred, cleaned of confounds, with a standard deviation of one; a target that
    never varies is zero throughout. `rows` are the items kept, `first_words` the first word of each item of all.
    """

    settings: Items
    recording: Recording
    n_items: int
    first_words: NDArray[np.intp]
    rows: NDArray[np.intp]
    clean: Cleaner
    responses: Floats

    latencies_s: Floats | None = None

    @property
    def times_s(self) -> Floats:
        """Of each sample, in "seconds" that are items."""
        return self.recording.clock.times(self.n_items)[self.rows]

    @property
    def findings(self) -> list[Finding]:
        """How many items were left out."""
        n_without = self.n_items - len(self.rows)
        if n_without == 0:
            return []
        message = f"{n_without} of {self.n_items} items have no response (rejected, or not shown) and are left out."
        return [Finding("items-without-response", str(self.recording), message)]

    def place(self, features: Features) -> Floats:
        """The features of each item, shape (layer, sample, dimension), cleaned like the responses.

        Raises
        ------
        RecipeError
            If the features are a signal: items have no time.
        """
        return self._cleaned(self._pooled(features, self.settings.pooling))

    def place_properties(self, properties: Features) -> Floats:
        """Simple properties of words, of each item: their mean over its words, and for `word_rate` their number.

        The last word's length, which pooling might pick, would say nothing of a sentence.
        """
        placed = self._pooled(properties, "mean")
        names = list(properties.metadata.get("dimensions", ()))
        if "word_rate" in names:
            column = names.index("word_rate")
            placed[..., column] = self._pooled(properties, "sum")[..., column]
        return self._cleaned(placed)

    def regressors(self) -> pd.DataFrame:
        """The recording's own regressors of the items kept, cleaned like the responses, one per column."""
        given = self.recording.regressors()
        values = _rows_of(given, self.rows, self.n_items, self.recording)
        return pd.DataFrame(self.clean(values.to_numpy(dtype=np.float64)), columns=given.columns)

    def _pooled(self, features: Features, pooling: Pooling) -> Floats:
        if features.kind == "signal":
            raise RecipeError(
                f"features: '{features.name}' is a signal over time, and the responses of {self.recording} are to "
                "items, which have no time; take features of words."
            )
        return _pool(features.values, self.first_words, pooling)

    def _cleaned(self, values: Floats) -> Floats:
        return self.clean(values[:, self.rows])


def _first_words(stimulus: Stimulus, n_items: int, where: str) -> NDArray[np.intp]:
    """The number of the first word of each item."""
    if "item" not in stimulus.words:
        raise DataError(
            f"stimulus '{stimulus.id}': its words have no column 'item', which says to which row of the response each "
            "belongs; data with a time axis take the alignment 'hemodynamic' or 'epochs'."
        )
    item = stimulus.words["item"].to_numpy()
    if item.dtype.kind not in "iu" or item[0] != 0 or not np.isin(np.diff(item), (0, 1)).all():
        raise DataError(
            f"stimulus '{stimulus.id}': the column 'item' of its words must be whole numbers that grow from 0, one "
            "more with each item."
        )
    if item[-1] + 1 != n_items:
        raise DataError(f"{where}: {n_items} rows for {item[-1] + 1} items of '{stimulus.id}'; they must agree.")
    return np.flatnonzero(np.r_[True, np.diff(item) > 0])


def _pool(values: Floats, first_words: NDArray[np.intp], pooling: Pooling) -> Floats:
    """The values (layer, word, dimension) of each item, shape (layer, item, dimension)."""
    ends = np.r_[first_words[1:], values.shape[1]]
    if pooling == "first":
        return values[:, first_words].astype(np.float64)
    if pooling == "last":
        return values[:, ends - 1].astype(np.float64)
    sums = np.add.reduceat(values, first_words, axis=1, dtype=np.float64)
    return sums if pooling == "sum" else sums / (ends - first_words)[:, None]


def _rows_of(table: pd.DataFrame, rows: NDArray[np.intp], n_items: int, recording: Recording) -> pd.DataFrame:
    if table.shape[1] == 0:
        return pd.DataFrame(index=range(len(rows)))
    if len(table) != n_items:
        names = ", ".join(map(str, table.columns[:3]))
        raise DataError(f"{recording}: {len(table)} rows of {names} for {n_items} items; they must agree.")
    return table.iloc[rows].reset_index(drop=True)


def _check_confounds(confounds: pd.DataFrame, rows: NDArray[np.intp], recording: Recording) -> None:
    wrong = ~np.isfinite(confounds.to_numpy(dtype=np.float64))
    if wrong.any():
        sample, column = np.argwhere(wrong)[0]
        raise DataError(
            f"{recording}: confound '{confounds.columns[column]}' is not finite at item {rows[sample]}, which has a "
            "response; leave the item out (NaN), or the confounds (confounds: false)."
        )


def _standardise(response: Floats, clean: Cleaner) -> Floats:
    # A target with an infinite value is undefined, like one with NaN; infinity would spread a warning's worth of them.
    cleaned = clean(np.where(np.isfinite(response), response, np.nan))
    deviation = cleaned.std(axis=0)
    return cleaned / np.where(deviation == 0, 1.0, deviation)
