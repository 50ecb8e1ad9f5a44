"""Le Petit Prince in MEG: what was heard, placed at its events; what was read, placed at its triggers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
from miniatures import LAYERS, check_planted_layers, planted_signal, serve_miniature
from recordings import helmet

from brainalign.datasets import load_dataset
from brainalign.datasets.little_prince_meg import LittlePrinceMegListen, LittlePrinceMegRead
from brainalign.errors import BrainalignError, DataError, RecipeError
from brainalign.types import Dataset, Floats

LENGTH_S, RATE_HZ = 150.0, 200.0
SLOW_HZ = 1.5
# The acquisition began so long before the file's first sample.
SKIPPED_S = {"01": 75.0, "02": 12.0}
LISTEN, READ = "little_prince_meg_listen", "little_prince_meg_read"


def _lagging(stimulus_s: Floats) -> Floats:
    """A computer that loses a millisecond a second, and 40 ms at once after a minute."""
    return 9.0 + 1.001 * stimulus_s + 0.04 * (stimulus_s > 60)


@pytest.fixture(scope="module")
def listened(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first minutes of part 1 with its real words: subject 01's real events, and subject 02's that lag."""
    folder = tmp_path_factory.mktemp("listen") / LISTEN
    real = shared / "datasets" / "real"
    tokens = pd.read_csv(_real(real, "listen") / "sourcedata" / "task-listen_run-01_extra_info.tsv", dtype=str)
    tokens = tokens[tokens["onset"].astype(float) < LENGTH_S]
    (folder / "sourcedata" / "stimuli" / "txt_laser").mkdir(parents=True)
    tokens.to_csv(folder / "sourcedata" / "task-listen_run-01_extra_info.tsv", index=False)
    # The archive's own text, as its checksum shows: the words that others read, a sentence a line.
    (folder / "sourcedata" / "stimuli" / "txt_laser" / "run1.txt").write_text(_text(_events(real, "read")))
    said = tokens[tokens["word"] != " "]
    events = _events(real, "listen").iloc[: len(said)]
    lagging = pd.DataFrame(
        {
            "onset": (SKIPPED_S["02"] + _lagging(said["onset"].astype(float))).round(3),
            "duration": said["duration"],
            "trial_type": "Word",
            "stimulus": said["word"],
        }
    )
    noise = pd.DataFrame(
        {"onset": [13.0, 20.0], "duration": "0", "trial_type": ["BAD_ACQ_SKIP", "Word"], "stimulus": " "}
    )
    data = LittlePrinceMegListen(root=folder, subjects=("01",))
    stimulus = data.read_stimulus("part-1")
    for subject, table in (("01", events), ("02", pd.concat([noise, lagging]))):
        stem = _stem(folder, subject, "listen")
        stem.parent.mkdir(parents=True)
        table.to_csv(f"{stem}_events.tsv", sep="\t", index=False)
        onset_s = stimulus.words["onset"].to_numpy()
        place = _lagging(onset_s) if subject == "02" else onset_s + 12.124
        _write_run(stem, planted_signal(stimulus, place, RATE_HZ, _n_rows(), seed=int(subject)), SKIPPED_S[subject])
    (folder / "participants.tsv").write_bytes((_real(real, "listen") / "participants.tsv").read_bytes())
    return folder


@pytest.fixture(scope="module")
def read(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first minutes of part 1 as read: real events, which are the same for all, and triggers that tell when."""
    folder = tmp_path_factory.mktemp("read") / READ
    events = _events(shared / "datasets" / "real", "read").iloc[:400]
    for subject in ("01", "02"):
        stem = _stem(folder, subject, "read")
        stem.parent.mkdir(parents=True)
        events.to_csv(f"{stem}_events.tsv", sep="\t", index=False)
    stimulus = LittlePrinceMegRead(root=folder, subjects=("01",)).read_stimulus("part-1")
    for subject in ("01", "02"):
        shown_s = _shown(subject, stimulus.words["onset"].to_numpy())
        signal = planted_signal(stimulus, shown_s, RATE_HZ, _n_rows(), seed=int(subject))
        _write_run(_stem(folder, subject, "read"), signal, 3.0, _triggers(shown_s, stimulus.words["text"], subject))
    return folder


@pytest.fixture
def served(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Dataset]:
    def serve(name: str, **options: object) -> Dataset:
        folder = request.getfixturevalue("listened" if name == LISTEN else "read")
        serve_miniature(monkeypatch, folder)
        return load_dataset(name, **options)

    return serve


def _shown(subject: str, onset_s: Floats) -> Floats:
    """When words were shown: subject 02's computer was two milliseconds a word slower."""
    return np.round(8.0 + onset_s + (0.002 * np.arange(len(onset_s)) if subject == "02" else 0.0), 3)


def _triggers(shown_s: Floats, text: pd.Series, subject: str) -> Floats:
    """The lengths of the words for 50 ms each; subject 02's have a stuck bit, lack ten words and show one too many."""
    channel = np.zeros(_n_rows())
    for i, (moment_s, word) in enumerate(zip(shown_s, text, strict=True)):
        if subject == "01" or not 100 <= i < 110:
            channel[round(moment_s * RATE_HZ) : round(moment_s * RATE_HZ) + 10] = len(word)
    if subject == "02":
        channel[round(4 * RATE_HZ) : round(4 * RATE_HZ) + 10] = 9
        channel += 2048
    return channel


def _real(real: Path, task: str) -> Path:
    return real / ("lpp_meg_listen_ds007523" if task == "listen" else "lpp_meg_read_ds007524")


def _events(real: Path, task: str) -> pd.DataFrame:
    path = _real(real, task) / "sub-01" / "ses-01" / "meg" / f"sub-01_ses-01_task-{task}_run-01_events.tsv"
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)


