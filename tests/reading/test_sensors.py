"""Sensors: what is planted in files of real formats comes back, at its time, at its place, with every step told."""

from __future__ import annotations

import pickle
import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pandas as pd
import pytest
from child_processes import answer_of
from mne._fiff.constants import FIFF
from recordings import helmet, sine, write_brainvision, write_edf, write_fif, write_kit, write_kit_markers

from brainalign.errors import DataError, RecipeError
from brainalign.reading.recording_files import open_recording
from brainalign.reading.sensors import Sensors, open_sensors
from brainalign.reading.signals import Signals

RATE_HZ = 500
N_TIMES = 20 * RATE_HZ
EEG_NAMES = ["Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2", "F7", "F8", "T7", "T8", "P7", "P8", "Fz",
             "Cz", "Pz", "Oz"]  # fmt: skip
FREQS_HZ = (1.0, 3.0, 7.0, 11.0)


def planted(size: float, n_channels: int = 4, rate_hz: float = RATE_HZ, n_times: int = N_TIMES) -> np.ndarray:
    """Each channel a sine of its own, with a phase that shows a shift."""
    return size * np.stack([sine(FREQS_HZ[i % 4], rate_hz, n_times, phase=0.3 + i) for i in range(n_channels)])


def at_rows(size: float, times_s: np.ndarray, n_channels: int = 4) -> np.ndarray:
    return size * np.stack([np.sin(2 * np.pi * FREQS_HZ[i % 4] * times_s + 0.3 + i) for i in range(n_channels)], axis=1)


def fif(folder: Path, values: np.ndarray, info: object = None, **settings: Any) -> Callable[[], Any]:
    return partial(open_recording, write_fif(folder / "run_meg.fif", values, RATE_HZ, info, **settings))


def eeg_info(names: list[str] = EEG_NAMES, montage: str | None = "standard_1020") -> Any:
    info = mne.create_info(names, RATE_HZ, "eeg")
    return info if montage is None else info.set_montage(montage, verbose="error")


def codes(sensors: Sensors) -> list[str]:
    return [finding.code for finding in sensors.findings]


def smooth_field(info: Any, seed: int = 0) -> np.ndarray:
    """What a source in the head gives: one signal, weighed by each channel, so that neighbours tell of each other."""
    rng = np.random.default_rng(seed)
    sphere = mne.make_sphere_model(r0=(0.0, 0.0, 0.0), head_radius=None, verbose="error")
    places = mne.setup_volume_source_space(
        pos={"rr": np.array([[0.02, 0.03, 0.05]]), "nn": np.array([[1.0, 0.0, 0.0]])}, verbose="error"
    )
    forward = mne.make_forward_solution(info, None, places, sphere, eeg=False, verbose="error")
    return forward["sol"]["data"][:, :1] @ rng.standard_normal((1, N_TIMES)) * 1e-8


def with_compensation(info: Any) -> Any:
    """A CTF helmet with three reference sensors above it, and what the third grade takes of each from each channel."""
    sensors = [info["ch_names"][i] for i in mne.pick_types(info, meg=True)]
    references = mne.pick_info(info, [0, 1, 2])
    info = mne.pick_info(info, mne.pick_types(info, meg=True))
    for i, channel in enumerate(references["chs"]):
        name = f"BG{i + 1}-2908"
        reference = {
            **channel,
            "ch_name": name,
            "kind": FIFF.FIFFV_REF_MEG_CH,
            "coil_type": FIFF.FIFFV_COIL_CTF_REF_MAG,
        }
        reference["loc"] = channel["loc"] + np.r_[0.0, 0.0, 0.3, np.zeros(9)]
        info["chs"].append(reference)
    info._update_redundant()
    weights = np.random.default_rng(5).standard_normal((len(sensors), 3))
    names = [channel["ch_name"] for channel in info["chs"][-3:]]
    matrix = {"nrow": len(sensors), "ncol": 3, "row_names": sensors, "col_names": names, "data": weights}
    one = {"ctfkind": 0x47334252, "kind": 3, "coeff_class": 0, "save_calibrated": True, "data": matrix}
    with info._unlock():
        info["comps"] = [{**one, "rowcals": np.ones(len(sensors)), "colcals": np.ones(3)}]
    return info


