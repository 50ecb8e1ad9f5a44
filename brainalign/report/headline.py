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
from brainalign.report.writing import equals, number, signed
from brainalign.types import Scores

Row = Mapping[Hashable, Any]

__all__ = ["Answer", "caveats", "headline", "verdicts"]

# With fewer subjects an interval over them is given, but nothing is concluded from it.
SUBJECTS_FOR_A_VERDICT = 5
VERDICT_COLUMNS = ("feature_space", "best_layer", "r", "best_latency", "r_baseline", "gain", "interval", "verdict", "p")
LEVEL = 0.05


@dataclass(frozen=True)
class Answer:
    """What the scores of one feature space say: one `statement`, and `remarks` on how far it can be trusted."""

    statement: str
    remarks: tuple[str, ...]


def headline(scores: Scores) -> list[Answer]:
    """Say for each feature space which layer predicts best and what it adds to the baseline.

    The interval of the gain is Student's 95 % over subjects. The layer is the one with the highest mean r over
    subjects, chosen on these same scores, and the answer says so; where they hold what layers score that were chosen
    inside the training samples (`brainalign.questions.Profile`), r and gain are those. Where the gain was tested
    (`brainalign.questions.Tests`), its p at that layer stands beside it, with the test, its permutations and family.

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
        r of that layer), where a baseline was scored ``r_baseline``, ``gain``, ``interval`` and ``verdict``, and where
        the gain was tested ``p``, which `caveats` say the test of.

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
            best = _best(scores, rows)
            for remark in _limits(scores, best, len(rows)) + ([_of_tests(best)] if "p" in best else []):
                said.setdefault(remark, []).append(str(space))
    remarks = [_of_whom(spaces, judged) + remark for remark, spaces in said.items()]
    return remarks + (["The best latency was chosen on these same scores."] if "latency" in scores.dims else [])


def _answer(scores: Scores, space: str, profile: pd.DataFrame) -> Answer:
    if profile["r"].isna().all():
        return Answer(f"No layer of {space} has a defined score.", ("See the warnings below for the reason.",))
    best = _best(scores, profile)
    how = "the layer chosen inside the training folds with" if "is_nested" in best else "with"
    statement = f"{_which(space, best, len(profile))} {how} r = {_plus_minus(best['r'], best['r_se'])}{_gain(best)}."
    return Answer(statement, tuple(_remarks(scores, best, len(profile))))


def _best(scores: Scores, profile: pd.DataFrame) -> Row:
    """The best layer's row of the profile; where there are, the r and gain without double dipping, and the test."""
    best: Row = profile.to_dict("records")[int(profile["r"].argmax())]
    return {**best, **_nested(scores, best), **_tested(scores, best)}


def _nested(scores: Scores, best: Row) -> dict[str, Any]:
    """What the layers score that were chosen inside the training samples; nothing where none were."""
    spaces = scores["profile_space"].values.astype(str).tolist() if "profile_space" in scores.coords else []
    if best["feature_space"] not in spaces:
        return {}
    place = spaces.index(str(best["feature_space"]))
    r = pd.Series(scores["profile_nested_subject"].values[place])
    if r.isna().any():
        return {}
    found: dict[str, Any] = {"is_nested": True, "r": r.mean(), "r_se": r.sem()}
    if "profile_nested_gain_subject" in scores and "gain" in best:
        gain = pd.Series(scores["profile_nested_gain_subject"].values[place])
        found |= {"gain": gain.mean(), "gain_se": gain.sem(), "r_joint": best["r_baseline"] + gain.mean()}
    return found


def _tested(scores: Scores, best: Row) -> dict[str, Any]:
    """The p value of the layer's gain and what it is of; nothing where the gain was not tested."""
    of_group = "group_p_stimulus_gain" in scores
    if not of_group and not ("subject_p_gain" in scores and scores.sizes["of_subject"] == 1):
        return {}
    told = scores.attrs["answers"]["tests"]
    row = _row_of(scores, best)
    p = scores["group_p_stimulus_gain"].values[row] if of_group else scores["subject_p_gain"].values[row, 0]
    if not np.isfinite(p):
        return {}
    found: dict[str, Any] = {
        "p": float(p),
        "n_permutations": told["permutations"],
        "test": told["name"],
        "of_group": of_group,
    }
    if of_group:
        found |= {"q": float(scores["group_q_stimulus_gain"].values[row]), "n_tests": scores.sizes["layer"]}
    return found


