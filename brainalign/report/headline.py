"""The answer in words: which layer predicts best, how well, and whether it adds to the baseline."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from brainalign.report.curves import is_numbered
from brainalign.report.means import fold_means, mean_by
from brainalign.report.tables import group_profile
from brainalign.types import Scores

Row = Mapping[Hashable, Any]

__all__ = ["Answer", "caveats", "headline", "number", "signed", "verdicts"]

# With fewer subjects an interval over them is given, but nothing is concluded from it.
SUBJECTS_FOR_A_VERDICT = 5
VERDICT_COLUMNS = ("feature_space", "best_layer", "r", "best_latency", "r_baseline", "gain", "interval", "verdict")


@dataclass(frozen=True)
class Answer:
    """What the scores of one feature space say: one `statement`, and `remarks` on how far it can be trusted."""

    statement: str
    remarks: tuple[str, ...]


def headline(scores: Scores) -> list[Answer]:
    """Say for each feature space which layer predicts best and what it adds to the baseline.

    The interval of the gain is Student's 95 % over subjects. The layer is the one with
    the highest mean r over subjects, chosen on these same scores, and the answer says so.

    Examples
    --------
    >>> scores = Scores(
    ...     {"r": (("layer", "fold", "target"), [[[0.1, 0.3]]])},
    ...     coords={
    ...         "feature_space": ("layer", ["gpt2"]), "layer_name": ("layer", ["embedding"]),
    ...         "layer_index": ("layer", [0]), "depth": ("layer", [0.0]),
    ...         "subject": ("target", ["01", "02"]), "target_name": ("target", ["STG", "STG"]),
    ...     },
    ... )
    >>> headline(scores)[0].statement
    'The only layer of gpt2 (embedding) predicts held-out responses with r = 0.200 ± 0.100.'
    """
    profile = group_profile(scores)
    return [_answer(scores, str(space), rows) for space, rows in profile.groupby("feature_space", sort=False)]


def verdicts(scores: Scores) -> pd.DataFrame:
    """The same as a table, for scores of many feature spaces.

    Returns
    -------
    pandas.DataFrame
        One row per feature space, all text: ``feature_space``, ``best_layer`` (blank where it is the only one and
        named like the space), ``r`` (± standard error), with latencies ``best_latency`` (in seconds, of the highest
        r of that layer), and where a baseline was scored ``r_baseline``, ``gain``, ``interval`` and ``verdict``.

    Examples
    --------
    >>> scores = Scores(
    ...     {"r": (("layer", "fold", "target"), [[[0.1, 0.3]], [[0.2, 0.2]]])},
    ...     coords={
    ...         "feature_space": ("layer", ["gpt2", "pitch"]), "layer_name": ("layer", ["layer 3", "pitch"]),
    ...         "layer_index": ("layer", [3, 0]), "depth": ("layer", [1.0, 0.0]),
    ...         "subject": ("target", ["01", "02"]), "target_name": ("target", ["STG", "STG"]),
    ...     },
    ... )
    >>> verdicts(scores)[["feature_space", "best_layer", "r"]]
      feature_space best_layer              r
    0          gpt2    layer 3  0.200 ± 0.100
    1         pitch             0.200 ± 0.000
    """
    profile = group_profile(scores)
    rows = [_verdict_row(scores, str(space), rows) for space, rows in profile.groupby("feature_space", sort=False)]
    table = pd.DataFrame(rows)
    return table[[column for column in VERDICT_COLUMNS if column in table]].fillna(number(np.nan))


def caveats(scores: Scores) -> list[str]:
    """What limits the verdicts, each once; what does not hold for all feature spaces names those it holds for."""
    said: dict[str, list[str]] = {}
    judged = []
    for space, rows in group_profile(scores).groupby("feature_space", sort=False):
        if rows["r"].notna().any():
            judged.append(str(space))
            for remark in _limits(scores, _best(rows), len(rows)):
                said.setdefault(remark, []).append(str(space))
    remarks = [_of_whom(spaces, judged) + remark for remark, spaces in said.items()]
    return remarks + (["The best latency was chosen on these same scores."] if "latency" in scores.dims else [])


def number(value: float, digits: int = 3) -> str:
    """Write `value` with a true minus sign; what is undefined is a dash.

    >>> number(-0.01234), number(float("nan"))
    ('−0.012', '–')
    """
    return f"{value:z.{digits}f}".replace("-", "\N{MINUS SIGN}") if np.isfinite(value) else "\N{EN DASH}"


def signed(value: float, digits: int = 3) -> str:
    """Write `value` like `number`, with a plus sign where it is positive."""
    return ("+" if round(value, digits) > 0 else "") + number(value, digits)


def _answer(scores: Scores, space: str, profile: pd.DataFrame) -> Answer:
    if profile["r"].isna().all():
        return Answer(f"No layer of {space} has a defined score.", ("See the warnings below for the reason.",))
    best = _best(profile)
    statement = f"{_which(space, best, len(profile))} with r = {_plus_minus(best['r'], best['r_se'])}{_gain(best)}."
    return Answer(statement, tuple(_remarks(scores, best, len(profile))))


def _best(profile: pd.DataFrame) -> Row:
    return profile.to_dict("records")[int(profile["r"].argmax())]


def _of_whom(spaces: list[str], judged: list[str]) -> str:
    """Of which feature spaces a remark holds, by naming those or the others, whichever are fewer."""
    others = [space for space in judged if space not in spaces]
    if not others:
        return ""
    return f"{'; '.join(spaces)}: " if len(spaces) <= len(others) else f"All but {'; '.join(others)}: "


def _verdict_row(scores: Scores, space: str, profile: pd.DataFrame) -> dict[str, str]:
    if profile["r"].isna().all():
        return {"feature_space": space, "best_layer": "", "verdict": "has no defined r: see the warnings below"}
    best = _best(profile)
    row = {
        "feature_space": space,
        "best_layer": "" if best["layer_name"] == space else best["layer_name"],
        "r": _plus_minus(best["r"], best["r_se"]),
    }
    if "latency" in scores.dims:
        row["best_latency"] = number(_peak(scores, best)[0], 2)
    if "gain" in profile:
        gain, interval, verdict = _judged(best)
        row |= {"r_baseline": number(best["r_baseline"]), "gain": gain, "interval": interval, "verdict": verdict}
    return row


def _which(space: str, best: Row, n_layers: int) -> str:
    if n_layers == 1:
        name = "" if best["layer_name"] == space else f" ({best['layer_name']})"
        return f"The only layer of {space}{name} predicts held-out responses"
    name = best["layer_name"]
    layer = name if is_numbered(name) else f"layer {best['layer']} ({name})"
    return f"Of the {n_layers} layers of {space}, {layer} predicts best,"


def _plus_minus(mean: float, se: float) -> str:
    return number(mean) if np.isnan(se) else f"{number(mean)} ± {number(se)}"


def _gain(best: Row) -> str:
    """The clause on the gain over the baseline; nothing where there is none."""
    if np.isnan(best.get("gain", np.nan)):
        return ""
    gain, interval, verdict = _judged(best)
    clause = f"; joined to the baseline (r = {number(best['r_baseline'])}) it changes r by {gain}"
    if np.isnan(best["gain_se"]):
        return clause
    clause += f" (95 % interval over subjects: {interval})"
    if best["n_subjects"] < SUBJECTS_FOR_A_VERDICT:
        return f"{clause}; {verdict}"
    return f"{clause}, an interval that {verdict}"


def _judged(best: Row) -> tuple[str, str, str]:
    """The gain, its interval, and what follows from it."""
    gain, se = best["gain"], best["gain_se"]
    digits = 4 if se < 0.001 else 3
    if np.isnan(gain) or np.isnan(se):
        return signed(gain, digits), number(np.nan), "" if np.isnan(gain) else "not known of a single subject"
    half = _student(best) * se
    low, high = gain - half, gain + half
    interval = f"{signed(low, digits)} to {signed(high, digits)}"
    return signed(gain, digits), interval, _verdict(low, high, int(best["n_subjects"]))


def _verdict(low: float, high: float, n_subjects: int) -> str:
    if n_subjects < SUBJECTS_FOR_A_VERDICT:
        return f"{n_subjects} subjects are too few for a verdict"
    if low <= 0 <= high:
        return "includes zero: the layer adds nothing measurable over the baseline"
    side = "above" if low > 0 else "below"
    return f"lies {side} zero: for these stimuli the layer " + (
        "adds to the baseline" if low > 0 else "makes the baseline worse"
    )


def _student(best: Row) -> float:
    """How many standard errors are half of Student's two-sided 95 % interval with so many subjects."""
    from scipy.stats import t

    return float(t.ppf(0.975, int(best["n_subjects"]) - 1))