class TestFormats:
    """The same four sines from each kind of file."""

    def check(self, sensors: Sensors, size: float, names: list[str], *, within: float = 5e-4) -> None:
        assert sensors.targets["name"].tolist() == names
        assert sensors.clock.start_s == 0.0
        assert sensors.duration_s == pytest.approx(20.0)
        response = sensors.read()
        assert response.dtype == np.float32
        times_s = sensors.clock.times(len(response))
        assert times_s[-1] == pytest.approx(19.99)
        # The ends are told by half of the signal only.
        np.testing.assert_allclose(response[50:-50], at_rows(size, times_s)[50:-50], atol=within * size)
        assert sensors.steps[:2] == ("low-pass 40 Hz against aliasing", "resampled from 500 to 100 Hz")

    @pytest.mark.parametrize("first_s", [0.0, 7.3])
    def test_fif_whose_first_sample_is_not_the_first_of_the_acquisition(self, tmp_path: Path, first_s: float) -> None:
        sensors = open_sensors(fif(tmp_path, planted(1e-12), first_s=first_s), Signals(), "meg", "run")
        self.check(sensors, 1e-12, ["0", "1", "2", "3"])

    def test_fif_in_parts(self, tmp_path: Path) -> None:
        values = planted(1e-12, 200)
        write_fif(tmp_path / "run_meg.fif", values, RATE_HZ, split="4MB")
        parts = sorted(tmp_path.glob("*split*"))
        assert len(parts) > 1
        whole = open_sensors(partial(open_recording, parts[0]), Signals(), "meg", "run").read()
        np.testing.assert_allclose(whole[50:-50], at_rows(1e-12, np.arange(2000) / 100, 200)[50:-50], atol=5e-16)
        parts[-1].unlink()
        with pytest.raises(DataError, match=r"split-01_meg\.fif: one of several parts") as error:
            open_recording(parts[0])
        assert "into one folder" in str(error.value)

    def test_brainvision(self, tmp_path: Path) -> None:
        path = write_brainvision(tmp_path / "run.vhdr", planted(1e-5), RATE_HZ, EEG_NAMES[:4], [("Word", "a", 700)])
        assert open_recording(path).annotations.onset[-1] == pytest.approx(1.4)
        self.check(open_sensors(partial(open_recording, path), Signals(), "eeg", "run"), 1e-5, EEG_NAMES[:4])

    def test_edf(self, tmp_path: Path) -> None:
        path = write_edf(tmp_path / "run.edf", planted(1e-5), RATE_HZ, EEG_NAMES[:4], 2e-5)
        self.check(open_sensors(partial(open_recording, path), Signals(), "eeg", "run"), 1e-5, EEG_NAMES[:4])

    def test_kit(self, tmp_path: Path) -> None:
        path = write_kit(tmp_path / "run.con", planted(1e-12), RATE_HZ)
        sensors = open_sensors(partial(open_recording, path), Signals(), "meg", "run")
        self.check(sensors, 1e-12, [f"MEG {i:03d}" for i in range(1, 5)], within=1e-3)
        np.testing.assert_allclose(np.linalg.norm(sensors.targets[["x", "y", "z"]], axis=1), 0.12)

    def test_channels_of_other_kinds_and_names(self, tmp_path: Path) -> None:
        path = write_edf(tmp_path / "run.edf", planted(1e-5, 6), RATE_HZ, ["A", "B", "C", "D", "E", "F"], 2e-5)
        kinds = {"1": "ecog", "B": "ecog", "C": "seeg", "D": "seeg", "E": "misc", "absent": "ecog"}
        opened = partial(open_recording, path, kinds=kinds, renames={"A": "1", "gone": "2"})
        sensors = open_sensors(opened, Signals(), "ecog", "run")
        self.check(sensors, 1e-5, ["1", "B", "C", "D"])
        assert sensors.targets["kind"].tolist() == ["ecog", "ecog", "seeg", "seeg"]

    @pytest.mark.parametrize("suffix", ["txt", "pos"])
    def test_the_real_kit_recording(self, shared: Path, tmp_path: Path, suffix: str) -> None:
        folder = shared / "datasets/real/bids_formats/kit/tests/data"
        points = [tmp_path / f"{name}.{suffix}" for name in ("elp", "hsp")]
        for point in points:
            point.write_bytes((folder / f"test_{point.stem}.txt").read_bytes())
        opened = partial(
            open_recording, folder / "test.sqd", markers=(folder / "test_mrk.sqd",), digitized=points[0],
            head_shape=points[1],
        )  # fmt: skip
        ours = mne.io.read_raw_kit(
            folder / "test.sqd", folder / "test_mrk.sqd", folder / "test_elp.txt", folder / "test_hsp.txt",
            verbose="error",
        )  # fmt: skip
        np.testing.assert_allclose(opened().info["dev_head_t"]["trans"], ours.info["dev_head_t"]["trans"], atol=1e-9)
        sensors = open_sensors(opened, Signals(rate_hz=None), "meg", "run")
        np.testing.assert_array_equal(sensors.read(), ours.get_data("mag").T.astype(np.float32))
        assert len(sensors.targets) == 157
        assert codes(open_sensors(opened, Signals(rate_hz=None, noise=("reference_channels",)), "meg", "run")) == codes(
            sensors
        )

    def test_the_real_brainvision_recording(self, shared: Path) -> None:
        path = shared / "datasets/real/bids_formats/brainvision/tests/data/test.vhdr"
        sensors = open_sensors(partial(open_recording, path), Signals(rate_hz=None), "eeg", "run")
        raw = mne.io.read_raw_brainvision(path, verbose="error")
        np.testing.assert_array_equal(sensors.read(), raw.get_data("eeg").T.astype(np.float32))
        assert sensors.targets[["x", "y", "z"]].isna().all(axis=None)
        assert sensors.space == {"kind": "sensors", "unit": "m", "frame": "unknown"}

    def test_kit_markers_before_and_after_are_averaged(self, shared: Path, tmp_path: Path) -> None:
        folder = shared / "datasets/real/bids_formats/kit/tests/data"
        points = mne.io.kit.read_mrk(folder / "test_mrk.sqd")
        two = [write_kit_markers(tmp_path / f"{i}.mrk", points + shift) for i, shift in enumerate((-0.001, 0.001))]
        point_files = {"digitized": folder / "test_elp.txt", "head_shape": folder / "test_hsp.txt"}
        of_two, of_one = (
            open_recording(folder / "test.sqd", markers=marks, **point_files).info["dev_head_t"]["trans"]
            for marks in (two, [folder / "test_mrk.sqd"])
        )
        np.testing.assert_allclose(of_two, of_one, atol=1e-9)


