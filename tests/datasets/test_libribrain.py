"""LibriBrain: signals in HDF5, and tables of words on each recording's own clock."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import mne
import numpy as np
import pandas as pd
import pytest
from miniatures import check_planted_layers, planted_signal

from brainalign.archives.remote_files import RemoteFile
from brainalign.datasets import load_dataset
from brainalign.errors import BrainalignError, RecipeError
from brainalign.files import sha256_of_file
from brainalign.manifests import Listing
from brainalign.reading.signals import Signals
from brainalign.types import Stimulus

RATE_HZ = 250
# As the system writes them, without MNE's blank: three magnetometers and a gradiometer.
NAMES = ("MEG0111", "MEG1621", "MEG2341", "MEG0113")
TESLA = 1e-13
PROC = "proc-bads+headpos+sss+notch+bp+ds"
# Subject, session and run, seconds of the recording at the first word, and how fast its clock goes.
RUNS = (("0", "1", "1", 5.0, 1.0), ("0", "2", "1", 7.5, 1.0), ("0", "11", "2", 4.0, 1.0), ("1", "11", "1", 9.0, 1.0004))
DURATION_S = 200.0


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three chapters of one subject and one of another, whose recording's clock goes faster."""
    folder = tmp_path_factory.mktemp("mirror") / "libribrain"
    for number, (subject, session, run, first_s, rate) in enumerate(RUNS):
        truth = chapter(session)
        onset_s = first_s + rate * truth.words["onset"].to_numpy()
        name = f"sub-{subject}_ses-{session}_task-Sherlock1_run-{run}"
        write_events(folder / "Sherlock1/derivatives/events" / f"{name}_events.tsv", truth, onset_s)
        signal = planted_signal(truth, onset_s, RATE_HZ, round(RATE_HZ * DURATION_S), seed=number)
        write_serialised(folder / "Sherlock1/derivatives/serialised" / f"{name}_{PROC}_meg.h5", TESLA * signal.T)
    return folder


