"""How alike every layer of some features is to every subject's responses, as representations: nothing is fitted."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import xarray as xr

from brainalign.analysis.similarity.compare import Measure
from brainalign.config import settings_of
from brainalign.encoding import Splits
from brainalign.errors import DataError, DataWarning
from brainalign.pipeline.aligned import aligned
from brainalign.pipeline.extraction import Progress, extract_features, silent
from brainalign.pipeline.spaces import Space
from brainalign.pipeline.study import Study
from brainalign.questions.compare import Compare
from brainalign.questions.study import Part
from brainalign.store import Store
from brainalign.types import Aligner, Dataset, Features, Finding

__all__ = ["compare"]


def compare(
    data: Dataset,
    features: Space | Sequence[Space],
    measure: Measure = "cka",
    alignment: Aligner | None = None,
    splits: Splits | None = None,
    settings: Compare | None = None,
    store: Store | None = Store(),  # noqa: B008  (frozen, and touches no disk until used)
    progress: Progress = silent,
) -> xr.Dataset:
    """Compare layers with responses as representations of the same moments, beside circularly shifted responses.

    Parameters
    ----------
    data : Dataset
    features : Extractor or function, or several
        As for `brainalign.score_layers`.
    measure : {"cka", "cka_biased", "rsa", "procrustes", "cca", "mutual_neighbours"}
        See `brainalign.analysis.similarity.compare.Compare`.
    alignment : stage of brainalign.alignment, optional
        By default the modality's.
    splits : Splits, optional
        What is held out for "procrustes" and "cca"; by default what scores are of.
    settings : brainalign.questions.compare.Compare, optional
        All else; its `measures` are not looked at.
    store : Store or None
        Where features are kept; comparisons are made anew.
    progress : callable

    Returns
    -------
    xarray.Dataset
        Of each subject and layer: ``value``; ``p``, one-sided, of circular shifts; ``chance``, the mean of shifted
        responses, and ``chance_high``, what one in twenty of these reaches; ``band``. Of each layer the subjects'
        ``group_mean`` with its bootstrap interval ``group_low`` and ``group_high``, and ``group_p`` and ``group_q``
        (Benjamini-Hochberg over all layers), where all subjects get the same shifts. ``attrs`` say what was done.

    Warns
    -----
    DataWarning
        What was left out, or is to be read with care.

    Raises
    ------
    BrainalignError
        If data, features and settings cannot go together, or runs are too short to be shifted.

    Examples
    --------
    >>> import warnings
    >>> import brainalign as ba
    >>> from brainalign.features import ToyModel
    >>> data = ba.load_dataset("simulated", options={"n_subjects": 2, "n_runs": 2, "n_words": 300, "n_layers": 2})
    >>> with warnings.catch_warnings(action="ignore"):
    ...     found = ba.compare(data, ToyModel(n_layers=2), "rsa", settings=Compare(permutations=99), store=None)
    >>> dict(found.value.sizes), found.attrs["test"]
    ({'subject': 2, 'layer': 3}, 'circular shift')
    """
    question = replace(Compare() if settings is None else settings, measures=(measure,))
    study = Study.of(data, features, (), alignment, splits=splits)
    spaces = {space.name: extract_features(space, study.stimuli, store, progress) for space in study.spaces}
    parts: dict[str, Part] = {}
    findings = [*data.findings, *(finding for recording in study.recordings for finding in recording.findings)]
    for subject in study.subjects:
        progress("compare", len(parts), len(data.subjects))
        samples, found = aligned(study.subject(subject))
        findings += found
        if samples is None:
            findings.append(Finding("subject-left-out", f"subject {subject}", "no usable recording: left out."))
            continue
        parts[subject] = question.of_layers(samples, spaces)
        findings += parts[subject].findings
    if not parts:
        raise DataError(f"Dataset '{data.name}': every subject had to be left out ({findings[-1]}).")
    return _labelled(question, parts, spaces, findings)


def _labelled(
    question: Compare,
    parts: Mapping[str, Part],
    spaces: Mapping[str, Mapping[str, Features]],
    findings: Sequence[Finding],
) -> xr.Dataset:
    """What the question finds, without what its names and dimensions have only beside scores."""
    found = question.of_study(parts).isel(measure=0, drop=True).rename(of_subject="subject")
    found = found.rename({name: str(name).removeprefix("compare_") for name in found.data_vars})
    layers = list(_layers(spaces))
    coords = {name: ("layer", np.array(values)) for name, values in zip(LAYER, zip(*layers, strict=True), strict=True)}
    found = found.assign_coords(coords).transpose("subject", "layer")
    told = list(dict.fromkeys([*findings, *found.attrs.pop("findings")]))
    settings = {name: value for name, value in settings_of(question).items() if name != "measures"}
    found.attrs |= {"measure": question.measures[0], "settings": settings, "findings": list(map(vars, told))}
    for finding in told:
        warnings.warn(str(finding), DataWarning, stacklevel=3)
    return found


LAYER = ("feature_space", "layer_name", "layer_index")


def _layers(spaces: Mapping[str, Mapping[str, Features]]) -> Iterator[tuple[str, str, int]]:
    """Each layer's space, name and number, by the model's own counting where it says so."""
    for name, of_stimuli in spaces.items():
        first = next(iter(of_stimuli.values()))
        numbers = first.metadata.get("layer_index", range(len(first.layers)))
        yield from ((name, layer, int(number)) for layer, number in zip(first.layers, numbers, strict=True))