class TestTime:
    @pytest.mark.parametrize("rate_hz", [500, 512, 600.614990234375, 1000, 1200, 2048])
    def test_a_wave_keeps_its_moment_within_a_millisecond(self, tmp_path: Path, rate_hz: float) -> None:
        n_times = int(10 * rate_hz)
        moment_s = 4.2137
        wave = np.exp(-0.5 * ((np.arange(n_times) / rate_hz - moment_s) / 0.03) ** 2)[None] * 1e-12
        path = write_fif(tmp_path / "run_meg.fif", wave, rate_hz, first_s=3.0)
        settings = Signals(band_hz=(None, 30.0), notch_hz=(40.0,))
        sensors = open_sensors(partial(open_recording, path), settings, "meg", "run")
        response = sensors.read()[:, 0]
        times_s = sensors.clock.times(len(response))
        near = np.abs(times_s - moment_s) < 0.2
        assert abs(np.sum(times_s[near] * response[near]) / np.sum(response[near]) - moment_s) < 1e-3

    @pytest.mark.parametrize(
        "settings",
        [
            Signals(),
            Signals(rate_hz=None, band_hz=(0.5, 40.0)),
            Signals(rate_hz=120.0, band_hz=(0.5, 40.0), notch_hz=(50.0,)),
            Signals(band_hz=(1.0, None), notch_hz=(16.7, 50.0), noise=("reference_channels",)),
        ],
        ids=lambda settings: " ".join(map(str, (settings.rate_hz, settings.band_hz, settings.noise))),
    )
    @pytest.mark.parametrize("span_s", [(None, None), (0.0, 0.5), (3.217, 9.0), (19.0, None), (12.0, 99.0)], ids=str)
    def test_a_crop_is_the_same_rows_of_the_whole(
        self, tmp_path: Path, settings: Signals, span_s: tuple[float | None, float | None]
    ) -> None:
        rng = np.random.default_rng(0)
        values = rng.standard_normal((5, N_TIMES)) * 1e-12 + 1e-11
        path = write_kit(tmp_path / "run.con", values, RATE_HZ, references_t=rng.standard_normal((3, N_TIMES)) * 1e-11)
        sensors = open_sensors(partial(open_recording, path), settings, "meg", "run")
        whole, crop = sensors.read(), sensors.read(*span_s)
        times_s = sensors.clock.times(len(whole))
        start_s, stop_s = span_s[0] or 0.0, span_s[1] or np.inf
        rows = (times_s >= start_s - 1e-9) & (times_s < stop_s - 1e-9)
        np.testing.assert_allclose(crop, whole[rows], rtol=0, atol=1e-6 * np.abs(whole).max())
        assert sensors.cropped_clock(span_s[0]).start_s == pytest.approx(times_s[rows][0])

    @pytest.mark.parametrize("span_s", [(30.0, None), (5.0, 5.0), (-3.0, -1.0)])
    def test_nothing_between_is_said(self, tmp_path: Path, span_s: tuple[float, float | None]) -> None:
        sensors = open_sensors(fif(tmp_path, planted(1e-12)), Signals(), "meg", "run 7")
        with pytest.raises(DataError, match=r"run 7: it lasts 20 s; nothing lies between"):
            sensors.read(*span_s)

    def test_rows_before_the_recording_are_not_made_up(self, tmp_path: Path) -> None:
        sensors = open_sensors(fif(tmp_path, planted(1e-12)), Signals(), "meg", "run")
        assert sensors.read(-2.0, 1.0).shape == (100, 4)
        assert sensors.cropped_clock(-2.0).start_s == 0.0

    def test_a_recording_slower_than_asked_keeps_its_rate_and_says_so(self, tmp_path: Path) -> None:
        sensors = open_sensors(fif(tmp_path, planted(1e-12)), Signals(rate_hz=1000.0), "meg", "run")
        assert sensors.clock.step_s == 1 / RATE_HZ
        assert (codes(sensors), sensors.steps) == (["low-rate"], ())
        np.testing.assert_array_equal(sensors.read(), planted(1e-12).T.astype(np.float32))