@pytest.fixture
def served(archive: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    serve(monkeypatch, archive)
    return archive


@pytest.fixture
def copy(archive: Path, tmp_path: Path) -> Path:
    """The archive's files of one chapter, to be changed by a test."""
    folder = tmp_path / "libribrain"
    for path in archive.rglob("sub-0_ses-1_*"):
        place = folder / path.relative_to(archive)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
    return folder


def serve(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let the Hub list the files of that folder, which a mirror gives."""

    def listed(dataset: str, listing: Listing) -> dict[str, RemoteFile]:
        assert (dataset, listing.places, len(listing.revision or "")) == ("libribrain", ("pnpl/LibriBrain",), 40)
        files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        return {
            name: RemoteFile(name, f"http://127.0.0.1:9/{name}", path.stat().st_size, f"sha256:{sha256_of_file(path)}")
            for name, path in files.items()
        }

    monkeypatch.setattr("brainalign.archives.archive.listed_files", listed)
    monkeypatch.setenv("BRAINALIGN_MIRROR", str(folder.parent))


def chapter(session: str) -> Stimulus:
    """Words at the pace of speech, "None" among them, in sentences of eight."""
    random = np.random.default_rng(int(session))
    gaps = random.uniform(0.25, 0.6, size=430)
    texts = [f"{'abcdefghij'[i % 10]}{'klmnopq'[j]}" for i, j in enumerate(random.integers(0, 7, size=430))]
    texts[7] = "None"
    words = pd.DataFrame({"onset": np.cumsum(gaps) - gaps[0], "duration": 0.2, "text": texts})
    return Stimulus(f"Sherlock1-{session}", words.assign(sentence=np.arange(430) // 8))


def write_events(path: Path, truth: Stimulus, onset_s: np.ndarray) -> None:
    """Silences, words and phonemes, in the columns that the authors' package reads."""
    lines = ["idx\tkind\tsegment\ttimemeg\tduration\tsentenceidx\twordidx", "0\tsilence\tsil\t0.0\t1.0\t\t"]
    for i, (onset, word) in enumerate(zip(onset_s.tolist(), truth.words.itertuples(), strict=True)):
        lines.append(f"{2 * i + 1}\tword\t{word.text}\t{onset!r}\t{word.duration}\t{word.sentence}.0\t{i}.0")
        lines.append(f"{2 * i + 2}\tphoneme\tk_B\t{onset!r}\t0.1\t{word.sentence}.0\t{i}.0")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_serialised(path: Path, data: np.ndarray, names: tuple[str, ...] = NAMES) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=data.astype(np.float32), chunks=(len(data), 50))
        file["times"] = np.arange(data.shape[1], dtype=np.float32) / RATE_HZ
        file.attrs["sample_frequency"] = float(RATE_HZ)
        file.attrs["highpass_cutoff"], file.attrs["lowpass_cutoff"] = 0.1, 125.0
        file.attrs["channel_names"] = ", ".join(names)
        file.attrs["channel_types"] = ", ".join("grad" if name[-1] != "1" else "mag" for name in names)


def test_words_are_those_of_the_table_counted_from_the_first(served: Path) -> None:
    stimuli = load_dataset("libribrain").stimuli
    assert list(stimuli) == ["Sherlock1-1", "Sherlock1-2", "Sherlock1-11"]
    for name, stimulus in stimuli.items():
        truth = chapter(name.rsplit("-", 1)[1]).words
        assert stimulus.words["text"].tolist() == truth["text"].tolist()
        assert stimulus.words["sentence"].tolist() == truth["sentence"].tolist()
        np.testing.assert_allclose(stimulus.words[["onset", "duration"]], truth[["onset", "duration"]], atol=1e-9)
        assert stimulus.findings == ()


def test_each_recording_has_its_own_clock(served: Path) -> None:
    recordings = {(r.subject, r.stimulus): r for r in load_dataset("libribrain").recordings()}
    for subject, session, run, first_s, rate in RUNS:
        recording = recordings[subject, f"Sherlock1-{session}"]
        assert recording.run == f"Sherlock1-{session} run-{run}"
        # On a clock whose seconds are as long as the stimulus's.
        assert recording.offset_s * rate == pytest.approx(first_s, abs=1e-3)
        assert recording.clock.step_s * rate == pytest.approx(0.01, abs=1e-7)
    assert [finding.code for finding in recordings["1", "Sherlock1-11"].findings] == ["clock-drift"]
    assert recordings["0", "Sherlock1-11"].findings == ()


def test_signals_are_those_of_the_file(served: Path) -> None:
    options = {"stimuli": ["Sherlock1-2"], "signals": Signals(rate_hz=None)}
    [recording] = load_dataset("libribrain", subjects=["0"], options=options).recordings()
    with h5py.File(next(served.rglob("sub-0_ses-2_*.h5"))) as file:
        np.testing.assert_array_equal(recording.response(), file["data"][:].T)
    assert recording.clock.sfreq_hz == pytest.approx(RATE_HZ)
    assert len(recording.steps) == 1


def test_a_stretch_of_the_file_is_read_as_the_whole_is(served: Path) -> None:
    from brainalign.datasets.libribrain import _open_serialised

    path = next(served.rglob("sub-0_ses-2_*.h5"))
    raw = _open_serialised(path)
    with h5py.File(path) as file:
        whole = file["data"][:]
    np.testing.assert_array_equal(raw.get_data(picks=[2, 0], start=1234, stop=1301), whole[[2, 0], 1234:1301])
    assert (raw.info["highpass"], raw.info["lowpass"]) == (0.1, 125.0)


def test_sensors_have_the_places_that_mne_knows_by_name(served: Path) -> None:
    [recording] = load_dataset("libribrain", subjects=["1"]).recordings()
    assert recording.targets["name"].tolist() == list(NAMES)
    assert recording.targets["kind"].tolist() == ["mag", "mag", "mag", "grad"]
    helmet = mne.channels.read_meg_canonical_info("neuromag")
    places = [helmet["chs"][helmet.ch_names.index(f"MEG {name[3:]}")]["loc"][:3] for name in NAMES]
    np.testing.assert_allclose(recording.targets[["x", "y", "z"]], places)
    assert recording.space["frame"] == "device"


def test_the_planted_layers_are_found(served: Path) -> None:
    check_planted_layers(load_dataset("libribrain", subjects=["0"]))


def test_words_without_a_time_and_out_of_order_are_told(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = next(copy.rglob("*_events.tsv"))
    lines = path.read_text().splitlines()
    cells = lines[2].split("\t")
    lines[2] = "\t".join([*cells[:3], "nan", *cells[4:]])
    lines[6], lines[8] = lines[8], lines[6]
    path.write_text("\n".join(lines) + "\n")
    serve(monkeypatch, copy)
    stimulus = load_dataset("libribrain").stimuli["Sherlock1-1"]
    assert stimulus.words["text"].tolist() == chapter("1").words["text"].tolist()[1:]
    assert [finding.code for finding in stimulus.findings] == ["words-left-out", "reordered-words"]


def change_file(pattern: str, change: Callable[[h5py.File], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        with h5py.File(next(folder.rglob(pattern)), "r+") as file:
            change(file)

    return apply


def change_text(old: str, new: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = next(folder.rglob("*_events.tsv"))
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return apply


def write(pattern: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: next(folder.rglob(pattern)).write_bytes(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(write("*.h5", b"not HDF5 at all"), r"run-1.*cannot be read", id="no HDF5"),
        pytest.param(write("*.h5", b"version https://git-lfs.github.com/spec/v1\n"), "not downloaded", id="pointer"),
        pytest.param(write("*_events.tsv", b""), "the file is empty", id="no events"),
        pytest.param(change_file("*.h5", lambda file: file.attrs.pop("sample_frequency")), "sample_freq", id="rate"),
        pytest.param(change_file("*.h5", lambda file: file.pop("data")), "not a recording as LibriBrain", id="no data"),
        pytest.param(change_file("*.h5", lambda file: file.attrs.modify("channel_names", "MEG0111, MEG0112")),
                     "4 rows of data, 2 names", id="names"),
        pytest.param(change_text("timemeg", "time"), "no column 'timemeg'", id="no column"),
        pytest.param(change_text("\tword\t", "\tlemma\t"), "no row is of the kind 'word'", id="no words"),
        pytest.param(change_text("\t0.2\t", "\tlong\t"), r"line 3: duration 'long' is not", id="no number"),
        pytest.param(lambda folder: next(folder.rglob("*.tsv")).unlink(), r"no file .*_events\.tsv", id="missing"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_name(
    copy: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], message: str
) -> None:
    change(copy)
    serve(monkeypatch, copy)
    data = load_dataset("libribrain")
    with pytest.raises(BrainalignError, match=message):
        [recording.response() for recording in data.recordings()]


def test_what_there_is_not_is_told_with_the_nearest_that_is(served: Path) -> None:
    with pytest.raises(RecipeError, match="Did you mean 'Sherlock1-1'"):
        load_dataset("libribrain", options={"stimuli": ["Sherlock-1"]}).recordings()
    with pytest.raises(RecipeError, match="no subject '7'"):
        load_dataset("libribrain", subjects=["7"]).recordings()
