"""The Alice set: its clock, its words, its gaps."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from brainalign.datasets import Alice, check_recording, load_dataset
from brainalign.errors import ChecksumError, RecipeError, UnreachableError
from brainalign.manifests import read_manifest

FACTS = read_manifest("alice").facts
STIMULUS = "alice-chapter-1"


@pytest.fixture
def mirror(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BRAINALIGN_MIRROR", str(shared / "datasets"))
    return shared / "datasets" / "alice"


def test_all_of_it_has_the_documented_shape(mirror: Path) -> None:
    alice = Alice()
    recordings = alice.recordings()
    assert [recording.subject for recording in recordings] == FACTS["subjects"]
    for recording in recordings:
        assert recording.response().shape == (362, 6)
        assert recording.confounds().shape == (362, 6)
        assert recording.regressors().columns.tolist() == ["sound_envelope"]
        assert len(recording.regressors()) == 362
    assert len({recording.digest for recording in recordings}) == 28


def test_words_are_those_of_the_archive(mirror: Path) -> None:
    words = Alice().stimuli[STIMULUS].words
    assert len(words) == 2127
    assert words["text"].tolist()[:4] == ["Alice", "was", "beginning", "to"]
    assert words["onset"].iloc[0] == pytest.approx(20.0589, abs=1e-4)
    assert "n't" in set(words["text"])
    assert "sp" not in set(words["text"])
    assert not words["text"].str.contains(" ").any()


def test_only_what_is_asked_for_is_fetched(mirror: Path, own_cache: Path) -> None:
    alice = Alice(subjects=("s18",), radius_mm=10)
    assert alice.subjects == ("s18",)
    assert not (own_cache / "datasets").exists()
    alice.recordings()
    fetched = [str(path.relative_to(own_cache)) for path in own_cache.rglob("*.txt")]
    assert sorted(path.split("/")[-1].split("-")[1][:2] for path in fetched) == ["rp", "sn", "ti"]
    assert any("10mm/s18" in path for path in fetched)
    [finding] = alice.fetch()
    assert finding.message.startswith("5 files")
    assert alice.fetch() == []


def test_word_rate_on_our_clock_is_the_archives_own(mirror: Path) -> None:
    """The archive ships the word rate, convolved with SPM's response; it leaves out the subjects' onsets."""
    from nilearn.glm.first_level import spm_hrf

    alice = Alice(subjects=("s38",))
    [recording] = alice.recordings()
    shipped = np.loadtxt(mirror / "alice_data_shared" / "s38-rate.txt")
    step_s = 0.05
    grid_s = np.arange(0, 800, step_s)
    onset_s = alice.stimuli[STIMULUS].words["onset"] + recording.offset_s
    counts = np.histogram(onset_s, np.r_[grid_s, grid_s[-1] + step_s])[0]
    rate = np.convolve(counts, spm_hrf(step_s, oversampling=1, time_length=32))[: len(grid_s)]

    def correlation(shift_s: float) -> float:
        sampled = np.interp(recording.clock.times(362) + shift_s, grid_s, rate)
        return float(np.corrcoef(sampled, shipped)[0, 1])

    assert correlation(0.0) > 0.985
    assert max(correlation(-2.0), correlation(2.0)) < 0.9
    shifts_s = np.arange(-2, 2.01, 0.25)
    assert abs(shifts_s[np.argmax([correlation(shift_s) for shift_s in shifts_s])]) <= 0.25


def test_the_sound_starts_late_in_the_scan_by_the_subjects_onset(mirror: Path) -> None:
    late, soon = Alice(subjects=("s42", "s26")).recordings()
    assert (late.subject, late.offset_s) == ("s26", 0.837)
    assert (soon.subject, soon.offset_s) == ("s42", 0.0033)
    assert late.clock == soon.clock
    np.testing.assert_array_equal(late.clock.times(362)[[0, 361]], [20.0, 742.0])


def test_the_subject_of_zeros_is_found_and_no_other(mirror: Path) -> None:
    alice = Alice()
    stimulus = alice.stimuli[STIMULUS]
    found = {r.subject: check_recording(r, r.response(), stimulus) for r in alice.recordings()}
    assert {subject: [f.code for f in findings] for subject, findings in found.items() if findings} == {
        "s33": ["empty-recording"]
    }
    assert "s33" in str(found["s33"][0])


def test_defaults_are_named_and_are_the_medians_of_their_protocol() -> None:
    findings = Alice().findings
    assert [finding.where for finding in findings if finding.code == "default-onset"] == [
        f"subject {name}" for name in ("s33", "s40", "s46", "s52")
    ]
    [motion] = [finding for finding in findings if finding.code == "motion-rows"]
    assert "s33" in motion.where
    assert "371" in motion.message
    single = [onset for subject, onset in FACTS["audio_onset_s"].items() if subject < "s38"]
    multi = [onset for subject, onset in FACTS["audio_onset_s"].items() if subject >= "s38"]
    assert FACTS["default_audio_onset_s"] == {
        "s33": np.median(single),
        **dict.fromkeys(("s40", "s46", "s52"), np.median(multi)),
    }
    assert {*FACTS["audio_onset_s"], *FACTS["default_audio_onset_s"]} == set(FACTS["subjects"])
    assert Alice(subjects=("s18",)).findings == []


def test_onsets_are_those_of_the_archive(shared: Path) -> None:
    rows = (shared / "datasets/alice/audio_onset_ds002322.tsv").read_text().split("\n")[1:]
    shipped = dict(row.split("\t") for row in rows if row)
    assert {subject: float(onset) for subject, onset in shipped.items() if onset != "n/a"} == FACTS["audio_onset_s"]


def test_the_table_of_files_is_that_of_the_archive(shared: Path) -> None:
    theirs = set((shared / "datasets/alice/files.tsv").read_text().splitlines())
    ours = read_manifest("alice").file_table()
    lines = {f"{row.path}\t{row.bytes}\t{row.checksum}" for row in ours.itertuples()}
    assert lines < theirs


def test_motion_drops_the_volumes_that_were_discarded(mirror: Path) -> None:
    [recording] = Alice(subjects=("s18",)).recordings()
    [path] = (mirror / "alice_data_shared").glob("s18-rp_*.txt")
    np.testing.assert_array_equal(recording.confounds().to_numpy(), np.loadtxt(path)[10:])


def test_regions_and_radius_choose_columns_and_file(mirror: Path) -> None:
    [both] = Alice(subjects=("s18",), regions=("LIFG", "LATL")).recordings()
    [wide] = Alice(subjects=("s18",), radius_mm=10).recordings()
    [usual] = Alice(subjects=("s18",)).recordings()
    assert both.targets["name"].tolist() == ["LATL", "LIFG"]
    np.testing.assert_array_equal(both.response(), usual.response()[:, [0, 5]])
    assert not np.array_equal(wide.response(), usual.response())
    assert len({both.digest, wide.digest, usual.digest}) == 3


def test_the_users_folder_is_used_and_verified(shared: Path, tmp_path: Path, own_cache: Path) -> None:
    shutil.copytree(shared / "datasets" / "alice", tmp_path / "mine")
    alice = load_dataset("alice", root=tmp_path / "mine", subjects=["s18"])
    assert alice.recordings()[0].response().shape == (362, 6)
    assert not (own_cache / "datasets").exists()
    path = tmp_path / "mine" / "alice_data_shared" / "6mm" / "s18-timecourses.txt"
    path.write_text(path.read_text().replace("1", "2", 1))
    with pytest.raises(ChecksumError, match=r"s18-timecourses\.txt: expected SHA-256"):
        alice.recordings()


def test_a_recording_travels_to_another_process(mirror: Path) -> None:
    [recording] = Alice(subjects=("s18",)).recordings()
    there = pickle.loads(pickle.dumps(recording))
    np.testing.assert_array_equal(there.response(), recording.response())
    assert there.confounds().equals(recording.confounds())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"subjects": ("s17",)}, "no subject 's17'. Did you mean"),
        ({"regions": ("LATLL",)}, "Did you mean 'LATL'"),
        ({"radius_mm": 8}, "6 or 10, not 8"),
    ],
)
def test_what_is_not_in_the_set_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Alice(**settings)


def test_no_stimulus_asked_for_is_no_recording_and_an_unknown_one_an_error() -> None:
    assert Alice().recordings(stimuli=[]) == []
    with pytest.raises(RecipeError, match="no stimulus 'chapter-2'"):
        Alice().recordings(stimuli=["chapter-2"])


def test_an_unreachable_archive_says_how_to_name_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    dead = read_manifest("alice").model_copy(update={"sources": {"archive": "http://127.0.0.1:9/{path}"}})
    monkeypatch.setattr("brainalign.archives.archive.read_manifest", lambda name: dead)
    with pytest.raises(UnreachableError, match="BRAINALIGN_MIRROR may name"):
        Alice(subjects=("s18",)).fetch()
