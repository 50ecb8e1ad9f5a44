"""The report: what was run, on what, and what came out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainalign.errors import listed
from brainalign.report.headline import caveats, headline, verdicts
from brainalign.report.html import Picture, Table, picture, write_page
from brainalign.report.means import fold_means, is_ok, layer_table, subject_names
from brainalign.report.sections import sections_of
from brainalign.report.tables import Recovery, group_profile, planted_recovery, summary
from brainalign.report.writing import number, signed
from brainalign.types import Scores
from brainalign.warning_codes import titled

__all__ = ["write_report"]

# Beyond these a table or a list is cut, and the page says so; summary.csv always has all.
N_ROWS = 1500
N_NAMED = 20
N_SPACES_IN_TITLE = 3
OF_TESTS = ("p", "n_significant", "p_gain", "n_significant_gain", "test")
# Columns that hold numbers even where they are written out.
NUMBERS = ("r", "best_latency", "r_baseline", "gain", "interval")
TITLES = {
    "subject": "subject",
    "feature_space": "features",
    "layer_name": "layer name",
    "best_layer": "best layer",
    "interval": "95 % interval",
    "n_subjects": "subjects",
    "n_targets": "targets",
    "r2": "R²",
    "r_se": "± SE",
    "r_baseline": "r baseline",
    "r_baseline_se": "± SE",
    "r_joint": "r joint",
    "r_joint_se": "± SE",
    "gain_se": "± SE",
    "best_target": "best target",
    "r_best_target": "its r",
    "best_latency": "best latency (s)",
    "planted_layer": "planted layer",
    "recovered_layer": "recovered layer",
    "planted_latency": "planted latency (s)",
    "recovered_latency": "recovered latency (s)",
}


def write_report(scores: Scores, path: Path, run: Mapping[str, Any], notices: Sequence[str] = ()) -> None:
    """Write the report of `scores` to `path`, one HTML file that loads nothing from elsewhere.

    Every string of the scores and of `run` is shown as text, whatever it holds. The file appears whole or not at all.

    Parameters
    ----------
    scores : Scores
        What is reported.
    path : Path
        The file to write, usually ``report.html``.
    run : mapping
        What was run, JSON-able, as in ``run.json``. What is missing is left out of the page. Keys: ``title``,
        ``dataset`` (``name``, ``title``, ``citation``, ``licence``, ``modality``, ``n_subjects``, ``subjects``,
        ``n_stimuli``, ``n_words``), ``features`` (a list of ``name`` and ``metadata``), ``baseline`` (names),
        ``alignment``, ``encoder``, ``splits`` (settings), ``n_folds``, ``n_samples``, ``findings`` (a list of
        ``code``, ``where``, ``message``), ``versions``, ``machine``, ``timings`` (seconds), ``seeds``,
        ``recipe_yaml``, ``command``, ``started``, ``peak_memory_mb``.
    notices : sequence of str
        What the reader must know first, such as that the data are simulated.

    Examples
    --------
    >>> import tempfile
    >>> scores = Scores(
    ...     {"r": (("layer", "fold", "target"), [[[0.1]], [[0.3]]])},
    ...     coords={
    ...         "feature_space": ("layer", ["gpt2", "gpt2"]), "layer_name": ("layer", ["embedding", "block 1"]),
    ...         "layer_index": ("layer", [0, 1]), "depth": ("layer", [0.0, 1.0]),
    ...         "subject": ("target", ["01"]), "target_name": ("target", ["STG"]),
    ...     },
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_report(scores, Path(folder) / "report.html", {"title": "A <b>test</b>"})
    ...     "A &lt;b&gt;test&lt;/b&gt;" in (Path(folder) / "report.html").read_text(encoding="utf-8")
    True
    """
    dataset = run.get("dataset") or {}
    profile = group_profile(scores)
    write_page(
        "report.html.jinja",
        path,
        title=str(run.get("title") or f"Brain scores of {_spaces_in_title(profile)}"),
        notices=[str(notice) for notice in notices],
        **_answers(scores),
        facts=_facts(scores, run),
        pictures=_pictures(scores),
        profile=_table(_without_repetition(profile)),
        **_subject_table(scores),
        sections=sections_of(scores),
        recovery=_recovery(scores),
        findings=_findings(scores, run),
        methods=_methods(scores, run),
        citation=str(dataset.get("citation") or ""),
        licence=str(dataset.get("licence") or "not stated"),
        provenance=_provenance(run),
        recipe=str(run.get("recipe_yaml") or ""),
        profile_json=_records(profile),
    )


def _spaces_in_title(profile: pd.DataFrame) -> str:
    spaces = profile["feature_space"].unique()
    return ", ".join(spaces) if len(spaces) <= N_SPACES_IN_TITLE else f"{len(spaces)} feature spaces"


def _answers(scores: Scores) -> dict[str, Any]:
    """The answer of one feature space in words; of several a line each, and what limits them once."""
    answers = headline(scores)
    if len(answers) == 1:
        return {"statement": answers[0].statement, "verdicts": None, "remarks": answers[0].remarks}
    table = verdicts(scores)
    if (table["best_layer"] == "").all():
        table = table.drop(columns="best_layer")
    return {"statement": "", "verdicts": _plain_table(table), "remarks": caveats(scores)}


def _facts(scores: Scores, run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was run, on what: terms and what stands for them; the unknown is left out."""
    dataset = run.get("dataset") or {}
    subjects = dataset.get("subjects") or subject_names(scores)
    features = [
        (f"Features: {_text(feature.get('name'))}", feature.get("metadata") or "no settings given")
        for feature in run.get("features") or []
    ]
    facts = [
        ("Dataset", dataset.get("title") or dataset.get("name")),
        ("Modality", dataset.get("modality")),
        ("Subjects", f"{dataset.get('n_subjects') or len(subjects)}: {_text(subjects)}"),
        ("Targets", _count_targets(scores)),
        ("Stimuli", dataset.get("n_stimuli")),
        ("Words", dataset.get("n_words")),
        ("Samples", run.get("n_samples")),
        ("Layers", _count_layers(scores)),
        ("Latencies", _latencies(scores)),
        ("Folds", run.get("n_folds") or scores.sizes["fold"]),
        ("Baseline", run.get("baseline") or "none"),
        *features,
        ("Alignment", run.get("alignment")),
        ("Encoder", run.get("encoder")),
        ("Splits", run.get("splits")),
    ]
    return [(term, _text(value)) for term, value in facts if value not in (None, "", [], {})]


def _count_targets(scores: Scores) -> str:
    n_each = pd.Series(is_ok(scores)).groupby(scores["subject"].values.astype(str)).agg(["sum", "size"])
    each = _range(n_each["size"])
    n_ok = int(n_each["sum"].sum())
    kinds = ", ".join(np.unique(scores["target_kind"].values.astype(str))) if "target_kind" in scores.coords else ""
    return (
        f"{each} per subject{f' ({kinds})' if kinds else ''}; {n_ok} of {scores.sizes['target']} with a valid response"
    )


def _range(values: pd.Series) -> str:
    return f"{values.min()}" if values.min() == values.max() else f"{values.min()} to {values.max()}"


def _count_layers(scores: Scores) -> str:
    counts = layer_table(scores).groupby("feature_space", sort=False).size()
    return ", ".join(f"{count} ({space})" for space, count in counts.items())


def _latencies(scores: Scores) -> str | None:
    if "latency" not in scores.dims:
        return None
    latency_s = scores["latency"].values
    return f"{len(latency_s)}, from {number(latency_s[0], 3)} to {number(latency_s[-1], 3)} s from word onset"


def _pictures(scores: Scores) -> list[Picture]:
    from brainalign.report import figures
    from brainalign.report.maps import score_map
    from brainalign.report.sensor_maps import topography

    drawn = [("Layer profile", figures.layer_profile(scores))]
    sensors = topography(scores)
    if "latency" in scores.dims:
        drawn.append(("Layer by latency", figures.layer_by_latency(scores)))
    if sensors is not None:
        drawn.append(("Topography", sensors))
    for title, figure in (("Map", score_map(scores)), ("Preferred layer", score_map(scores, "preferred layer"))):
        if figure is not None:
            drawn.append((title, figure))
    if sensors is None:
        drawn.append(("Targets by layer", figures.region_by_layer(scores)))
        if "r_joint" in scores and "r_baseline" in scores:
            drawn.append(("Gain over the baseline, targets by layer", figures.region_by_layer(scores, "gain")))
    return [picture(title, figure) for title, figure in drawn]


def _table(frame: pd.DataFrame) -> Table:
    """`frame` as text: integers as they are, other numbers with three digits, the undefined as a dash.

    The name of a feature space stands above its rows, since it may be long.
    """
    if "feature_space" not in frame:
        return _plain_table(frame)
    rest = frame.drop(columns="feature_space")
    groups = tuple(
        (str(space), _plain_table(rest.loc[rows.index]).groups[0][1])
        for space, rows in frame.groupby("feature_space", sort=False)
    )
    return replace(_plain_table(rest), groups=groups)


def _plain_table(frame: pd.DataFrame) -> Table:
    columns = [[_cell(value, str(name)) for value in frame[name]] for name in frame]
    return Table(
        headers=tuple(TITLES.get(str(name), str(name)) for name in frame),
        groups=(("", tuple(zip(*columns, strict=True))),),
        is_text=tuple(not pd.api.types.is_numeric_dtype(frame[name]) and name not in NUMBERS for name in frame),
    )


def _cell(value: Any, column: str) -> str:
    # A gain is a small difference of two larger numbers: one digit more, and its sign.
    if not isinstance(value, float | np.floating):
        return str(value)
    if column == "gain":
        return signed(float(value), 4)
    return number(float(value), 4 if column == "gain_se" else 3)


def _without_repetition(table: pd.DataFrame) -> pd.DataFrame:
    """Leave out what says nothing: the one feature space's name, layer names that repeat the index or the space."""
    is_index = table["layer_name"] == "layer " + table["layer"].astype(str)
    says_nothing = is_index | (table["layer_name"] == table["feature_space"])
    table = table.assign(layer_name=table["layer_name"].mask(table["layer_name"] == table["feature_space"], ""))
    columns = ["feature_space"] if table["feature_space"].nunique() == 1 else []
    return table.drop(columns=columns + (["layer_name"] if says_nothing.all() else []))


def _subject_table(scores: Scores) -> dict[str, Any]:
    """The per-subject table, of the best layers only where it would be too long, and what to say of it."""
    # P values stand in the section on tests, beside their test and its permutations.
    table = summary(scores).drop(columns=list(OF_TESTS), errors="ignore")
    note = ""
    if len(table) > N_ROWS:
        ranked = table.sort_values("r", ascending=False, na_position="last", kind="stable")
        table = ranked.groupby(["subject", "feature_space"], sort=False).head(1).sort_index()
        note = (
            "Only each subject's best layer is shown here, selected on these same scores; summary.csv has all layers."
        )
    return {"subjects": _table(_without_repetition(table)), "subjects_note": note}


def _recovery(scores: Scores) -> dict[str, Any] | None:
    """What was planted and found again; None where nothing was planted."""
    if "planted_layer" not in scores.coords or not (scores["planted_layer"].values >= 0).any():
        return None
    recovery = planted_recovery(scores)
    targets = recovery.targets.head(N_ROWS)
    whole = ["planted_layer", "recovered_layer"]
    targets[whole] = targets[whole].astype("Int64").astype(str).replace("<NA>", number(np.nan))
    return {
        "sentences": list(_recovery_sentences(recovery)),
        "table": _table(targets),
        "n_left_out": len(recovery.targets) - len(targets),
    }


def _recovery_sentences(recovery: Recovery) -> Iterator[str]:
    for share in recovery.shares.to_dict("records"):
        sentence = (
            f"{share['feature_space']}: the planted layer is the one with the highest r in {share['layer']:.0%} of "
            f"{share['n_targets']} targets"
        )
        if "latency" in share:
            sentence += (
                f"; the planted latency is found at the nearest sample in {share['latency']:.0%}, and within one "
                f"sample more in {share['latency_within_one']:.0%}"
            )
        yield f"{sentence}."


def _findings(scores: Scores, run: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(code, title, message) of what the run found, and of what is undefined in the scores.

    Titles say where; of warnings with a code of their own, first what the code says.
    """
    found = []
    for finding in run.get("findings") or []:
        code, where = _text(finding.get("code")), _text(finding.get("where"))
        found.append((code, titled(code, where), _text(finding.get("message"))))
    return found + list(_undefined(scores))


def _undefined(scores: Scores) -> Iterator[tuple[str, str, str]]:
    bad = ~is_ok(scores)
    for space, r in group_profile(scores).groupby("feature_space", sort=False)["r"]:
        if r.isna().all():
            yield (
                "no-defined-r",
                str(space),
                "No r is defined, at no layer and for no subject, so that nothing is said of this feature space. "
                "Either its values do not change over the samples, or no response is valid.",
            )
    if bad.any():
        names = [
            f"{subject}: {target} ({status})"
            for subject, target, status in zip(
                *(scores[name].values[bad].astype(str) for name in ("subject", "target_name", "status")), strict=True
            )
        ]
        more = f" and {len(names) - N_NAMED} more" if len(names) > N_NAMED else ""
        message = f"{len(names)} of {len(bad)} targets have no valid response and enter no mean"
        yield "targets-left-out", "; ".join(names[:N_NAMED]) + more, f"{message}."
    gaps = scores["r"].isnull().values & ~scores["r"].isnull().all("fold").values[_fold_axis(scores)]
    n_gaps, n_empty = int(gaps.sum()), int(fold_means(scores)["r"].isel(target=~bad).isnull().sum())
    if n_gaps:
        yield (
            "undefined-folds",
            "scores",
            f"{n_gaps} values of r are undefined in some folds; means are over the other folds.",
        )
    if n_empty:
        yield (
            "undefined-scores",
            "scores",
            f"{n_empty} mean values of r of valid targets are undefined; means are over the others.",
        )


def _fold_axis(scores: Scores) -> tuple[Any, ...]:
    """An index that puts the axis of folds back."""
    return tuple(np.newaxis if dimension == "fold" else slice(None) for dimension in scores["r"].dims)


def _methods(scores: Scores, run: Mapping[str, Any]) -> list[str]:
    """How to read the numbers, in full sentences."""
    latencies = ", then over latencies" if "latency" in scores.dims else ""
    paragraphs = [
        f"Each layer's features predict each target's response by a cross-validated linear model. r is the Pearson "
        f"correlation of predicted and measured response in each of {scores.sizes['fold']} held-out folds, averaged "
        f"over folds, then over the targets whose response is valid{latencies}, for each subject. R² is averaged in "
        f"the same way. Correlations are averaged without Fisher's transform. Means over subjects come with their "
        f"standard error (the sample standard deviation over the root of their number). What is undefined is left "
        f"out of means, never counted as zero."
    ]
    if "r_joint" in scores and "r_baseline" in scores:
        names = f" ({_text(run['baseline'])})" if run.get("baseline") else ""
        paragraphs.append(
            f"The baseline{names} is scored on the same folds, alone and joined to each layer. The gain is the joint r "
            f"minus the baseline's r, fold by fold: what the layer adds to the baseline. A joint model can also "
            f"score below the baseline, since more features are harder to fit."
        )
    paragraphs.append(_reservation(set(scores.attrs.get("answers", {}))))
    return paragraphs


def _reservation(asked: Set[str]) -> str:
    """What the tables of scores do not hold, where a section of the page does not say otherwise."""
    lacking = [
        name
        for name, question in (("ceiling", "ceiling"), ("significance test of r or of the gain", "tests"))
        if question not in asked
    ]
    nothing = f"No {' and no '.join(lacking)} enters this page. " if lacking else ""
    nested = ', except where the section "Layer profile" says otherwise' if "profile" in asked else ""
    return (
        f"{nothing}Whatever is called best in its tables (a layer, a target, a latency) was selected on the same "
        f"scores that are shown for it{nested}."
    )


def _provenance(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    timings = {name: f"{_text(seconds)} s" for name, seconds in (run.get("timings") or {}).items()}
    memory, made_by = run.get("peak_memory_mb"), run.get("made_by") or {}
    facts = [
        ("Command", run.get("command")),
        ("Started", run.get("started")),
        ("Timings", timings),
        ("Peak memory", f"{_text(memory)} MB" if memory is not None else None),
        ("A second run", made_by.get("again")),
        ("Made by", _makers(made_by.get("sorts", ()))),
        ("Seeds", run.get("seeds")),
        ("Code", run.get("code")),
        ("Versions", run.get("versions")),
        ("Machine", run.get("machine")),
    ]
    return [(term, _text(value)) for term, value in facts if value not in (None, "", [], {})]


def _makers(sorts: Sequence[Mapping[str, Any]]) -> list[str]:
    """What made the results, each sort in words."""
    return [
        f"{sort['results']} results: {sort['gpu'] or sort['cpu']}, {sort['blas']}, {sort['threads']} "
        f"thread{'' if sort['threads'] == 1 else 's'} (on {listed(sort['hosts'])})"
        for sort in sorts
    ]


def _text(value: Any) -> str:
    """Write any JSON value in words: "key: value; key: value", "one, two", yes or no, a dash for nothing."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_nested(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(_nested(item) for item in value) or "none"
    return str(value)


def _nested(value: Any) -> str:
    return f"({_text(value)})" if isinstance(value, Mapping) else _text(value)


def _records(profile: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as JSON values; the undefined is null, since JSON has no NaN."""
    return [
        {str(key): None if isinstance(value, float) and np.isnan(value) else value for key, value in row.items()}
        for row in profile.to_dict("records")
    ]
