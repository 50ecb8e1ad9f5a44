"""Tables of channels and electrodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from brainalign.errors import DataError
from brainalign.reading.channel_tables import read_channels, read_electrodes

REAL = "datasets/real/ds005574_podcast/sub-01/ieeg/sub-01_"


def test_a_real_table_tells_kinds_and_what_is_bad_and_why(shared: Path) -> None:
    channels = read_channels(shared / f"{REAL}task-podcast_channels.tsv")
    kinds = list(channels.kinds.values())
    assert {kind: kinds.count(kind) for kind in sorted(set(kinds))} == {"ecg": 2, "ecog": 110, "misc": 12}
    assert (channels.bads["G1"], len(channels.bads)) == ("no localization", 11)
    [finding] = channels.findings("subject 01", "they are left out")
    assert finding.code == "bad-channels"
    assert "11 of 124 channels bad (7 no localization, 4 noisy psd); they are left out." in finding.message


def test_places_are_in_metres_whatever_the_table_has(shared: Path, tmp_path: Path) -> None:
    real = shared / f"{REAL}space-MNI152NLin2009aSym_electrodes.tsv"
    places = read_electrodes(real, "mm")
    assert places["name"].tolist()[:2] == ["G2", "G3"]
    np.testing.assert_allclose(places["x"][0], 0.06)
    for unit, scale in (("cm", 100), ("m", 1)):
        places.assign(**{axis: places[axis] * scale for axis in "xyz"}).to_csv(
            tmp_path / "e.tsv", sep="\t", index=False
        )
        np.testing.assert_allclose(read_electrodes(tmp_path / "e.tsv", unit)["x"][0], 0.06)


@pytest.mark.parametrize("unit", ["m", "cm"])
def test_places_farther_out_than_any_head_are_of_another_unit(shared: Path, unit: str) -> None:
    with pytest.raises(DataError, match=f"are they in {unit}"):
        read_electrodes(shared / f"{REAL}space-MNI152NLin2009aSym_electrodes.tsv", unit)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("name\tstatus\nA\tgood\n", "no column 'type'"),
        ("name\ttype\tstatus\nA\tEEG\tgood\nB\tEEG\tdubious\n", "line 3: the status is 'dubious'"),
    ],
)
def test_tables_of_channels_that_cannot_be_are_errors_that_name_the_line(
    tmp_path: Path, table: str, message: str
) -> None:
    (tmp_path / "channels.tsv").write_text(table)
    with pytest.raises(DataError, match=message):
        read_channels(tmp_path / "channels.tsv")


@pytest.mark.parametrize(("unit", "message"), [("mm", "line 2: x 'far'"), ("n/a", "places are in 'n/a'")])
def test_places_that_cannot_be_are_errors(tmp_path: Path, unit: str, message: str) -> None:
    (tmp_path / "electrodes.tsv").write_text("name\tx\ty\tz\nA\tfar\t0\t0\n")
    with pytest.raises(DataError, match=message):
        read_electrodes(tmp_path / "electrodes.tsv", unit)


def test_without_a_status_no_channel_is_bad(tmp_path: Path) -> None:
    (tmp_path / "channels.tsv").write_text("name\ttype\nA\tEEG\n")
    channels = read_channels(tmp_path / "channels.tsv")
    assert channels.bads == {}
    assert channels.findings("run 1", "nothing is done") == []
