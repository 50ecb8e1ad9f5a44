"""A check finds what is wrong with files, clocks and signals, says it by a stable code, and downloads nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from brainalign.alignment import resampling_matrix
from brainalign.datasets import load_dataset
from brainalign.errors import DataError
from brainalign.pipeline.inspection import inspect
from brainalign.simulate import InMemory
from brainalign.types import Clock, Finding, Floats, Recording, Stimulus

FOLDER = "alice_data_shared"


def speech(n_words: int = 500, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    pace = 0.35 * (1 + 0.6 * np.sin(np.arange(n_words) / 20)) + random.exponential(0.08, n_words)
    return pd.DataFrame({"onset": np.cumsum(pace), "duration": 0.2, "text": "word"})


STORY = Stimulus("story", speech(), findings=(Finding("filled-times", "story", "two words had no times."),))
CLOCK = Clock(2.0)


def fmri(subject: str, seed: int, late_s: float = 0.0, targets: tuple[str, ...] = ("A1", "STG", "V1")) -> Recording:
    """A subject who heard the story, `late_s` later than the recording says."""
    random = np.random.default_rng(seed)
    onset_s = 10.0 + late_s + STORY.words["onset"].to_numpy()
    rate = resampling_matrix(onset_s, STORY.words["duration"].to_numpy(), CLOCK, 130, "hrf").sum(axis=1)
    response = 200 + 2 * rate[:, None] / rate.std() + random.normal(size=(130, len(targets)))
    table = pd.DataFrame({"name": targets, "kind": "region"})
    return Recording(subject, "1", "story", "fmri", CLOCK, 10.0, table, lambda: response, "", steps=("detrended",))


def changed(recording: Recording, change: Callable[[Floats], Floats]) -> Recording:
    response = change(recording.response().copy())
    return replace(recording, read=lambda: response)


def study(*recordings: Recording) -> InMemory:
    return InMemory("mine", "Mine", recordings[0].modality, {"story": STORY}, recordings)


def codes(*recordings: Recording) -> set[str]:
    return {finding.code for finding in inspect(study(*recordings)).findings}


def test_a_study_without_fault_has_no_findings_but_its_own() -> None:
    found = inspect(study(*(fmri(subject, seed) for seed, subject in enumerate("abc"))))
    assert {finding.code for finding in found.findings} == {"filled-times"}
    assert found.files is None
    facts = found.recordings[0]
    assert (facts.n_rows, facts.n_targets, facts.duration_s, facts.rate_hz) == (130, 3, 260.0, 0.5)
    assert facts.first_word_s == pytest.approx(10 + STORY.words["onset"].iloc[0])
    assert facts.last_word_s == pytest.approx(10 + STORY.words["onset"].iloc[-1])
    assert (facts.n_words, facts.n_words_outside, facts.nan_share, facts.n_constant) == (500, 0, 0.0, 0)
    assert facts.signal_to_drift is not None
    assert facts.signal_to_drift > 50
    assert facts.steps == ("detrended",)
    (shared,) = found.shared
    assert set(shared["subjects"]) == set("abc")
    assert shared["lowest"] > 0.7
    assert found.word_rate is not None
    assert abs(found.word_rate["peak_s"]) <= 1


def test_a_start_that_is_wrong_is_found_in_the_word_rate() -> None:
    assert "W216" in codes(*(fmri(subject, seed, late_s=6.0) for seed, subject in enumerate("abc")))


def test_the_one_subject_whose_start_is_wrong_is_named() -> None:
    right = [fmri(subject, seed) for seed, subject in enumerate("abcd")]
    found = inspect(study(*right, fmri("late", 9, late_s=7.0)))
    assert [finding.where for finding in found.findings if finding.code == "W216"] == ["subject late, run 1"]


def test_a_subject_who_heard_something_else_is_unlike_the_others() -> None:
    random = np.random.default_rng(5)
    other = changed(fmri("other", 7), lambda y: random.normal(size=y.shape))
    found = inspect(study(*(fmri(subject, seed) for seed, subject in enumerate("abcd")), other))
    assert [finding.where for finding in found.findings if finding.code == "unlike-others"] == ["subject other"]


def with_nan(response: Floats) -> Floats:
    response[3, 0] = np.nan
    return response


def with_constant(response: Floats) -> Floats:
    response[:, 1] = 5.0
    return response


def test_dead_empty_and_copied_recordings_are_found() -> None:
    a, b, c = (fmri(subject, seed) for seed, subject in enumerate("abc"))
    found = inspect(study(changed(a, with_nan), changed(b, with_constant), changed(c, np.zeros_like)))
    assert [facts.findings for facts in found.recordings] == [
        ("nonfinite-target",),
        ("constant-target",),
        ("empty-recording",),
    ]
    assert found.recordings[0].nan_share == pytest.approx(1 / (130 * 3))
    assert [facts.n_constant for facts in found.recordings] == [0, 1, 3]
    twin = inspect(study(a, replace(a, subject="twin")))
    assert [str(f.where) for f in twin.findings if f.code == "identical-response"] == ["subject twin, run 1"]


def test_words_outside_the_recording_are_counted() -> None:
    short = changed(fmri("a", 0), lambda y: y[:60])
    assert codes(short) >= {"words-past-end"}
    found = inspect(study(short, replace(fmri("b", 1), clock=Clock(2.0, 30.0))))
    n_past = int((STORY.words["onset"] + 10 >= 120).sum())
    n_before = int((STORY.words["onset"] + 10 < 30).sum())
    assert [facts.n_words_outside for facts in found.recordings] == [n_past, n_before]
    assert "words-before-start" in found.recordings[1].findings


def test_what_cannot_be_read_is_told_and_the_rest_is_read() -> None:
    def broken() -> Floats:
        raise OSError("truncated at byte 12")

    found = inspect(study(fmri("a", 0), replace(fmri("b", 1), read=broken)))
    assert [facts.subject for facts in found.recordings] == ["a"]
    assert any(f.code == "unreadable" and "truncated at byte 12" in f.message for f in found.findings)
    with pytest.raises(DataError, match="truncated at byte 12"):
        inspect(study(replace(fmri("b", 1), read=broken)))


def test_targets_in_brains_of_their_own_are_not_compared() -> None:
    space = {"kind": "volume", "unit": "mm", "template": None}
    own = [replace(fmri(subject, seed), space=space) for seed, subject in enumerate("ab")]
    assert inspect(study(*own)).shared == ()
    standard = [replace(recording, space={**space, "template": "MNI152NLin6Asym"}) for recording in own]
    assert len(inspect(study(*standard)).shared) == 1


@pytest.mark.parametrize(("at_s", "expected"), [(0.3, set()), (-0.3, {"odd-latency"})])
def test_sensors_that_answer_before_the_word_are_found(at_s: float, expected: set[str]) -> None:
    clock = Clock(0.01)
    times = clock.times(24_000)
    bumps = sum(np.exp(-0.5 * ((times - 10 - onset - at_s) / 0.03) ** 2) for onset in STORY.words["onset"])
    response = np.outer(bumps, [1.0, -1.0]) + 0.5 * np.random.default_rng(0).normal(size=(24_000, 2))
    table = pd.DataFrame({"name": ["M1", "M2"], "kind": "mag"})
    meg = Recording("a", "1", "story", "meg", clock, 10.0, table, lambda: response, "")
    found = inspect(study(meg))
    assert {finding.code for finding in found.findings} - {"filled-times"} == expected
    assert found.word_response is not None
    assert found.word_response["peak_s"] == pytest.approx(at_s, abs=0.02)
    assert found.word_rate is None


def test_the_record_is_json_without_nan() -> None:
    found = inspect(study(fmri("a", 0), changed(fmri("b", 1), with_constant), fmri("c", 2)))
    text = json.dumps(found.record(), allow_nan=False)
    assert json.loads(text)["recordings"][1]["findings"] == ["constant-target"]


@pytest.fixture
def alice_here(shared: Path, own_cache: Path) -> Path:
    """The files of three subjects of Alice in the cache."""
    folder = own_cache / "datasets" / "alice"
    for path in load_dataset("alice", subjects=["s18", "s22", "s23"]).files():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(shared / "datasets" / "alice" / path, folder / path)
    return folder


def test_files_that_are_missing_or_damaged_are_told_and_nothing_is_downloaded(
    alice_here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a check must not fetch")

    monkeypatch.setattr("brainalign.archives.archive.fetch_all", refuse)
    missing, damaged = alice_here / FOLDER / "6mm/s22-timecourses.txt", alice_here / FOLDER / "6mm/s23-timecourses.txt"
    missing.unlink()
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-2] + b"7\n")
    found = inspect(load_dataset("alice", subjects=["s18", "s22", "s23"]))
    assert [facts.subject for facts in found.recordings] == ["s18"]
    assert (found.count("missing"), found.count("damaged")) == (1, 1)
    by_code = {finding.code: finding.message for finding in found.findings}
    assert "s22-timecourses.txt" in by_code["missing-file"]
    assert "s23-timecourses.txt" in by_code["damaged-file"]
    assert all(file.is_verified for file in found.files or () if file.state == "here")


def test_where_nothing_is_here_the_message_says_how_to_get_it() -> None:
    with pytest.raises(DataError, match="brainalign fetch alice"):
        inspect(load_dataset("alice"))
    found = inspect(load_dataset("alice"), responses=False)
    assert found.count("missing") == len(found.files or ())
    assert found.recordings == ()


def test_alice_is_as_it_was_measured(shared: Path) -> None:
    """Leave-one-out correlations of .20 to .45, one recording of zeros, and the word rate at its place."""
    found = inspect(load_dataset("alice", root=shared / "datasets" / "alice"))
    (entry,) = found.shared
    assert 0.20 <= entry["lowest"] < entry["highest"] <= 0.45
    assert len(entry["subjects"]) == 27
    assert [facts.subject for facts in found.recordings if "empty-recording" in facts.findings] == ["s33"]
    assert found.word_rate is not None
    assert abs(found.word_rate["peak_s"]) <= 1
    assert {finding.code for finding in found.findings} == {"default-onset", "motion-rows", "empty-recording"}
