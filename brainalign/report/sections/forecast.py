"""Forecasts in the report: what windows of words ahead add, beside all that would pass for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from brainalign.report.html import Section, picture, table_of
from brainalign.report.means import subject_names
from brainalign.report.sections.naming import layer_names
from brainalign.report.writing import number, p_text, signed
from brainalign.types import Scores

__all__ = ["section"]

SUBJECT_TESTS = {"wilcoxon": "Wilcoxon", "sign_flip": "sign flip"}
TESTED = "A, common penalties"


def section(scores: Scores) -> Section | None:
    """F and A over distances, the controls, the tests, and the distance of the peak; None where nothing was scored."""
    if "forecast_group_gain" not in scores:
        return None
    told = scores.attrs["answers"]["forecast"]
    tables = [("A(d) and its controls, mean over targets and subjects", table_of(list(_rows(scores))))]
    tests = list(_p_values(scores, told))
    if tests:
        tables.append(("Tests of A(d), mean over targets (family: the distances)", table_of(tests)))
    if "forecast_depth_contrast" in scores:
        distance = told["depth_distance"]
        caption = f"Windows of each layer at d = {distance} beside the same base, mean over targets and subjects"
        tables.append((caption, table_of(list(_depth(scores)), ["layer"])))
    if "forecast_horizon" in scores:
        caption = (
            f"Share of the variance of later words' vectors ({told['horizon_space']}) that the present one foretells"
        )
        tables.append((caption, table_of(list(_horizon(scores)), ["layer"])))
    each = (
        ("A(d) in each subject", table_of(list(_subjects(scores, told)), ["subject"])),
        ("F(d) at all distances, mean over subjects", table_of(list(_all(scores)))),
    )
    return Section(
        "Forecasts",
        tuple(_sentences(scores, told)),
        pictures=(picture("Forecast scores by distance", _drawn(scores)),),
        tables=tuple(tables),
        folded=each,
    )


def _drawn(scores: Scores) -> Any:
    from brainalign.report.sections.forecast_picture import forecast_picture

    return forecast_picture(scores)


def _sentences(scores: Scores, told: Mapping[str, Any]) -> Iterator[str]:
    base = "all its dimensions" if told["base"] == "all" else f"{told['n_components']} principal components of it"
    left_out, kept = (_one_or_range(told[name].values()) for name in ("n_left_out", "n_samples"))
    yield (
        f"The present word's features ({told['layer_name']} of {told['space']}, {base}) are scored alone and with a "
        f"window of {told['width']} words that ends d words ahead ({told['n_components']} principal components at "
        f"most, {_percent(told['retained'])} of their variance; a penalty of its own), on the same folds: F(d) is the "
        f"gain in r. All distances are scored on the same {kept} samples of a subject; {left_out} that a word reaches "
        "whose windows leave the stimulus are left out."
    )
    yield (
        "F(d) is not a test of forecasts: it is below zero by what further columns cost, and above zero without any "
        "prediction where base features have lost information (principal components), which neighbouring words bring "
        f"back{'; the base here is of that kind' if told['base'] == 'components' else ''}. A(d), F of the window ahead "
        "less F of the window as far behind, is the statistic. Contextual vectors of words ahead know of the present "
        f"word, those behind do not{_of_variants(scores)}."
    )
    yield from _controls(scores, told)
    yield _peak(scores)
    if "forecast_group_depth" in scores:
        yield _deepest(scores, told)
    if "forecast_target_peak" in scores:
        at = scores["forecast_target_peak"].values
        yield (
            f"{int(np.isfinite(at).sum())} of {len(at)} targets that all subjects have forecast (A(d) above zero at "
            "some distance, Wilcoxon over subjects, q < .05, Benjamini-Hochberg; family: all targets and distances); "
            "only these have a distance of their own in scores.nc (forecast_target_peak)."
        )
    yield from _tests(scores, told)


def _of_variants(scores: Scores) -> str:
    if "forecast_variant" not in scores.dims:
        return "; no variant (static vectors, a context that restarts) stands beside them, so that A may be that alone"
    names = ", ".join(scores["forecast_variant"].values.astype(str))
    return f"; windows of other vectors stand beside them ({names})"


def _controls(scores: Scores, told: Mapping[str, Any]) -> Iterator[str]:
    if "forecast_floor" in scores:
        yield (
            f"Windows from elsewhere in the story, {_one_or_range(told['floor_samples'].values())} samples away or "
            f"more, give F = {signed(_mean(scores['forecast_floor'].values), 4)}: the floor that columns cost. F above "
            "it is no evidence of forecasts either."
        )
    if "forecast_group_passive" in scores:
        highest = np.nanmax(np.abs(scores["forecast_group_passive"].values))
        yield (
            "The passive control is responses made of what the present word predicts and noise of the same spectrum, "
            f"analysed alike: |A| of at most {number(float(highest), 4)}."
        )


def _peak(scores: Scores) -> str:
    at, error, low, high = (float(scores[f"forecast_group_peak{end}"]) for end in ("", "_error", "_low", "_high"))
    if not np.isfinite(at):
        return "The mean of F is above zero at no distance, so that it has no peak."
    seconds = dict(zip(scores["forecast_distance"].values.tolist(), scores["forecast_seconds"].values, strict=True))
    spread = f" ± {error:.1f} (leaving out one subject at a time)" if np.isfinite(error) else ""
    return (
        f"The mean of F is highest at d* = {at:.0f} words{spread}, {seconds[int(at)]:.2f} s (median of so many words), "
        f"and above 90 % of that from {low:.0f} to {high:.0f} words; neighbouring windows share most of their words, "
        "so that the top is flat by nature. It says how far ahead only where A(d) is above zero."
    )


def _deepest(scores: Scores, told: Mapping[str, Any]) -> str:
    at, error = (float(scores[f"forecast_group_depth{end}"]) for end in ("", "_error"))
    if not np.isfinite(at):
        return f"At d = {told['depth_distance']} A is above zero for the windows of no layer."
    spread = f" ± {error:.1f} (leaving out one subject at a time)" if np.isfinite(error) else ""
    return (
        f"At d = {told['depth_distance']} the mean of A is highest for windows of layer number k* = {at:.0f}{spread}; "
        "the layer is chosen by these same scores."
    )


def _tests(scores: Scores, told: Mapping[str, Any]) -> Iterator[str]:
    if "forecast_group_p_stimulus" in scores or "forecast_subject_p" in scores:
        yield (
            f"Stimulus-level: A(d) against those of {told['permutations']:,} passive brains, what the present word "
            "predicts and the rest of the responses circularly shifted within each stimulus by at least "
            f"{_one_or_range(told['min_shift'].values())} samples, the same for all subjects, every one fitted anew "
            "(all windows at common penalties, so that none is favoured: p is of A at these, which stands beside it); "
            "one-sided. q: Benjamini-Hochberg over the distances."
        )
    if any(f"forecast_group_p_{test}" in scores for test in SUBJECT_TESTS):
        yield (
            f"Wilcoxon and sign flip (n = {len(subject_names(scores))} subjects, one-sided) take subjects for "
            "independent; they share the stimulus, and alone these tests are wrong in 9 to 22 % of such cases at .05. "
            "q: Benjamini-Hochberg over the distances."
        )
    elif "forecast_group_p_stimulus" not in scores:
        yield "A(d) is not tested over subjects: there are too few for any such test, and no permutations."


def _rows(scores: Scores) -> Iterator[dict[str, str]]:
    variants = scores["forecast_variant"].values.astype(str).tolist() if "forecast_variant" in scores.dims else []
    for place in _contrasted(scores):
        row = _place(scores, place) | {
            "F": signed(_of(scores, "forecast_group_gain", place), 4),
            "A": signed(_of(scores, "forecast_group_contrast", place), 4),
        }
        if "forecast_group_contrast_low" in scores:
            low, high = (_of(scores, f"forecast_group_contrast_{end}", place) for end in ("low", "high"))
            row["95 % interval (bootstrap over subjects)"] = f"{signed(low, 4)} to {signed(high, 4)}"
        for variant, name in enumerate(variants):
            values = scores["forecast_group_variant_contrast"].values[variant]
            row[f"A, {name}"] = signed(float(values[place]), 4)
        if "forecast_group_passive" in scores:
            row["A, passive"] = signed(_of(scores, "forecast_group_passive", place), 4)
        yield row


def _p_values(scores: Scores, told: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    tests = [test for test in SUBJECT_TESTS if f"forecast_group_p_{test}" in scores]
    if not tests and "forecast_group_p_stimulus" not in scores:
        return
    for place in _contrasted(scores):
        row = _place(scores, place) | {"A": signed(_of(scores, "forecast_group_contrast", place), 4)}
        if "forecast_group_p_stimulus" in scores:
            count = told["permutations"]
            if "forecast_group_tested" in scores:
                row[TESTED] = signed(_of(scores, "forecast_group_tested", place), 4)
            row[f"p stimulus-level ({count:,} permutations)"] = p_text(
                _of(scores, "forecast_group_p_stimulus", place), count
            )
            row["q stimulus-level"] = p_text(_of(scores, "forecast_group_q_stimulus", place))
        for test in tests:
            row[f"p {SUBJECT_TESTS[test]}"] = p_text(_of(scores, f"forecast_group_p_{test}", place))
            row[f"q {SUBJECT_TESTS[test]}"] = p_text(_of(scores, f"forecast_group_q_{test}", place))
        yield row


def _subjects(scores: Scores, told: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    for column, subject in enumerate(scores["of_subject"].values.astype(str)):
        for place in _contrasted(scores):
            row = {"subject": subject} | _place(scores, place)
            row["A"] = signed(float(scores["forecast_subject_contrast"].values[column, place]), 4)
            if "forecast_subject_tested" in scores:
                row[TESTED] = signed(float(scores["forecast_subject_tested"].values[column, place]), 4)
            if "forecast_subject_p" in scores:
                p, count = float(scores["forecast_subject_p"].values[column, place]), told["permutations"]
                row[f"p circular shift ({count:,} permutations)"] = p_text(p, count)
            yield row


def _all(scores: Scores) -> Iterator[dict[str, str]]:
    for place in range(scores.sizes["forecast_distance"]):
        yield _place(scores, place) | {"F": signed(_of(scores, "forecast_group_gain", place), 4)}


def _depth(scores: Scores) -> Iterator[dict[str, str]]:
    gain, contrast = scores["forecast_depth_gain"].values, scores["forecast_depth_contrast"].values
    for place, layer in enumerate(layer_names(scores)):
        if np.isfinite(gain[place]).any():
            yield {"layer": layer, "F": signed(_mean(gain[place]), 4), "A": signed(_mean(contrast[place]), 4)}


def _horizon(scores: Scores) -> Iterator[dict[str, str]]:
    for place, layer in enumerate(scores["horizon_layer"].values.astype(str)):
        row = {"layer": layer}
        for column, distance in enumerate(scores["horizon_distance"].values.tolist()):
            row[f"{distance} ahead"] = signed(float(scores["forecast_horizon"].values[place, column]), 3)
        half = float(scores["forecast_half_life"].values[place])
        yield row | {"half after (words)": "beyond" if np.isinf(half) else number(half, 1)}


def _contrasted(scores: Scores) -> list[int]:
    return np.flatnonzero(np.isfinite(scores["forecast_subject_contrast"].values).any(axis=0)).tolist()


def _place(scores: Scores, place: int) -> dict[str, str]:
    distance, seconds = (scores[f"forecast_{name}"].values[place] for name in ("distance", "seconds"))
    return {"d (words)": f"{int(distance):+d}", "median s": f"{seconds:.2f}"}


def _of(scores: Scores, name: str, place: int) -> float:
    return float(scores[name].values[place])


def _mean(values: Any) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _percent(shares: Mapping[str, float]) -> str:
    return f"{np.mean(list(shares.values())):.0%}"


def _one_or_range(values: Any) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
