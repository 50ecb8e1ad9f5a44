"""Maps of scores on the head: sensors of MEG and EEG, projected to the plane, each kind by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib import rc_context
from matplotlib.cm import ScalarMappable

from brainalign.report.curves import layer_called
from brainalign.report.drawing import STYLE, colour_scale
from brainalign.report.figures import MEANINGS, SIGNED, WIDTH_IN, CaptionedFigure, best_layer
from brainalign.report.means import fold_means, layer_table, mean_by
from brainalign.types import Floats, Scores

__all__ = ["topography"]

N_MAPS = 6
# With several kinds each has a row of so many.
N_MAPS_OF_A_KIND = 4
# What differs in what it measures is drawn apart; "sensor", "channel" and "meg" do not tell.
KINDS: Mapping[str, str] = {
    "mag": "magnetometers",
    "magnetometer": "magnetometers",
    "grad": "gradiometers",
    "gradiometer": "gradiometers",
    "eeg": "EEG",
    "meg": "sensors",
    "sensor": "sensors",
    "channel": "sensors",
}


@rc_context(STYLE)
def topography(scores: Scores) -> CaptionedFigure | None:
    """Draw sensor maps of the best layer at a few latencies: of its gain over the baseline, or of r without one.

    Targets of the same name are averaged over subjects, and sensors of one kind at the same place (the gradiometers
    of a pair) with each other; magnetometers, gradiometers and EEG have maps of their own, in the same colours. Places
    are projected to the plane by angle from the top of a sphere that is fitted to all of them (azimuthal
    equidistant); +y is the nose and +x the right, as in MNE, in any unit.

    Returns
    -------
    CaptionedFigure or None
        None where there is nothing to map: fewer than four places of targets of the kinds "sensor", "channel",
        "meg", "eeg", "mag", "grad", "magnetometer" or "gradiometer" with finite ``x``, ``y``, ``z``, or no defined
        score.
    """
    best, places = best_layer(scores), _sensor_places(scores)
    if best is None or places is None:
        return None
    means = fold_means(scores)
    variable = "gain" if "gain" in means else "r"
    values = means[variable].isel(layer=best, target=places.index.to_numpy())
    xy, kinds, grid = _merged(places, values)
    defined = np.isfinite(grid).all(axis=1)
    n_of_kind = pd.Series(kinds[defined]).value_counts()
    drawn = [kind for kind in dict.fromkeys(kinds) if n_of_kind.get(kind, 0) >= 4]
    if not drawn:
        return None
    mapped = defined & np.isin(kinds, drawn)
    shown = _shown_latencies(grid[mapped], N_MAPS if len(drawn) == 1 else N_MAPS_OF_A_KIND)
    titles = [_seconds(s) for s in scores["latency"].values[shown]] if "latency" in scores.dims else [""]
    of_kind = {kind: (xy[mapped & (kinds == kind)], grid[mapped & (kinds == kind)][:, shown]) for kind in drawn}
    figure = _draw_maps(of_kind, titles, variable)
    figure.caption = _caption(scores, best, variable, drawn, int((~mapped).sum()))
    return figure


def _sensor_places(scores: Scores) -> pd.DataFrame | None:
    """x, y, z and kind of the sensors, indexed by their place along ``target``; None where they are fewer than four."""
    if not {"x", "y", "z", "target_kind"} <= set(scores.coords):
        return None
    places = pd.DataFrame({axis: scores[axis].values.astype(float) for axis in "xyz"})
    places["kind"] = pd.Series(scores["target_kind"].values.astype(str)).str.lower().map(KINDS)
    has_place = np.isfinite(places[["x", "y", "z"]].to_numpy()).all(axis=1)
    places = places[places["kind"].notna().to_numpy() & has_place]
    return places if len(places[["x", "y", "z"]].drop_duplicates()) >= 4 else None


def _merged(places: pd.DataFrame, values: xr.DataArray) -> tuple[Floats, np.ndarray, Floats]:
    """Where each place is on the plane, its kind, and its values (place, latency), the mean over what is there."""
    names = values["target_name"].values.astype(str)
    grid = mean_by(values, "target_name")
    of_name = places.assign(name=names).groupby("name", sort=False)
    xyz = of_name[["x", "y", "z"]].mean().to_numpy()
    kinds = of_name["kind"].first().to_numpy(dtype=str)
    rows = grid.values.reshape(len(xyz), -1)
    parts = [(kind, *_merge_places(xyz[kinds == kind], rows[kinds == kind])) for kind in dict.fromkeys(kinds)]
    return (
        _project(np.vstack([at for _, at, _ in parts])),
        np.concatenate([np.full(len(at), kind) for kind, at, _ in parts]),
        np.vstack([of_place for _, _, of_place in parts]),
    )


def _merge_places(xyz: Floats, grid: Floats) -> tuple[Floats, Floats]:
    """Average the rows of `grid` (sensor, latency) that are at the same place."""
    # A thousandth of the helmet: closer than any two sites, further than rounding.
    size = np.ptp(xyz, axis=0).max() / 1000 or 1.0
    cells = pd.DataFrame(np.round(xyz / size))
    groups = cells.groupby([0, 1, 2], sort=False).ngroup().to_numpy()
    return pd.DataFrame(xyz).groupby(groups).mean().to_numpy(), pd.DataFrame(grid).groupby(groups).mean().to_numpy()


def _project(xyz: Floats) -> Floats:
    """Put sensors on the plane, shape (sensor, 2), within a circle of radius 1.

    Its rim is the equator of the sphere through the sensors, or where they reach below it, the lowest sensor.
    """
    # |p|^2 = 2 c.p + (R^2 - |c|^2) is linear in the centre c and the constant.
    centre = np.linalg.lstsq(np.c_[2 * xyz, np.ones(len(xyz))], (xyz**2).sum(axis=1), rcond=None)[0][:3]
    x, y, z = (xyz - centre).T
    angle = np.arctan2(np.hypot(x, y), z) / (np.pi / 2)
    around = np.arctan2(y, x)
    angle = angle / max(1.0, angle.max())
    return np.c_[angle * np.cos(around), angle * np.sin(around)]


def _shown_latencies(grid: Floats, n_maps: int) -> list[int]:
    """Up to `n_maps` evenly spread columns, of which the nearest gives way to the one with the highest mean."""
    n_latencies = grid.shape[1]
    shown = np.unique(np.linspace(0, n_latencies - 1, n_maps).round().astype(int))
    peak = int(grid.mean(axis=0).argmax())
    shown[np.abs(shown - peak).argmin()] = peak
    return shown.tolist()


def _draw_maps(of_kind: Mapping[str, tuple[Floats, Floats]], titles: Sequence[str], variable: str) -> CaptionedFigure:
    """A map per kind and column of its values, all with the same colours."""
    from mne.viz import plot_topomap  # slow to import, and needed for MEG and EEG only

    maps = [
        (kind, title, xy, row)
        for kind, (xy, grid) in of_kind.items()
        for title, row in zip(titles, grid.T, strict=True)
    ]
    n_columns = min(3, len(titles)) if len(of_kind) == 1 else len(titles)
    n_rows = -(-len(maps) // n_columns)
    width_in = {1: 3.6}.get(n_columns, WIDTH_IN if n_columns <= 3 else 1.2 * WIDTH_IN)
    figure = CaptionedFigure(figsize=(width_in, 0.3 + 1.7 * n_rows), layout="constrained")
    panels = figure.subplots(n_rows, n_columns, squeeze=False)
    norm, colours = colour_scale(np.concatenate([row for *_, row in maps]), is_signed=variable in SIGNED)
    for (kind, title, xy, row), axes in zip(maps, panels.ravel(), strict=False):
        plot_topomap(
            row,
            xy,
            axes=axes,
            show=False,
            cmap=colours,
            cnorm=norm,
            contours=0,
            sphere=(0, 0, 0, 1),
            extrapolate="head",
        )
        axes.set_title(title)
        if len(of_kind) > 1 and title == titles[0]:
            axes.set_ylabel(kind)
    for axes in panels.ravel()[len(maps) :]:
        axes.set_axis_off()
    figure.colorbar(ScalarMappable(norm, colours), ax=panels, label=MEANINGS[variable], shrink=0.7)
    return figure


def _seconds(time_s: float) -> str:
    return f"{time_s:z.2f} s".replace("-", "\N{MINUS SIGN}")


def _caption(scores: Scores, best: int, variable: str, kinds: Sequence[str], n_left_out: int) -> str:
    layer = layer_table(scores).to_dict("records")[best]
    n_subjects = len(np.unique(scores["subject"].values.astype(str)))
    drawn = "the gain in r over the baseline" if variable == "gain" else "r"
    parts = [
        f"Sensor maps of {drawn} of {layer_called(layer['feature_space'], layer['layer_name'])}, the layer with the "
        f"highest mean r, selected on these same scores; mean over subjects (n = {n_subjects}). Seen from above, nose "
        "up, the outline is schematic."
    ]
    if "latency" in scores.dims:
        parts.append(f"Times are latencies from word onset, among them that of the highest mean {variable}.")
    if len(kinds) > 1:
        parts.append(f"Rows: {', '.join(kinds)}.")
    if "gradiometers" in kinds:
        parts.append("The gradiometers at one place are averaged.")
    if variable in SIGNED:
        parts.append("Colours are centred at zero.")
    if n_left_out:
        parts.append(f"{n_left_out} places without a defined score are left out.")
    return " ".join(parts)