class TestFilters:
    def test_filters_at_the_low_rate_are_mnes_at_the_high_one(self, tmp_path: Path) -> None:
        values = np.random.default_rng(0).standard_normal((3, N_TIMES)) * 1e-12
        opened = fif(tmp_path, values)
        theirs = opened().load_data().filter(1.0, 20.0, verbose="error").notch_filter(15.0, verbose="error")
        sensors = open_sensors(opened, Signals(band_hz=(1.0, 20.0), notch_hz=(15.0,)), "meg", "run")
        assert sensors.steps[2:] == ("notch 15 Hz", "band-pass 1 to 20 Hz")
        expected = theirs.get_data()[:, ::5].T
        assert np.abs(sensors.read() - expected)[400:-400].max() < 0.01 * expected.std()

    def test_the_mains_go_where_the_rate_takes_them_or_the_notch(self, tmp_path: Path) -> None:
        values = np.stack([sine(50.0, RATE_HZ, N_TIMES), sine(16.7, RATE_HZ, N_TIMES), sine(5.0, RATE_HZ, N_TIMES)])
        sensors = open_sensors(fif(tmp_path, values * 1e-12), Signals(notch_hz=(16.7, 50.0, 100.0)), "meg", "run")
        assert sensors.steps[-1] == "notch 16.7 Hz"
        mains, railway, brain = np.abs(sensors.read()[500:-500]).max(axis=0)
        assert mains < 2e-16
        assert railway < 2e-14
        assert brain == pytest.approx(1e-12, rel=1e-3)

    def test_a_notch_at_the_very_end_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(RecipeError, match="a notch at 49\\.8 Hz"):
            open_sensors(fif(tmp_path, planted(1e-12)), Signals(notch_hz=(49.8,)), "meg", "run")

    def test_a_band_beyond_a_slow_recording_is_refused(self, tmp_path: Path) -> None:
        settings = Signals(rate_hz=None, band_hz=(None, 250.0))
        with pytest.raises(RecipeError, match="show less than 250 Hz"):
            open_sensors(fif(tmp_path, planted(1e-12)), settings, "meg", "run")


class TestPlaces:
    @pytest.mark.parametrize(("system", "n_sensors"), [("neuromag", 306), ("ctf275", 274)])
    def test_sensors_are_where_mne_has_them(self, tmp_path: Path, system: str, n_sensors: int) -> None:
        info = helmet(system)
        opened = fif(tmp_path, np.zeros((info["nchan"], 1000)), info)
        sensors = open_sensors(opened, Signals(), "meg", "run")
        assert len(sensors.targets) == n_sensors
        of_name = {channel["ch_name"]: channel["loc"][:3] for channel in opened().info["chs"]}
        expected = np.array([of_name[name] for name in sensors.targets["name"]])
        np.testing.assert_array_equal(sensors.targets[["x", "y", "z"]], expected)
        assert sensors.space == {"kind": "sensors", "unit": "m", "frame": "device"}

    def test_electrodes_of_a_standard_montage(self, tmp_path: Path) -> None:
        names = ["A1", "B1", "EXG1"]
        path = write_edf(tmp_path / "run.edf", planted(1e-5, 3), RATE_HZ, names, 2e-5)
        opened = partial(open_recording, path, montage="biosemi128")
        sensors = open_sensors(opened, Signals(), "eeg", "run")
        theirs = mne.create_info(["A1", "B1"], RATE_HZ, "eeg").set_montage("biosemi128", verbose="error")
        targets = sensors.targets.set_index("name")[["x", "y", "z"]]
        for channel in theirs["chs"]:
            np.testing.assert_allclose(targets.loc[channel["ch_name"]], channel["loc"][:3])
        assert targets.loc["EXG1"].isna().all()
        assert sensors.space["frame"] == "head"

    def test_electrodes_of_a_table_in_a_standard_brain(self, tmp_path: Path) -> None:
        info = mne.create_info(["G1", "G2", "D1"], RATE_HZ, ["ecog", "ecog", "seeg"])
        table = pd.DataFrame(
            {"name": ["G2", "G1", "other", "D1"], "x": [0.01, 0.02, 0.0, np.nan], "y": 0.03, "z": 0.05}
        )
        opened = fif(tmp_path, planted(1e-5, 3), info)
        sensors = open_sensors(opened, Signals(), "ecog", "run", positions=table, frame="mni")
        assert sensors.space == {"kind": "electrodes", "unit": "m", "frame": "mni"}
        np.testing.assert_allclose(sensors.targets["x"], [0.02, 0.01, np.nan])
        assert sensors.read().shape == (2000, 3)

    @pytest.mark.parametrize(
        ("picks", "n_targets"), [(("mag",), 102), (("grad",), 204), (("meg",), 306), (("MEG 0113", "mag"), 103)]
    )
    def test_picks_are_kinds_or_names(self, tmp_path: Path, picks: tuple[str, ...], n_targets: int) -> None:
        opened = fif(tmp_path, np.zeros((306, 1000)), helmet())
        sensors = open_sensors(opened, Signals(picks=picks), "meg", "run")
        assert len(sensors.targets) == sensors.read().shape[1] == n_targets

    def test_a_wrong_pick_is_told_with_the_nearest(self, tmp_path: Path) -> None:
        opened = fif(tmp_path, np.zeros((306, 1000)), helmet())
        with pytest.raises(RecipeError, match="Did you mean 'MEG 0113'"):
            open_sensors(opened, Signals(picks=("MEG0113",)), "meg", "run")
        with pytest.raises(DataError, match="no channels of kind eeg; it has 204 grad, 102 mag"):
            open_sensors(opened, Signals(), "eeg", "run")