def _remarks(scores: Scores, best: Row, n_layers: int) -> list[str]:
    """What limits the statement, and where in time its layer predicts best."""
    remarks = _limits(scores, best, n_layers)
    if "latency" in scores.dims:
        latency_s, peak = _peak(scores, best)
        remarks.append(
            f"The r of the same layer is highest at {number(latency_s, 2)} s (r = {number(peak)}, chosen on these same "
            "scores)."
        )
    return remarks


def _limits(scores: Scores, best: Row, n_layers: int) -> list[str]:
    remarks = list(_spread(best))
    if n_layers > 1:
        remarks.append(
            "The layer was selected on these same scores, so its r is higher than new data would show; neither the "
            "standard error nor the interval allows for that."
        )
    if "gain" not in best:
        remarks.append("No baseline was scored: simpler properties of the words may explain as much.")
    if best.get("r_joint", np.inf) < best["r"]:
        remarks.append(
            "Baseline and layer together predict worse than the layer alone: beside this layer the baseline's columns "
            "bring more noise than knowledge. The gain is therefore a cautious figure."
        )
    if "latency" in scores.dims:
        first_s, last_s = scores["latency"].values[[0, -1]]
        remarks.append(
            f"r is the mean over latencies from {number(first_s, 2)} to {number(last_s, 2)} s from word onset."
        )
        remarks.append(
            "Words follow each other: what a layer predicts late may be the response to the next word, whose onset "
            "it helps to guess, and before onset that to the word before."
        )
    return remarks


def _spread(best: Row) -> Iterator[str]:
    """What ± means, and how much wider it should be for few subjects."""
    n_subjects = int(best["n_subjects"])
    if n_subjects == 1:
        gain = ", and whether the gain differs from zero is not known" if "gain" in best else ""
        yield f"There is a single subject: no standard error can be given{gain}."
        return
    yield f"± is the standard error (SE) over n = {n_subjects} subjects."
    if np.isfinite(best.get("gain_se", np.nan)):
        yield (
            "The interval is about subjects, not stimuli: subjects who hear the same words share what is chance about "
            "those words (false positives up to 22 % instead of 5 % in simulations); no test over stimuli was made."
        )


def _peak(scores: Scores, best: Row) -> tuple[float, float]:
    """The latency in seconds at which the layer's r is highest, and that r."""
    r = mean_by(fold_means(scores)["r"], "subject").mean("subject")
    here = (scores["feature_space"].values == best["feature_space"]) & (scores["layer_index"].values == best["layer"])
    course = r.isel(layer=int(np.flatnonzero(here)[0]))
    return float(course["latency"][int(course.argmax("latency"))]), float(course.max())