def _text(events: pd.DataFrame) -> str:
    ends = np.diff(events["onset"].astype(float)) > 0.5
    words = events["stimulus"].tolist()
    return "".join(word + ("\n" if end else " ") for word, end in zip(words, [*ends, True], strict=True))


def _stem(folder: Path, subject: str, task: str) -> Path:
    return folder / f"sub-{subject}" / "ses-01" / "meg" / f"sub-{subject}_ses-01_task-{task}_run-01"


def _n_rows() -> int:
    return round((LENGTH_S + 20) * RATE_HZ)


def _write_run(stem: Path, signal: Floats, skipped_s: float, triggers: Floats | None = None) -> None:
    """Four sensors with what is planted, two with a slow wave that tells the time, and a trigger channel."""
    info = helmet("neuromag", every=51)
    times_s = np.arange(len(signal)) / RATE_HZ
    waves = [np.sin(2 * np.pi * SLOW_HZ * times_s), np.cos(2 * np.pi * SLOW_HZ * times_s)]
    with info._unlock():
        info["sfreq"] = RATE_HZ
    raw = mne.io.RawArray(
        np.vstack([signal.T, *waves]) * 1e-12, info, first_samp=round(skipped_s * RATE_HZ), verbose="error"
    )
    if triggers is not None:
        stim = mne.io.RawArray(
            triggers[None], mne.create_info(["STI101"], RATE_HZ, "stim"), first_samp=raw.first_samp, verbose="error"
        )
        raw.add_channels([stim], force_update_info=True)
    raw.save(f"{stem}_meg.fif", fmt="double", verbose="error")
    channels = pd.DataFrame({"name": raw.ch_names, "type": "MEGMAG", "status": "good"})
    channels.to_csv(f"{stem}_channels.tsv", sep="\t", index=False)


def test_what_was_heard_is_the_text_with_its_case_and_punctuation_at_the_times_of_the_tokens(served) -> None:
    stimulus = served(LISTEN).stimuli["part-1"]
    words = stimulus.words
    assert words["text"].tolist()[:6] == ["Lorsque", "j'avais", "six", "ans,", "j'ai", "vu,"]
    assert words["onset"].tolist()[:3] == [3.05, 3.42, 3.93]
    assert words["duration"].iloc[1] == pytest.approx(3.53 + 0.23 - 3.42)
    assert words["sentence"].iloc[0] == 0
    assert (np.diff(words["sentence"]) >= 0).all()
    assert stimulus.language == "fr"
    assert not words["text"].str.strip().eq("").any()


@pytest.mark.parametrize("subject", ["01", "02"])
def test_rows_are_at_the_moments_that_the_events_of_the_recording_give(served, subject: str) -> None:
    [recording] = served(LISTEN, subjects=[subject]).recordings()
    response = recording.response()
    times_s = recording.clock.times(len(response))
    expected_s = _lagging(times_s) if subject == "02" else times_s + 12.124
    phase = np.unwrap(np.arctan2(response[:, 4], response[:, 5])) / (2 * np.pi * SLOW_HZ)
    near_words = (times_s > 3.5) & (times_s < 140) & (np.abs(times_s - 60) > 1)
    off_s = phase - expected_s
    off_s = off_s - np.round(off_s * SLOW_HZ) / SLOW_HZ
    # The real events move 7 ms against the sound.
    assert np.percentile(np.abs(off_s[near_words]), 95) < (1e-3 if subject == "02" else 6e-3)
    assert recording.offset_s == 0.0
    codes = [finding.code for finding in recording.findings]
    assert ("clock-warp" in codes) == (subject == "02")


@pytest.mark.parametrize("name", [LISTEN, READ])
def test_the_planted_layers_are_found(served, name: str) -> None:
    data = served(name, options={"signals": {"picks": helmet("neuromag", every=51).ch_names[:4]}})
    check_planted_layers(data, LAYERS)