class TestBadChannels:
    @pytest.mark.slow
    def test_meg_is_interpolated_from_its_neighbours(self, tmp_path: Path) -> None:
        info = helmet(every=2)
        values = smooth_field(info)
        truth = values[30].copy()
        values[30] = np.random.default_rng(1).standard_normal(N_TIMES) * 1e-9
        opened = fif(tmp_path, values, info)
        name = info["ch_names"][30]
        sensors = open_sensors(opened, Signals(), "meg", "run", bad_channels=[name])
        assert len(sensors.targets) == 153
        assert sensors.steps[-1] == f"bad channels interpolated: {name}"
        assert [finding.message for finding in sensors.findings] == [f"1 bad channels interpolated: {name}."]
        found = sensors.read()[:, 30]
        clean = open_sensors(
            fif(tmp_path, np.vstack([values[:30], truth[None], values[31:]]), info), Signals(), "meg", ""
        )
        assert np.corrcoef(found, clean.read()[:, 30])[0, 1] > 0.99
        only = open_sensors(fif(tmp_path, values, info), Signals(picks=(name,)), "meg", "run", bad_channels=[name])
        np.testing.assert_allclose(only.read()[:, 0], found, rtol=1e-5, atol=1e-5 * np.abs(found).max())

    def test_eeg_is_interpolated_as_mne_does_it(self, tmp_path: Path) -> None:
        info = eeg_info()
        values = np.random.default_rng(0).standard_normal((20, N_TIMES)) * 1e-5
        opened = fif(tmp_path, values, info)
        theirs = opened().load_data()
        theirs.info["bads"] = ["Cz"]
        theirs.interpolate_bads(verbose="error")
        sensors = open_sensors(opened, Signals(rate_hz=None, more_bad_channels=("Cz",)), "eeg", "run")
        np.testing.assert_allclose(sensors.read(), theirs.get_data().T, rtol=1e-5, atol=1e-11)

    @pytest.mark.parametrize("kind", ["eeg", "ecog", "seeg"])
    def test_what_has_no_neighbours_is_left_out(self, tmp_path: Path, kind: str) -> None:
        info = mne.create_info(["a", "b", "c", "d"], RATE_HZ, kind)
        info["bads"] = ["b"]
        modality: Any = "eeg" if kind == "eeg" else "ecog"
        opened = fif(tmp_path, planted(1e-5), info)
        sensors = open_sensors(opened, Signals(), modality, "run", bad_channels=["c", "nowhere"])
        assert sensors.targets["name"].tolist() == ["a", "d"]
        assert codes(sensors) == ["bad-channels", "unknown-bad-channels"]
        assert "2 bad channels left out: b, c." in sensors.findings[0].message
        np.testing.assert_allclose(
            sensors.read()[50:-50], at_rows(1e-5, np.arange(2000) / 100)[50:-50, [0, 3]], atol=5e-9
        )
        with pytest.raises(RecipeError, match="cannot be interpolated"):
            open_sensors(opened, Signals(bad_channels="interpolate"), modality, "run")

    def test_they_may_be_kept_and_it_is_told(self, tmp_path: Path) -> None:
        sensors = open_sensors(
            fif(tmp_path, planted(1e-12)), Signals(bad_channels="keep"), "meg", "run", bad_channels=["2"]
        )
        assert len(sensors.targets) == 4
        assert sensors.findings[0].message == "1 bad channels kept: 2."

    def test_a_recording_of_bad_channels_only(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="all of its channels are bad"):
            open_sensors(
                fif(tmp_path, planted(1e-12)), Signals(bad_channels="leave_out"), "meg", "", bad_channels=list("0123")
            )

    def test_an_unknown_one_in_the_recipe_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(RecipeError, match="more_bad_channels names '9'"):
            open_sensors(fif(tmp_path, planted(1e-12)), Signals(more_bad_channels=("9",)), "meg", "run")


