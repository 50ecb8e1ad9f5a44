"""One's own arrays: what was written comes back, and what cannot be right is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.io import wavfile

from brainalign.datasets import Arrays, Response, check_recording, load_dataset
from brainalign.errors import BrainalignError, DataError
from brainalign.reading.array_files import read_array

VALUES = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
ENTRY = {"subject": "s1", "path": "bold.npy", "tr_s": 2.0}


def write_words(path: Path, n_words: int = 20, step_s: float = 2.0) -> None:
    rows = "".join(f"{i * step_s},0.5,word{i}\n" for i in range(n_words))
    path.write_text("onset,duration,text\n" + rows)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_words(tmp_path / "story.csv")
    np.save(tmp_path / "bold.npy", VALUES)
    return tmp_path


def load(folder: Path, *entries: dict, **options: Any) -> Arrays:
    settings = {"words": "story.csv", "modality": "fmri", "responses": list(entries) or [ENTRY], **options}
    data = load_dataset("arrays", root=folder, options=settings)
    assert isinstance(data, Arrays)
    return data


def write_npz(path: Path) -> None:
    np.savez(path, bold=VALUES, other=np.zeros(3))


def write_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["sub/bold"] = VALUES.astype(">f8")
        file["other"] = np.zeros(3)


@pytest.mark.parametrize(
    ("name", "write", "key"),
    [
        ("a.npy", lambda path: np.save(path, VALUES), None),
        ("a.npy", lambda path: np.save(path, np.asfortranarray(VALUES.astype(np.float64))), None),
        ("a.npz", write_npz, "bold"),
        ("a.npz", lambda path: np.savez(path, only=VALUES), None),
        ("a.h5", write_hdf5, "sub/bold"),
        ("a.hf5", write_hdf5, "/sub/bold"),
    ],
    ids=["npy", "npy of float64", "npz", "npz of one", "h5", "hf5"],
)
def test_planted_values_come_back(name: str, write: Callable[[Path], None], key: str | None, folder: Path) -> None:
    write(folder / name)
    [recording] = load(folder, {**ENTRY, "path": name, "key": key}).recordings()
    response = recording.response()
    assert response.dtype == np.float32
    np.testing.assert_array_equal(response, VALUES)
    assert recording.targets["name"].tolist() == ["target 1", "target 2", "target 3", "target 4"]


def test_a_single_row_of_numbers_is_one_target(folder: Path) -> None:
    np.save(folder / "bold.npy", VALUES[:, 0])
    [recording] = load(folder).recordings()
    np.testing.assert_array_equal(recording.response(), VALUES[:, :1])


def test_the_clock_is_as_named(folder: Path) -> None:
    entry = {**ENTRY, "tr_s": None, "rate_hz": 0.5, "t0_s": -1.0, "offset_s": 3.0, "run": "7"}
    [recording] = load(folder, entry).recordings()
    np.testing.assert_array_equal(recording.clock.times(2), [-1.0, 1.0])
    assert (recording.offset_s, recording.run, recording.stimulus, recording.subject) == (3.0, "7", "story", "s1")


def test_confounds_targets_and_sound_come_along(folder: Path) -> None:
    np.save(folder / "motion.npy", VALUES[:, :2])
    pd.DataFrame({"drift": np.arange(30)}).to_csv(folder / "drift.tsv", sep="\t", index=False)
    (folder / "regions.csv").write_text("x,name,area\n1.5,A1,41\n2,V1,17\n3,NA,1\n4,IFG,44\n")
    wavfile.write(folder / "story.wav", 8000, np.array([0, 16384, -32768], dtype=np.int16))
    audio = {"story": "story.wav"}
    entry = {**ENTRY, "confounds": "motion.npy", "targets": "regions.csv"}
    data = load(folder, entry, {**entry, "subject": "s2", "confounds": "drift.tsv"}, audio=audio)
    first, second = data.recordings()
    np.testing.assert_array_equal(first.confounds().to_numpy(), VALUES[:, :2])
    assert second.confounds()["drift"].tolist() == list(range(30))
    assert first.targets.to_dict("list") == {
        "name": ["A1", "V1", "NA", "IFG"],
        "kind": ["target"] * 4,
        "area": ["41", "17", "1", "44"],
        "x": [1.5, 2.0, 3.0, 4.0],
    }
    sound = data.stimuli["story"].audio
    assert sound is not None
    assert sound.rate_hz == 8000
    np.testing.assert_allclose(sound.samples, [0, 0.5, -1])


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.array([128, 255, 0], dtype=np.uint8), [0, 127 / 128, -1]),
        (np.array([0, 0.5, -1], dtype=np.float32), [0, 0.5, -1]),
        (np.array([[0, 2**30], [2**30, 2**30]], dtype=np.int32), [0.25, 0.5]),
    ],
    ids=["8 bits", "float", "stereo of 32 bits"],
)
def test_sound_is_mono_between_minus_one_and_one(samples: np.ndarray, expected: list[float], folder: Path) -> None:
    wavfile.write(folder / "story.wav", 8000, samples)
    sound = load(folder, audio={"story": "story.wav"}).stimuli["story"].audio
    assert sound is not None
    np.testing.assert_allclose(sound.samples, expected)


def test_a_template_stands_for_all_subjects_and_stimuli(folder: Path) -> None:
    for story in ("one", "two"):
        write_words(folder / f"{story}.csv")
        for subject, sign in (("s1", 1), ("s2", -1)):
            np.save(folder / f"{subject}_{story}.npy", sign * VALUES)
    (folder / "s2_two.npy").unlink()
    template = {"path": "{subject}_{stimulus}.npy", "subjects": ["s1", "s2"], "tr_s": 2.0}
    data = load(folder, responses=template, words={"one": "one.csv", "two": "two.csv"})
    found = [(each.subject, each.run, each.stimulus) for each in data.recordings()]
    assert found == [("s1", "one", "one"), ("s1", "two", "two"), ("s2", "one", "one")]
    [finding] = data.findings
    assert str(finding) == "subject s2: no recording of 1 of 2 stimuli: two."
    np.testing.assert_array_equal(data.recordings(["s2"])[0].response(), -VALUES)
    assert [each.stimulus for each in data.recordings(stimuli=["two"])] == ["two"]
    assert data.fetch() == []


def test_a_template_that_fits_no_file_is_an_error(folder: Path) -> None:
    template = {"path": "{subject}-{stimulus}.npy", "subjects": ["s1"], "tr_s": 2.0}
    with pytest.raises(DataError, match=r"subject s1: there is none of the files that .*s1-story\.npy"):
        load(folder, responses=template).recordings()


def test_making_one_reads_nothing(tmp_path: Path) -> None:
    data = load(tmp_path, {**ENTRY, "path": "none.npy"})
    assert data.subjects == ("s1",)
    with pytest.raises(DataError, match=r"none\.npy: no such file"):
        data.recordings()
    with pytest.raises(DataError, match=r"none\.npy: no such file"):
        data.fetch()


def test_subjects_can_be_chosen(folder: Path) -> None:
    entries = [{**ENTRY, "subject": subject} for subject in ("s2", "s1")]
    data = load_dataset(
        "arrays",
        root=folder,
        subjects=["s1"],
        options={"words": "story.csv", "responses": entries, "modality": "fmri"},
    )
    assert data.subjects == ("s1",)
    assert len(data.recordings()) == 1
    assert load(folder, *entries).subjects == ("s2", "s1")


def test_the_digest_follows_the_bytes_and_the_clock_and_not_the_place(folder: Path) -> None:
    def digest(**changes: Any) -> str:
        return load(folder, {**ENTRY, **changes}).recordings()[0].digest

    np.save(folder / "copy.npy", VALUES)
    np.save(folder / "motion.npy", VALUES)
    usual = digest()
    assert digest(path="copy.npy") == usual
    assert len({usual, digest(t0_s=1.0), digest(tr_s=1.9), digest(confounds="motion.npy")}) == 4
    np.save(folder / "bold.npy", VALUES + 1)
    assert digest() != usual


# What cannot be right


def write_linked(path: Path) -> None:
    with h5py.File(path.with_name("far.h5"), "w") as file:
        file["bold"] = VALUES
    with h5py.File(path, "w") as file:
        file["bold"] = h5py.ExternalLink("far.h5", "bold")


def write_virtual(path: Path) -> None:
    with h5py.File(path.with_name("far.h5"), "w") as file:
        file["bold"] = VALUES
    layout = h5py.VirtualLayout(shape=VALUES.shape, dtype="f4")
    layout[:] = h5py.VirtualSource(path.with_name("far.h5"), "bold", shape=VALUES.shape)
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("bold", layout)


def truncated(path: Path) -> None:
    np.save(path, VALUES)
    path.write_bytes(path.read_bytes()[:-100])


def write_npy_as(path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, VALUES)


BAD_ARRAYS = {
    "objects": ("a.npy", lambda p: np.save(p, np.array([{}, None])), "Python objects"),
    "objects in npz": ("a.npz", lambda p: np.savez(p, bold=np.array([{}, None])), "Python objects"),
    "complex": ("a.npy", lambda p: np.save(p, VALUES.astype(complex)), "complex64|complex128"),
    "text": ("a.npy", lambda p: np.save(p, np.array(["a"])), "not real numbers"),
    "three axes": ("a.npy", lambda p: np.save(p, np.zeros((2, 3, 4))), r"shape \(2, 3, 4\)"),
    "no axis": ("a.npy", lambda p: np.save(p, np.array(1.0)), r"shape \(\)"),
    "no rows": ("a.npy", lambda p: np.save(p, np.zeros((0, 4))), r"shape \(0, 4\)"),
    "truncated npy": ("a.npy", truncated, "not a whole .npy file"),
    "truncated npz": ("a.npz", lambda p: p.write_bytes(b"PK\x03\x04 and no more"), "not a whole .npz file"),
    "npy called npz": ("a.npz", write_npy_as, "not a whole .npz file"),
    "missing key": ("a.npz", write_npz, "no array 'blod'. Did you mean 'bold'"),
    "missing key in h5": ("a.h5", write_hdf5, "no array 'blod'. Did you mean 'sub/bold'"),
    "no hdf5": ("a.h5", lambda p: p.write_bytes(b"no hdf5"), "not a whole .h5 file"),
    "linked hdf5": ("a.h5", write_linked, "no array 'blod'"),
    "pickle": ("a.npy", lambda p: p.write_bytes(b"\x80\x04\x95\x0b\x00."), "Python objects"),
    "annex pointer": ("a.npy", lambda p: p.write_bytes(b"/annex/objects/SHA256E-s9--0.npy\n"), "not downloaded"),
    "unknown kind": ("a.dat", lambda p: p.write_bytes(b"x"), r"read from \.npy"),
}


@pytest.mark.parametrize(("name", "write", "message"), BAD_ARRAYS.values(), ids=BAD_ARRAYS.keys())
def test_an_array_that_cannot_be_a_response_is_refused(
    name: str, write: Callable[[Path], None], message: str, folder: Path
) -> None:
    write(folder / name)
    with pytest.raises(DataError, match=message) as error:
        load(folder, {**ENTRY, "path": name, "key": "blod" if "blod" in message else None}).recordings()
    assert name in str(error.value)
    assert str(error.value).count("\n") <= 2


@pytest.mark.parametrize("name", ["a.npz", "a.h5"])
def test_damage_anywhere_is_our_error_or_harmless(name: str, folder: Path) -> None:
    (write_npz if name == "a.npz" else write_hdf5)(folder / name)
    key = "bold" if name == "a.npz" else "sub/bold"
    whole = (folder / name).read_bytes()
    rng = np.random.default_rng(3)
    refusals = []
    for start in rng.integers(len(whole), size=150):
        damaged = bytearray(whole)
        damaged[start : start + 16] = rng.bytes(len(damaged[start : start + 16]))
        (folder / name).write_bytes(damaged)
        try:
            response = read_array(folder / name, key)
        except DataError as error:
            refusals.append(str(error))
        else:
            # HDF5 without checksums cannot tell damaged numbers, only damaged structure.
            assert response.shape == VALUES.shape
            assert name == "a.h5" or np.array_equal(response, VALUES)
    assert len(refusals) > 20
    assert all(name in refusal and refusal.count("\n") <= 2 for refusal in refusals)


def test_several_arrays_are_asked_which(folder: Path) -> None:
    write_npz(folder / "a.npz")
    with pytest.raises(DataError, match=r"holds 2 arrays; name one as `key`\. Known: bold, other"):
        load(folder, {**ENTRY, "path": "a.npz"}).recordings()


def test_numbers_kept_in_other_files_are_refused(folder: Path) -> None:
    write_virtual(folder / "a.h5")
    with pytest.raises(DataError, match="keeps its numbers in other files"):
        load(folder, {**ENTRY, "path": "a.h5"}).recordings()


def test_numbers_too_large_are_not_made_infinite(folder: Path) -> None:
    np.save(folder / "bold.npy", np.full((30, 2), 1e300))
    [recording] = load(folder).recordings()
    with pytest.raises(DataError, match="too large for float32"):
        recording.response()


@pytest.mark.parametrize(
    ("step_s", "message"),
    [
        (2000.0, "look like milliseconds: the last is 38000, and the response of subject s1, run story ends at 60 s"),
        (5.0, "8 of 20 words begin after the response of subject s1, run story has ended.*first is 'word12' at 60 s"),
    ],
)
def test_words_past_the_end_are_refused(step_s: float, message: str, folder: Path) -> None:
    write_words(folder / "story.csv", step_s=step_s)
    with pytest.raises(DataError, match=message.replace("\n", " ")) as error:
        load(folder).recordings()
    assert str(error.value).count("\n") <= 2


def test_a_late_stimulus_must_end_before_the_recording(folder: Path) -> None:
    assert load(folder, {**ENTRY, "offset_s": 21.0}).recordings()
    with pytest.raises(DataError, match="1 of 20 words begin after"):
        load(folder, {**ENTRY, "offset_s": 22.0}).recordings()


@pytest.mark.parametrize(
    ("name", "content", "setting", "message"),
    [
        ("c.csv", "a\n1\n2\n", "confounds", "2 rows for a response of 30"),
        ("c.csv", "a\n" + "1\n" * 29 + "n/a\n", "confounds", "line 31: a 'n/a' is not a finite number"),
        ("t.csv", "name\na\nb\n", "targets", "2 rows for a response of 4 columns"),
        ("t.csv", "name\na\nb\na\nc\n", "targets", "'a' is empty or there twice"),
        ("t.csv", "label\na\nb\nc\nd\n", "targets", "no column 'name'"),
        ("t.csv", "name,x\na,1\nb,?\nc,1\nd,1\n", "targets", r"line 3: x '\?' is not"),
    ],
)
def test_tables_beside_the_response_must_fit_it(
    name: str, content: str, setting: str, message: str, folder: Path
) -> None:
    (folder / name).write_text(content)
    with pytest.raises(DataError, match=message) as error:
        load(folder, {**ENTRY, setting: name}).recordings()[0].confounds()
    assert name in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"RIFF no wav", "not a wav file"), (b"", "the file is empty")],
)
def test_sound_that_is_none_is_refused(content: bytes, message: str, folder: Path) -> None:
    (folder / "story.wav").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load(folder, audio={"story": "story.wav"}).stimuli  # noqa: B018


TWO = {"one": "one.csv", "two": "two.csv"}
BAD_SETTINGS = {
    "unknown setting": ({"modalty": "fmri"}, r"dataset.modalty: unknown key. Did you mean 'modality'"),
    "unknown key of an entry": ({"responses": [{**ENTRY, "tr": 2.0}]}, r"dataset.responses.0.tr: unknown key"),
    "no path": ({"responses": [{"subject": "s1", "tr_s": 2.0}]}, r"dataset.responses.0.path: missing"),
    "a number for a subject": ({"responses": [{**ENTRY, "subject": 1}]}, "valid string, not '1'"),
    "unknown modality": ({"modality": "pet"}, "'fmri', 'meg', 'eeg' or 'ecog', not 'pet'"),
    "no clock": ({"responses": [{"subject": "s1", "path": "bold.npy"}]}, "one of tr_s .*and rate_hz"),
    "two clocks": ({"responses": [{**ENTRY, "rate_hz": 0.5}]}, "one of tr_s .*and rate_hz"),
    "negative TR": ({"responses": [{**ENTRY, "tr_s": -2.0}]}, "positive step"),
    "rate of zero": ({"responses": [{"subject": "s1", "path": "bold.npy", "rate_hz": 0.0}]}, "positive step"),
    "TR in milliseconds": ({"responses": [{**ENTRY, "tr_s": 2000}]}, "2000 looks like milliseconds"),
    "unknown stimulus": ({"responses": [{**ENTRY, "stimulus": "stroy"}]}, "'stroy'. Did you mean 'story'"),
    "no stimulus named": ({"words": TWO}, "name the stimulus. Known: one, two"),
    "unknown subject": ({"subjects": ("s3",)}, "no subject 's3'"),
    "sound of nothing": ({"audio": {"stroy": "a.wav"}}, "no stimulus 'stroy'"),
    "two files for a run": ({"responses": [ENTRY, {**ENTRY, "path": "b.npy"}]}, "run story has two files"),
    "unknown field": (
        {"responses": {"path": "{subjct}.npy", "subjects": ["s1"], "tr_s": 2.0}},
        "'{subjct}' is not filled in. Did you mean 'subject'",
    ),
    "torn field": ({"responses": {"path": "{subject", "subjects": ["s1"], "tr_s": 2.0}}, "'{subject'"),
    "misspelt in the template": (
        {"responses": {"path": "a", "subject": "s1"}},
        "dataset.responses.subjects: missing",
    ),
}


@pytest.mark.parametrize(("options", "message"), BAD_SETTINGS.values(), ids=BAD_SETTINGS.keys())
def test_settings_that_cannot_be_right_are_refused(options: dict, message: str, folder: Path) -> None:
    with pytest.raises(BrainalignError, match=message) as error:
        load(folder, **options)
    assert str(error.value).count("\n") <= 2


def test_a_stimulus_heard_twice_has_its_runs_named(folder: Path) -> None:
    np.save(folder / "b.npy", -VALUES)
    data = load(folder, {**ENTRY, "run": "1"}, {**ENTRY, "run": "2", "path": "b.npy"})
    assert [recording.run for recording in data.recordings()] == ["1", "2"]


def test_entries_may_be_objects(folder: Path) -> None:
    data = Arrays(
        words={"story": folder / "story.csv"},
        responses=(Response("s1", folder / "bold.npy", tr_s=2.0),),
        modality="fmri",
    )
    np.testing.assert_array_equal(data.recordings()[0].response(), VALUES)


# Real data


def test_ten_real_stories_are_loaded(shared: Path, tmp_path: Path) -> None:
    """One subject of LeBel et al. (2023): text row i holds the words spoken from 8 + 2i to 10 + 2i s of the sound."""
    source = shared / "datasets" / "lebel_small"
    texts = json.loads((source / "small_texts.json").read_text())
    arrays = np.load(source / "small_uts03_f16.npz")
    keys = {key.split("/")[1]: key for key in arrays.files}
    for story, rows in texts.items():
        spread_words(rows).to_csv(tmp_path / f"{story}.csv", index=False)
    data = load(
        tmp_path,
        *(
            {
                "subject": "UTS03",
                "stimulus": story,
                "path": str(source / "small_uts03_f16.npz"),
                "key": key,
                "tr_s": 2.0,
                "t0_s": 10.0,
            }
            for story, key in keys.items()
        ),
        words={story: f"{story}.csv" for story in texts},
    )
    recordings = data.recordings()
    assert {each.stimulus: each.response().shape for each in recordings} == {
        story: (len(rows), 200) for story, rows in texts.items()
    }
    n_words = sum(len(row.split()) for rows in texts.values() for row in rows)
    assert sum(len(stimulus.words) for stimulus in data.stimuli.values()) == n_words > 15_000
    for each in recordings:
        assert check_recording(each, each.response(), data.stimuli[each.stimulus]) == []
    assert data.findings == []


def spread_words(rows: list[str]) -> pd.DataFrame:
    """The words of each row, evenly over its two seconds."""
    parts = []
    for i, row in enumerate(rows):
        words = row.split()
        for j, word in enumerate(words):
            parts.append((8 + 2 * i + 2 * j / len(words), 2 / len(words), word))
    return pd.DataFrame(parts, columns=["onset", "duration", "text"])


def test_a_real_subject_of_parcels_is_loaded(shared: Path) -> None:
    source = shared / "datasets" / "narratives_black"
    data = load(
        source,
        {"subject": "sub-284", "path": "story_parcels.npy", "tr_s": 1.5},
        words="black_gentle.csv",
        columns={"text": "Word"},
    )
    [recording] = data.recordings()
    assert recording.response().shape == (538, 400)
    assert check_recording(recording, recording.response(), data.stimuli["black_gentle"]) == []


@pytest.mark.parametrize(("unit", "scale"), [("mm", 1.0), ("m", 0.001)])
def test_places_must_be_of_a_head_in_the_unit_that_is_named(tmp_path: Path, unit: str, scale: float) -> None:
    np.save(tmp_path / "bold.npy", np.random.default_rng(0).normal(size=(40, 2)))
    pd.DataFrame({"onset": [1.0, 2.0], "duration": 0.5, "text": ["a", "b"]}).to_csv(tmp_path / "w.csv", index=False)
    places = pd.DataFrame({"name": ["A", "B"], "x": [-50.0, 40.0], "y": [10.0, 20.0], "z": 5.0})
    places.assign(**{axis: places[axis] * scale for axis in "xyz"}).to_csv(tmp_path / "t.csv", index=False)
    given = {"subject": "s", "path": "bold.npy", "tr_s": 2.0, "targets": "t.csv"}

    def space_in(unit: str) -> dict[str, str]:
        space = {"kind": "parcels", "unit": unit, "template": "MNI152NLin2009cAsym"}
        [recording] = load(tmp_path, given, words="w.csv", space=space).recordings()
        return dict(recording.space)

    assert space_in(unit) == {"kind": "parcels", "unit": unit, "template": "MNI152NLin2009cAsym"}
    with pytest.raises(DataError, match="is that the unit"):
        space_in({"mm": "m", "m": "mm"}[unit])
    places.drop(columns="z").to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match="the columns x, y and z are needed"):
        space_in(unit)
