"""How well any model could do: ceilings from repeats of a stimulus, or from other subjects who heard it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.analysis.ceilings.normalisation import normalise
from brainalign.analysis.ceilings.repeats import explainable_variance_interval, repeatability
from brainalign.analysis.ceilings.shared_response import cross_subject_scores, shared_response
from brainalign.analysis.hierarchies.profiles import mean_defined
from brainalign.analysis.inference.autocorrelation import stretches_of
from brainalign.encoding import RidgeEncoder, Samples
from brainalign.errors import RecipeError, nearest
from brainalign.limits import free_memory
from brainalign.questions.study import Part, SubjectData, by_target, subject_of_target
from brainalign.types import Finding, Floats, Scores

__all__ = ["Ceiling"]

Kind = Literal["auto", "repeats", "subjects"]
# Of the free memory, what the responses of all subjects together may fill.
MEMORY_SHARE = 0.2


@dataclass(frozen=True)
class Ceiling:
    """What a perfect model would score on each target, and the scores as shares of it.

    From repeats: the root of the explainable variance of one presentation, with its bias corrected. From other
    subjects: the root of the mean correlation with each of them, and beside it two figures of what others predict, the
    leave-one-out correlation and a ridge from the others' mean response; none of these is an upper bound.

    Parameters
    ----------
    kind : {"auto", "repeats", "subjects"}
        "auto" takes repeats where a subject has some, else other subjects.
    threshold : float
        Explainable (or shared) variance at which a ceiling becomes usable, if its interval excludes zero too; scores of
        other targets are not divided, and the report says how many these are. Intervals hold for all latencies of a
        target together.
    predict_from_others : bool
        Whether to fit the ridge from the other subjects' mean response.
    n_bootstrap : int
        Draws for intervals.
    seed : int

    Examples
    --------
    >>> Ceiling(kind="subjects").threshold
    0.05
    """

    section: ClassVar[str] = "ceiling"
    of_group: ClassVar[bool] = True
    by_space: ClassVar[bool] = False

    kind: Kind = "auto"
    threshold: float = 0.05
    predict_from_others: bool = True
    n_bootstrap: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise RecipeError(f"ceiling: there is no kind '{self.kind}'. {nearest(self.kind, get_args(Kind))}")
        if not 0 <= self.threshold < 1:
            raise RecipeError(f"ceiling: the threshold is {self.threshold}; a share of variance lies from 0 to 1.")

    def of_subject(self, data: SubjectData) -> Part:
        """The ceiling of each column, ``ceiling``, its interval and source; no arrays where there is none."""
        repeats = None if self.kind == "subjects" else _repeats(data.samples)
        if repeats is not None:
            return self._from_repeats(data.samples, *repeats)
        if self.kind == "repeats":
            return _nothing(data.samples, "nothing was heard twice at the same moments")
        return self._from_subjects(data)

    def of_study(self, parts: Mapping[str, Part], scores: Scores) -> xr.Dataset:
        """Ceilings of all targets, and the scores as shares of them."""
        names = dict.fromkeys(name for part in parts.values() for name in part.arrays)
        found = xr.Dataset({name: values for name in names if (values := by_target(parts, name, scores)) is not None})
        if "ceiling" not in found:
            return found
        significant = found["ceiling_low"].notnull()
        usable = significant & (found["ceiling"] > float(np.sqrt(self.threshold)))
        r, ceiling = _over_latencies(scores, found["ceiling"], usable)
        if "latency" in significant.dims:
            found["ceiling_usable"] = usable
            significant = significant.any("latency")
        ceiling = np.where(scores["status"].values == "ok", ceiling, np.nan)
        whose = subject_of_target(scores)
        normalised = normalise(
            r,
            ceiling,
            float(np.sqrt(self.threshold)),
            significant.values,
            whose,
            n_draws=self.n_bootstrap,
            seed=self.seed,
        )
        found["r_over_ceiling"] = (("layer", "target"), normalised.values.astype(np.float32))
        found["ceiling_status"] = ("target", normalised.status)
        for name in ("aggregate", "low", "high"):
            found[f"r_over_ceiling_{name}"] = ("layer", getattr(normalised, name))
        found.attrs = {
            "sources": {subject: part.facts["source"] for subject, part in parts.items() if "source" in part.facts},
            "resampled": list(normalised.resampled),
            "findings": _findings(normalised.undefined_share, int(normalised.n_above_ceiling.max(initial=0)), ceiling),
        }
        return found

    def _from_repeats(self, samples: Samples, repeats: Floats, stimulus: np.ndarray) -> Part:
        found = repeatability(repeats, stimulus)
        settings = {"n_draws": self.n_bootstrap, "seed": self.seed, "level": _level(samples)}
        if len(repeats) < FEWEST_DRAWN:
            # So few cannot be drawn from: stretches of time are, longer than the response.
            settings["block_samples"] = _block(repeats.shape[1], samples.gap)
        low, high = explainable_variance_interval(repeats, stimulus, **settings)
        return Part(
            {
                "ceiling": found.cc_max(1),
                "ceiling_low": _root(low),
                "ceiling_high": _root(high),
                "explainable_variance": found.explainable_variance,
            },
            facts={
                "source": f"explainable variance of {len(repeats)} presentations, {repeats.shape[1]} samples, "
                f"{len(np.unique(stimulus))} stimuli"
            },
        )

    def _from_subjects(self, data: SubjectData) -> Part:
        shared, room = [data.samples], MEMORY_SHARE * free_memory()
        for other in data.others():
            if not _comparable(data, other):
                continue
            shared.append(_at_moments_of(data, other.samples))
            # As they are, and at the moments that all have, at twice the width.
            if 3 * sum(samples.responses.nbytes for samples in shared) > room:
                return _nothing(data.samples, "the responses of all subjects together would fill the memory")
        if len(shared) == 1:
            return _nothing(data.samples, "nothing was heard twice, and no other subject has the same targets")
        moments, responses = _common(shared)
        if len(moments) < FEWEST_SAMPLES:
            return _nothing(data.samples, f"there are {len(moments)} moments that all subjects heard")
        groups = np.asarray(moments["group"])
        found = shared_response(responses, groups)
        low, high = explainable_variance_interval(
            np.stack(responses),
            groups,
            block_samples=None if len(responses) >= FEWEST_DRAWN else _block(len(moments), data.samples.gap),
            level=_level(data.samples),
            n_draws=self.n_bootstrap,
            seed=self.seed,
        )
        arrays = {
            "ceiling": found.ceiling,
            "ceiling_low": _root(low),
            "ceiling_high": _root(high),
            "isc_leave_one_out": found.leave_one_out[0],
            "isc_pairwise": found.pairwise[0],
        }
        if self.predict_from_others:
            encoder = RidgeEncoder(gap=data.samples.gap)
            predicted = next(cross_subject_scores(responses, encoder, groups, data.samples.splitter))
            arrays["r_from_others"] = mean_defined(predicted.r, axis=0)
        source = f"inter-subject correlation of {len(responses)} subjects, {len(moments)} samples"
        return Part(arrays, facts={"source": source})


# Of three repeats or subjects a bootstrap gives intervals that are too narrow by far (71 % instead of 95 %).
FEWEST_DRAWN = 4
# A correlation of fewer samples says nothing.
FEWEST_SAMPLES = 10


def _level(samples: Samples) -> float:
    """Of intervals that hold 95 % of the time for all latencies of a target together."""
    return 1 - 0.05 / (1 if samples.latencies_s is None else len(samples.latencies_s))


def _block(n_samples: int, gap: int) -> int:
    return min(max(FEWEST_SAMPLES, gap), n_samples // 2)


def _long_enough(moments: pd.DataFrame, what: str) -> pd.DataFrame:
    """Without those stretches of which too little is left to correlate."""
    return moments[moments.groupby(what)[what].transform("size") >= FEWEST_SAMPLES]


def _root(share: Floats) -> Floats:
    return np.sqrt(np.where(share > 0, share, np.nan))


def _nothing(samples: Samples, why: str) -> Part:
    message = f"there is no ceiling: {why}."
    return Part({}, [Finding("no-ceiling", f"subject {samples.subject}", message)])


def _moments(samples: Samples) -> pd.DataFrame:
    """Each sample's ``group``, ``stimulus`` and milliseconds within it: what subjects and hearings have in common."""
    # A little off, so that times written in tenths of a millisecond are not rounded up here and down there.
    milliseconds = np.rint(samples.times_s * 1000 + 0.037).astype(int)
    return pd.DataFrame({"group": samples.groups, "stimulus": samples.stimulus, "ms": milliseconds})