def _row_of(scores: Scores, best: Row) -> int:
    """The place of the layer among all layers of the scores."""
    here = (scores["feature_space"].values == best["feature_space"]) & (scores["layer_index"].values == best["layer"])
    return int(np.flatnonzero(here)[0])


def _of_whom(spaces: list[str], judged: list[str]) -> str:
    """Of which feature spaces a remark holds, by naming those or the others, whichever are fewer."""
    others = [space for space in judged if space not in spaces]
    if not others:
        return ""
    return f"{'; '.join(spaces)}: " if len(spaces) <= len(others) else f"All but {'; '.join(others)}: "


def _verdict_row(scores: Scores, space: str, profile: pd.DataFrame) -> dict[str, str]:
    if profile["r"].isna().all():
        return {"feature_space": space, "best_layer": "", "verdict": "has no defined r: see the warnings below"}
    best = _best(scores, profile)
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
    if "p" in best:
        row["p"] = f"p {equals(best['p'], best['n_permutations'])}"
        row["p"] += f", q {equals(best['q'])}" if "q" in best else ""
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
    if np.isfinite(best["gain_se"]):
        clause += f" (95 % interval over subjects: {interval})"
        few = best["n_subjects"] < SUBJECTS_FOR_A_VERDICT
        clause += f"; {verdict}" if few else f", an interval that {verdict}"
    return clause + (f"; {_of_tests(best)[0].lower()}{_of_tests(best)[1:-1]}" if "p" in best else "")


def _of_tests(best: Row) -> str:
    """The p value of the gain, its test, number of permutations and family, as a sentence."""
    shared = ", the same for all subjects" if best["of_group"] else ""
    family = (
        f"q {equals(best['q'])}, Benjamini-Hochberg over all {best['n_tests']} layers"
        if "q" in best
        else "of this layer alone"
    )
    return (
        f"The gain of {best['layer_name']} has p {equals(best['p'], best['n_permutations'])} ({best['test']}{shared}, "
        f"{best['n_permutations']:,} permutations; {family})."
    )


def _judged(best: Row) -> tuple[str, str, str]:
    """The gain, its interval, and what follows from it."""
    gain, se = best["gain"], best["gain_se"]
    digits = 4 if se < 0.001 else 3
    if np.isnan(gain) or np.isnan(se):
        return signed(gain, digits), number(np.nan), "" if np.isnan(gain) else "not known of a single subject"
    half = _student(best) * se
    low, high = gain - half, gain + half
    interval = f"{signed(low, digits)} to {signed(high, digits)}"
    return signed(gain, digits), interval, _verdict(low, high, int(best["n_subjects"]), best.get("q"))


def _verdict(low: float, high: float, n_subjects: int, q: float | None) -> str:
    """What follows from the interval, and from the test over stimuli where there is one."""
    if n_subjects < SUBJECTS_FOR_A_VERDICT:
        return f"{n_subjects} subjects are too few for a verdict"
    if low > 0 and q is not None and q >= LEVEL:
        return "lies above zero, but not the gain beyond chance: what subjects share may be chance about these stimuli"
    if low <= 0 <= high and q is not None and q < LEVEL:
        return (
            "includes zero: the layer adds nothing measurable over the baseline, though less is lost than so many "
            "columns of chance would cost (see the chance level in the tests)"
        )
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
    if "is_nested" in best:
        remarks.append(
            "For each subject and fold the layer is chosen by scores within the training samples, so that choice does "
            "not raise its r."
        )
    elif n_layers > 1:
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
        unknown = "gain" in best and "p" not in best
        gain = ", and whether the gain differs from zero is not known" if unknown else ""
        yield f"There is a single subject: no standard error can be given{gain}."
        return
    yield f"± is the standard error (SE) over n = {n_subjects} subjects."
    if np.isfinite(best.get("gain_se", np.nan)):
        tested = "the p value allows for that" if "p" in best else "no test over stimuli was made"
        yield (
            "The interval is about subjects, not stimuli: subjects who hear the same words share what is chance about "
            f"those words (false positives up to 22 % instead of 5 % in simulations); {tested}."
        )


def _peak(scores: Scores, best: Row) -> tuple[float, float]:
    """The latency in seconds at which the layer's r is highest, and that r."""
    r = mean_by(fold_means(scores)["r"], "subject").mean("subject")
    course = r.isel(layer=_row_of(scores, best))
    return float(course["latency"][int(course.argmax("latency"))]), float(course.max())