def test_what_was_read_has_the_pace_of_the_screen_and_not_that_of_the_events(served) -> None:
    words = served(READ).stimuli["part-1"].words
    steps_s = np.diff(words["onset"])
    assert words["text"].tolist()[:4] == ["Lorsque", "j'avais", "six", "ans,"]
    assert '"les' in words["text"].tolist()
    assert np.unique(steps_s.round(4)).tolist() == [0.2667, 0.7167]
    np.testing.assert_array_equal(np.diff(words["sentence"]), steps_s > 0.5)


@pytest.mark.parametrize("subject", ["01", "02"])
def test_what_was_read_is_placed_at_the_triggers(served, subject: str) -> None:
    data = served(READ, subjects=[subject])
    assert isinstance(data, LittlePrinceMegRead)
    [recording] = data.recordings()
    [run] = data.all_runs() if subject == "01" and len(data.all_runs()) == 1 else data._chosen_runs
    onset_s = data.stimuli["part-1"].words["onset"].to_numpy()
    times = data.times_of(run, lambda: mne.io.read_raw_fif(data.archive.place(run.responses[0]), verbose="error"))
    np.testing.assert_allclose(times.to_recording(onset_s), _shown(subject, onset_s), atol=1 / RATE_HZ)
    assert len(times.stimulus_s) == 400 - 10 * (subject == "02")
    assert ("clock-warp" in [finding.code for finding in recording.findings]) == (subject == "02")
    assert any(step.startswith("placed at the times of") for step in recording.steps)


def test_runs_that_are_left_out_and_missing_are_named() -> None:
    data = load_dataset(LISTEN, subjects=["21", "23", "56"])
    found = [(finding.code, finding.where) for finding in data.findings]
    assert found == [
        ("left-out-run", "subject 21, run 8"),
        *(("left-out-run", f"subject 23, run {number}") for number in (1, 2, 3, 4)),
        ("missing-run", "subject 56, run 2"),
    ]
    assert len(load_dataset(LISTEN).all_runs()) == 521 - 5
    assert len(load_dataset(READ).all_runs()) == 450


def test_an_unknown_subject_is_an_error_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match="Did you mean"):
        load_dataset(LISTEN, subjects=["021"])


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda stem: Path(f"{stem}_events.tsv").unlink(), "events.tsv"),
        (lambda stem: _replace(f"{stem}_events.tsv", "stimulus", "text"), "no column 'stimulus'"),
        (lambda stem: Path(f"{stem}_meg.fif").write_bytes(b"/annex/objects/SHA256E-s5--abc.fif"), "not downloaded"),
        (lambda stem: Path(f"{stem}_meg.fif").write_bytes(Path(f"{stem}_meg.fif").read_bytes()[:300]), "_meg.fif"),
        (lambda stem: _shift(f"{stem}_events.tsv", 100.0), "of a recording of"),
        (lambda stem: _shuffle(f"{stem}_events.tsv"), "recording of this stimulus"),
    ],
    ids=["no events", "no column", "annexed", "damaged", "past the end", "other events"],
)
def test_what_is_wrong_with_a_users_copy_is_named(
    listened: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Path], object], message: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(listened, folder)
    harm(_stem(folder, "01", "listen"))
    monkeypatch.setattr("brainalign.archives.archive.remote_files", lambda manifest: {})
    data = load_dataset(LISTEN, root=folder, subjects=["01"])
    with pytest.raises(BrainalignError, match=message):
        data.recordings()


def test_triggers_that_are_not_of_these_words_are_an_error(read: Path, tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(read, folder)
    stem = _stem(folder, "01", "read")
    Path(f"{stem}_meg.fif").unlink()
    channel = np.zeros(_n_rows())
    channel[:: round(0.3 * RATE_HZ)] = 4
    _write_run(stem, np.random.default_rng(0).normal(size=(_n_rows(), 4)), 3.0, channel)
    monkeypatch.setattr("brainalign.archives.archive.remote_files", lambda manifest: {})
    with pytest.raises(DataError, match="triggers of STI101"):
        load_dataset(READ, root=folder, subjects=["01"]).recordings()


def _replace(path: str, old: str, new: str) -> None:
    Path(path).write_text(Path(path).read_text().replace(old, new))


def _shift(path: str, seconds: float) -> None:
    table = pd.read_csv(path, sep="\t", dtype=str)
    table.assign(onset=table["onset"].astype(float) + seconds).to_csv(path, sep="\t", index=False)


def _shuffle(path: str) -> None:
    table = pd.read_csv(path, sep="\t", dtype=str)
    table.assign(onset=table["onset"].to_numpy()[::-1]).to_csv(path, sep="\t", index=False)