class TestReference:
    def test_the_average_is_that_of_the_good_channels(self, tmp_path: Path) -> None:
        values = np.random.default_rng(0).standard_normal((4, N_TIMES)) * 1e-5
        opened = fif(tmp_path, values, eeg_info(EEG_NAMES[:4], None))
        settings = Signals(rate_hz=None, reference="average", picks=("F3", "F4"))
        sensors = open_sensors(opened, settings, "eeg", "run", bad_channels=["Fp1"])
        expected = values[2:] - values[1:].mean(axis=0)
        np.testing.assert_allclose(sensors.read(), expected.T, rtol=1e-4, atol=1e-11)
        assert sensors.steps == ("referenced to average",)

    def test_named_channels_of_another_kind(self, tmp_path: Path) -> None:
        info = mne.create_info(["a", "b", "M1", "M2"], RATE_HZ, ["ecog", "seeg", "misc", "misc"])
        values = np.random.default_rng(0).standard_normal((4, N_TIMES)) * 1e-5
        settings = Signals(rate_hz=None, reference=("M1", "M2"))
        sensors = open_sensors(fif(tmp_path, values, info), settings, "ecog", "run")
        np.testing.assert_allclose(sensors.read(), (values[:2] - values[2:].mean(axis=0)).T, rtol=1e-4, atol=1e-11)
        assert sensors.steps == ("referenced to M1, M2",)
        with pytest.raises(RecipeError, match="reference names 'M3'"):
            open_sensors(fif(tmp_path, values, info), Signals(reference=("M3",)), "ecog", "run")

    def test_meg_has_none(self, tmp_path: Path) -> None:
        with pytest.raises(RecipeError, match="MEG has no reference"):
            open_sensors(fif(tmp_path, planted(1e-12)), Signals(reference="average"), "meg", "run")