def _repeats(samples: Samples) -> tuple[Floats, np.ndarray] | None:
    """Responses (repeat, sample, column) to what was heard more than once, and the stimulus of each sample.

    Where stimuli were heard more or less often, so many hearings of each as all of them have.
    """
    moments = _moments(samples)
    moments.insert(3, "run", samples.run.tolist())
    moments.insert(4, "row", range(len(samples.run)))
    # Two words of one onset are one moment of a hearing, not two hearings.
    moments = moments.drop_duplicates(["stimulus", "ms", "run"])
    same = moments.groupby(["stimulus", "ms"])["row"]
    moments = moments.assign(hearing=same.cumcount(), often=same.transform("size"))
    often = moments.groupby("stimulus")["often"].max()
    if (often < 2).all():
        return None
    n_repeats = int(often[often > 1].min())
    whole = _long_enough(moments[moments["often"] >= n_repeats], "stimulus")
    rows = [whole.loc[whole["hearing"] == number, "row"].to_numpy() for number in range(n_repeats)]
    if len(rows[0]) < FEWEST_SAMPLES:
        return None
    return np.stack([samples.responses[own] for own in rows]), samples.stimulus[rows[0]]


def _common(subjects: Sequence[Samples]) -> tuple[pd.DataFrame, list[Floats]]:
    """The moments that all of these subjects have, and their responses (sample, column), averaged over hearings."""
    tables = []
    for number, samples in enumerate(subjects):
        moments = _moments(samples)
        place = np.asarray(moments.groupby(list(moments), sort=False).ngroup())
        distinct = moments.drop_duplicates()
        distinct.insert(3, f"row {number}", range(len(distinct)))
        tables.append((distinct, place))
    common = tables[0][0]
    for distinct, _ in tables[1:]:
        common = common.merge(distinct, on=["group", "stimulus", "ms"], how="inner")
    common = _long_enough(common, "group")
    responses = []
    for number, (samples, (_, place)) in enumerate(zip(subjects, tables, strict=True)):
        count = np.unique(place, return_counts=True)[1]
        total = np.zeros((len(count), samples.responses.shape[1]))
        np.add.at(total, (place,), samples.responses)
        responses.append((total / count[:, None])[common[f"row {number}"].to_numpy()].astype(np.float32))
    return common, responses