class TestNoise:
    def test_reference_sensors_explain_the_noise_and_leave_the_brain(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        noise = mne.filter.filter_data(rng.standard_normal((3, N_TIMES)), RATE_HZ, None, 30.0, verbose="error") * 1e-11
        brain = planted(1e-13)
        values = brain + rng.standard_normal((4, 3)) @ noise
        path = write_kit(tmp_path / "run.con", values, RATE_HZ, references_t=noise + 5e-11)
        settings = Signals(noise=("reference_channels",))
        sensors = open_sensors(partial(open_recording, path), settings, "meg", "run")
        assert sensors.steps[-1] == "reference channels regressed out (3)"
        expected = at_rows(1e-13, np.arange(2000) / 100)
        for found, truth in zip(sensors.read()[50:-50].T, expected[50:-50].T, strict=True):
            assert np.corrcoef(found, truth)[0, 1] > 0.99

    @pytest.mark.parametrize("third", [1.0, 0.0], ids=["all at work", "one dead"])
    def test_it_is_least_squares(self, tmp_path: Path, third: float) -> None:
        rng = np.random.default_rng(0)
        values, references = rng.standard_normal((4, N_TIMES)) * 1e-12, rng.standard_normal((3, N_TIMES)) * 1e-12
        references[2] *= third
        path = write_kit(tmp_path / "run.con", values + 0.3 * references[1] + 1e-11, RATE_HZ, references_t=references)
        opened = partial(open_recording, path)
        given = open_sensors(opened, Signals(rate_hz=None, noise=("reference_channels",)), "meg", "run").read()
        y, x = opened().get_data("mag").T, opened().get_data("ref_meg").T * 1e12
        x = x - x.mean(axis=0)
        weights = np.linalg.lstsq(x, y - y.mean(axis=0), rcond=None)[0]
        np.testing.assert_allclose(given, y - x @ weights, rtol=1e-5, atol=1e-17)

    def test_gradient_compensation_is_mnes(self, tmp_path: Path) -> None:
        info = with_compensation(helmet("ctf275", every=20))
        values = np.random.default_rng(0).standard_normal((info["nchan"], N_TIMES)) * 1e-12
        opened = fif(tmp_path, values, info)
        theirs = opened().load_data().apply_gradient_compensation(3, verbose="error")
        assert not np.allclose(theirs.get_data("mag"), opened().get_data("mag"), rtol=0.1, atol=0)
        settings = Signals(rate_hz=None, noise=("gradient_compensation",))
        sensors = open_sensors(opened, settings, "meg", "run")
        assert sensors.steps == ("gradient compensation of grade 3",)
        np.testing.assert_allclose(sensors.read(), theirs.get_data("mag").T, rtol=1e-5, atol=1e-18)

    def test_what_was_compensated_at_the_scanner_can_be_interpolated(self, tmp_path: Path) -> None:
        info = with_compensation(helmet("ctf275", every=20))
        values = np.random.default_rng(0).standard_normal((info["nchan"], 1000)) * 1e-12
        raw = mne.io.RawArray(values, info, verbose="error")
        raw.apply_gradient_compensation(3, verbose="error").save(tmp_path / "run_meg.fif", verbose="error")
        opened = partial(open_recording, tmp_path / "run_meg.fif")
        name = info["ch_names"][2]
        response = open_sensors(opened, Signals(rate_hz=None), "meg", "run", bad_channels=[name]).read()
        expected = raw.get_data("mag").T
        good = np.arange(14) != 2
        np.testing.assert_allclose(response[:, good], expected[:, good], rtol=1e-5)
        assert 0.01 < response[:, 2].std() / expected[:, good].std() < 100

    def test_projections_of_the_file(self, tmp_path: Path) -> None:
        info = helmet()
        rng = np.random.default_rng(0)
        values = rng.standard_normal((306, N_TIMES)) * 1e-12
        raw = mne.io.RawArray(values, info, verbose="error")
        raw.add_proj(mne.compute_proj_raw(raw, n_grad=1, n_mag=2, n_eeg=0, verbose="error"), verbose="error")
        raw.save(tmp_path / "run_meg.fif", verbose="error")
        opened = partial(open_recording, tmp_path / "run_meg.fif")
        sensors = open_sensors(opened, Signals(rate_hz=None, noise=("projections",), picks=("mag",)), "meg", "run")
        assert sensors.steps == ("projections applied (3)",)
        expected = raw.copy().apply_proj(verbose="error").get_data("mag").T
        np.testing.assert_allclose(sensors.read(), expected, rtol=1e-4, atol=1e-17)

    @pytest.mark.slow
    def test_maxwell_filter_at_the_low_rate_is_mnes_at_the_high_one(self, tmp_path: Path) -> None:
        info = helmet()
        values = smooth_field(info) + np.random.default_rng(2).standard_normal((306, N_TIMES)) * 1e-13
        opened = fif(tmp_path, values, info)
        name = info["ch_names"][7]
        settings = Signals(noise=("maxwell",))
        sensors = open_sensors(opened, settings, "meg", "run", bad_channels=[name])
        raw = opened().load_data()
        raw.info["bads"] = [name]
        theirs = mne.preprocessing.maxwell_filter(raw, origin=(0.0, 0.013, -0.006), coord_frame="meg", verbose="error")
        path = tmp_path / "sss_meg.fif"
        theirs.save(path, fmt="double", verbose="error")
        expected = open_sensors(partial(open_recording, path), Signals(), "meg", "run").read()
        np.testing.assert_allclose(sensors.read(), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
        assert sensors.steps[-1] == "signal space separation (Maxwell filter)"

    @pytest.mark.parametrize(
        ("step", "message"),
        [
            ("projections", "brings no projections"),
            ("reference_channels", "no reference sensors"),
            ("gradient_compensation", "no compensation of grade 3"),
            ("maxwell", "magnetometers and gradiometers"),
        ],
    )
    def test_what_a_recording_lacks_is_told_before_it_is_read(self, tmp_path: Path, step: Any, message: str) -> None:
        opened = fif(tmp_path, planted(1e-12))
        with pytest.raises(RecipeError, match=message):
            open_sensors(opened, Signals(noise=(step,)), "meg", "run")


class TestFaults:
    def test_stretches_marked_as_bad_are_told_and_kept(self, tmp_path: Path) -> None:
        raw = mne.io.RawArray(planted(1e-12), mne.create_info(4, RATE_HZ, "mag"), 3 * RATE_HZ, verbose="error")
        raw.set_meas_date(1_600_000_000)
        marks = mne.Annotations([1.0, 2.0, 9.0, 12.0], [2.0, 2.5, 1.0, 3.0], ["BAD_ACQ_SKIP", "bad", "BAD x", "word"])
        raw.set_annotations(marks)
        raw.save(tmp_path / "run_meg.fif", verbose="error")
        sensors = open_sensors(partial(open_recording, tmp_path / "run_meg.fif"), Signals(), "meg", "run")
        [finding] = sensors.findings
        assert finding.code == "bad-segments"
        assert finding.message.startswith("2 stretches, 4.5 s in all")
        assert np.isfinite(sensors.read()).all()

    def test_a_fif_file_that_was_cut_off(self, tmp_path: Path) -> None:
        path = write_fif(tmp_path / "run_meg.fif", planted(1e-12), RATE_HZ)
        content = path.read_bytes()
        for share in (0.01, 0.5, 0.99):
            path.write_bytes(content[: int(share * len(content))])
            with pytest.raises(DataError, match=r"run_meg\.fif"):
                open_sensors(partial(open_recording, path), Signals(), "meg", str(path)).read()

    def test_a_kit_file_that_was_cut_off(self, tmp_path: Path) -> None:
        path = write_kit(tmp_path / "run.con", planted(1e-12), RATE_HZ)
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(DataError, match=r"run\.con: \d+ bytes of \d+; the file was cut off"):
            open_recording(path)

    def test_an_edf_file_that_was_cut_off_is_told(self, tmp_path: Path) -> None:
        path = write_edf(tmp_path / "run.edf", planted(1e-5), RATE_HZ, EEG_NAMES[:4], 2e-5)
        path.write_bytes(path.read_bytes()[:-9000])
        sensors = open_sensors(partial(open_recording, path), Signals(), "eeg", "run")
        assert sensors.duration_s < 20
        assert "reader" in codes(sensors)

    @pytest.mark.parametrize("suffix", [".fif", ".con", ".vhdr", ".edf", ".bdf", ".set"])
    def test_a_file_of_something_else(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"run{suffix}"
        path.write_bytes(b"This is the text of another file, and not a recording. " * 40)
        with pytest.raises(DataError, match=f"run{suffix}"):
            open_recording(path)

    def test_what_was_not_downloaded(self, tmp_path: Path) -> None:
        path = write_brainvision(tmp_path / "run.vhdr", planted(1e-5), RATE_HZ, EEG_NAMES[:4])
        path.with_suffix(".eeg").write_text("/annex/objects/MD5E-s12--0123.eeg\n")
        with pytest.raises(DataError, match=r"run\.eeg: not downloaded"):
            open_recording(path)
        path.with_suffix(".eeg").unlink()
        with pytest.raises(DataError, match=r"run\.eeg: no such file"):
            open_recording(path)

    @pytest.mark.parametrize(("name", "message"), [("run.mat", "are read from"), ("run.ds", "to be copied whole")])
    def test_other_kinds(self, tmp_path: Path, name: str, message: str) -> None:
        with pytest.raises(DataError, match=message):
            open_recording(tmp_path / name)

    def test_half_a_ctf_folder(self, tmp_path: Path) -> None:
        (tmp_path / "run.ds").mkdir()
        (tmp_path / "run.ds" / "run.res4").write_bytes(b"x")
        with pytest.raises(DataError, match="copy the whole folder"):
            open_recording(tmp_path / "run.ds")


def test_they_travel_to_other_processes(tmp_path: Path) -> None:
    settings = Signals(band_hz=(0.5, 40.0), notch_hz=(16.7,), noise=("reference_channels",))
    path = write_kit(tmp_path / "run.con", planted(1e-12), RATE_HZ)
    sensors = open_sensors(partial(open_recording, path), settings, "meg", "run", bad_channels=["MEG 002"])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(sensors)).read(), sensors.read())


def five_times(path: Path) -> Any:
    """A long recording that costs the disk of a short one."""
    return mne.concatenate_raws([open_recording(path) for _ in range(5)], verbose="error")


@pytest.mark.slow
def test_a_long_recording_is_never_whole_in_memory(tmp_path: Path) -> None:
    info = helmet(every=2)
    values = np.random.default_rng(0).standard_normal((153, 60_000)).astype(np.float32) * 1e-12
    path = write_fif(tmp_path / "long_meg.fif", values, 1000.0, info)
    opened = partial(five_times, path)

    def megabytes_to_read() -> tuple[float, int]:
        sensors = open_sensors(opened, Signals(band_hz=(0.5, 40.0)), "meg", "run")
        sensors.read(0.0, 1.0)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        n_rows = len(sensors.read())
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, n_rows

    del values
    megabytes, n_rows = answer_of(megabytes_to_read)
    whole_mb = 153 * 300_000 * 8 / 1e6
    assert n_rows == 30_000
    # Twice what is given back at the low rate, in float64, and the blocks.
    assert megabytes < 0.4 * whole_mb, f"{megabytes:.0f} MB of {whole_mb:.0f} MB"