def _at_moments_of(data: SubjectData, other: Samples) -> Samples:
    """Another subject's responses at the subject's own moments: volumes of two scans seldom begin with the story alike.

    Between two volumes responses are interpolated linearly. Word-locked ones and items need no clock.
    """
    mine = data.samples
    if mine.latencies_s is not None or getattr(data.aligner, "rows", "time") == "items":
        return other
    parts = [
        (rows, np.unique(mine.times_s[mine.stimulus == name]))
        for name, rows in ((str(other.stimulus[rows[0]]), rows) for _, rows in stretches_of(other.run, other.stimulus))
    ]
    parts = [(rows, times[_within(times, other.times_s[rows])]) for rows, times in parts]
    parts = [(rows, times) for rows, times in parts if len(times)]
    if not parts:
        return replace(
            other,
            responses=other.responses[:0],
            times_s=other.times_s[:0],
            stimulus=other.stimulus[:0],
            run=other.run[:0],
            groups=other.groups[:0],
        )
    values = [_interpolated(times, other.times_s[rows], other.responses[rows]) for rows, times in parts]

    def same(of_rows: np.ndarray) -> np.ndarray:
        return np.concatenate([np.full(len(times), of_rows[rows[0]]) for rows, times in parts])

    return replace(
        other,
        responses=np.concatenate(values),
        times_s=np.concatenate([times for _, times in parts]),
        stimulus=same(other.stimulus),
        run=same(other.run),
        groups=same(other.groups),
    )


def _within(times: Floats, of_rows: Floats) -> np.ndarray:
    return (times >= of_rows[0] - 1e-6) & (times <= of_rows[-1] + 1e-6)


def _interpolated(times: Floats, of_rows: Floats, responses: Floats) -> Floats:
    after = np.clip(np.searchsorted(of_rows, times), 1, len(of_rows) - 1)
    share = np.clip((times - of_rows[after - 1]) / (of_rows[after] - of_rows[after - 1]), 0.0, 1.0)[:, None]
    return ((1 - share) * responses[after - 1] + share * responses[after]).astype(responses.dtype)


def _comparable(mine: SubjectData, other: SubjectData) -> bool:
    """Whether columns of two subjects are those of the same targets, by name, and latencies."""
    if mine.targets["name"].tolist() != other.targets["name"].tolist():
        return False
    if mine.samples.latencies_s is None or other.samples.latencies_s is None:
        return mine.samples.latencies_s is other.samples.latencies_s
    return np.array_equal(mine.samples.latencies_s, other.samples.latencies_s)


def _over_latencies(scores: Scores, ceiling: xr.DataArray, usable: xr.DataArray) -> tuple[Floats, Floats]:
    """Scores (layer, fold, target) and ceilings (target,), both over the latencies at which the ceiling is usable.

    Where there are none they are over all that are defined, which leaves a low ceiling, or none.
    """
    r = scores["r"]
    if "latency" in scores.dims:
        chosen = usable | ~usable.any("latency")
        r, ceiling = r.where(chosen).mean("latency"), ceiling.where(chosen).mean("latency")
    return r.transpose("layer", "fold", "target").values, ceiling.values


def _findings(undefined_share: float, n_above: int, ceiling: Floats) -> list[Finding]:
    """Warnings W208 and W209, of targets without a usable ceiling and of scores above theirs."""
    found = []
    if undefined_share > 0:
        message = (
            f"{undefined_share:.0%} of {len(ceiling)} targets have no usable ceiling (undefined, at most the "
            "threshold, or not significant); their scores are not divided by one."
        )
        found.append(Finding("W208", "ceiling", message))
    if n_above:
        message = f"{n_above} targets score above their ceiling in some layer; the values stay as they are."
        found.append(Finding("W209", "ceiling", message))
    return found
