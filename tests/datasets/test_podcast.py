"""The Podcast ECoG set: real words, channels and places, with planted envelopes and potentials."""

from __future__ import annotations

import shutil
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
from brainalign_cli.main import _exit_code
from miniatures import LAYERS, MODEL, check_planted_layers, planted_signal, serve_miniature
from recordings import write_edf, write_fif

from brainalign.datasets import load_dataset
from brainalign.errors import ChecksumError, DataError, RecipeError
from brainalign.types import Stimulus

RATE_HZ = 512
LENGTH_S = 200
# Four channels follow the words, the fifth is a wave that tells the time.
NAMES = {"01": ["G2", "G3", "G4", "G5", "G6"], "03": ["LGA2", "LGA3", "LGA4", "LGA5", "LGA6"]}
BAD = {"01": "G1", "03": "LGA1"}
WAVE_HZ = 3.0
SPACE = "space-MNI152NLin2009aSym"


@pytest.fixture(scope="module")
def transcript(shared: Path) -> pd.DataFrame:
    """The real words of the first minutes, in the transcript's own order."""
    path = shared / "datasets/real/ds005574_podcast/stimuli/spectral/transcript.tsv"
    table = pd.read_csv(path, sep="\t", keep_default_na=False)
    return table[table["end"] < LENGTH_S - 2]


@pytest.fixture(scope="module")
def truth(transcript: pd.DataFrame) -> Stimulus:
    ordered = transcript.sort_values("start", kind="stable", ignore_index=True)
    columns = {"onset": ordered["start"], "duration": ordered["end"] - ordered["start"], "text": ordered["word"]}
    return Stimulus("podcast", pd.DataFrame(columns))


@pytest.fixture(scope="module")
def archive(shared: Path, transcript: pd.DataFrame, truth: Stimulus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two subjects' real tables in the layout of ds005574; recordings of a few of their channels."""
    folder = tmp_path_factory.mktemp("mirror") / "podcast"
    (folder / "stimuli" / "spectral").mkdir(parents=True)
    transcript.to_csv(folder / "stimuli/spectral/transcript.tsv", sep="\t", index=False)
    times = np.arange(LENGTH_S * RATE_HZ) / RATE_HZ
    for seed, (subject, names) in enumerate(NAMES.items()):
        stem = f"sub-{subject}/ieeg/sub-{subject}"
        (folder / stem).parent.mkdir(parents=True)
        for name in (f"{SPACE}_electrodes.tsv", f"{SPACE}_coordsystem.json", "task-podcast_channels.tsv"):
            shutil.copyfile(shared / f"datasets/real/ds005574_podcast/{stem}_{name}", folder / f"{stem}_{name}")
        signal = planted_signal(truth, truth.words["onset"].to_numpy(), RATE_HZ, len(times), seed=seed)
        values = np.vstack([signal.T, np.sin(2 * np.pi * WAVE_HZ * times)])
        info = mne.create_info(names, RATE_HZ, "ecog")
        envelope = folder / f"derivatives/ecogprep/{stem}_task-podcast_desc-highgamma_ieeg.fif"
        envelope.parent.mkdir(parents=True)
        write_fif(envelope, values, RATE_HZ, info)
        # The potentials have also a channel that is bad, and one that is none of the brain's.
        raw = np.vstack([values, np.zeros_like(times), np.sin(times)]) * 1e-4
        write_edf(folder / f"{stem}_task-podcast_ieeg.edf", raw, RATE_HZ, [*names, BAD[subject], "DC1"], 1e-3)
    return folder


@pytest.fixture
def served(archive: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    serve_miniature(monkeypatch, archive)
    return archive


def test_words_stand_in_the_order_in_which_they_begin(served: Path, truth: Stimulus) -> None:
    stimulus = load_dataset("podcast").stimuli["podcast"]
    pd.testing.assert_frame_equal(stimulus.words, truth.words, check_dtype=False)
    # "... snakes and", and into it another voice: "Oh man".
    [finding] = stimulus.findings
    assert (finding.code, finding.message) == (
        "reordered-words",
        f"two voices at once: 2 of {len(truth.words)} words stand elsewhere than in the transcript.",
    )


@pytest.mark.parametrize("response", ["highgamma", "raw"])
def test_rows_are_at_the_podcasts_times_and_targets_at_their_places_in_the_standard_brain(
    served: Path, shared: Path, response: str
) -> None:
    options = {"response": response, "signals": {"rate_hz": 100.0}}
    for recording in load_dataset("podcast", options=options).recordings():
        values = recording.response()
        names = NAMES[recording.subject]
        scale = 1.0 if response == "highgamma" else 1e-4
        times = recording.clock.times(len(values)) - recording.offset_s
        # A thousandth of a second would be a fiftieth of the wave's height.
        inside = slice(50, -50)
        np.testing.assert_allclose(values[inside, 4] / scale, np.sin(2 * np.pi * WAVE_HZ * times)[inside], atol=0.005)
        assert recording.targets["name"].tolist() == names
        assert set(recording.targets["kind"]) == {"ecog"}
        stem = f"datasets/real/ds005574_podcast/sub-{recording.subject}/ieeg/sub-{recording.subject}"
        places = pd.read_csv(shared / f"{stem}_{SPACE}_electrodes.tsv", sep="\t").set_index("name")
        np.testing.assert_allclose(recording.targets[["x", "y", "z"]], places.loc[names, ["x", "y", "z"]])
        assert recording.space == {
            "kind": "electrodes", "unit": "mm", "frame": "mni", "template": "MNI152NLin2009aSym"
        }  # fmt: skip
        assert len(values) == LENGTH_S * 100
        assert recording.modality == "ecog"


def test_bad_channels_are_told_with_their_reasons_and_electrodes_without_a_channel(served: Path) -> None:
    first, third = load_dataset("podcast").recordings()
    assert [finding.code for finding in first.findings] == ["bad-channels"]
    assert "(7 no localization, 4 noisy psd)" in first.findings[0].message
    assert [finding.code for finding in third.findings] == ["bad-channels", "unmatched-electrodes"]
    assert third.findings[1].message.startswith("14 electrodes")
    [raw] = load_dataset("podcast", subjects=["01"], options={"response": "raw"}).recordings()
    assert any("bad channels left out: G1" in finding.message for finding in raw.findings)
    kept = {"response": "raw", "signals": {"bad_channels": "keep"}}
    [raw] = load_dataset("podcast", subjects=["01"], options=kept).recordings()
    # No place is known of it, so that it is kept without.
    assert raw.targets.set_index("name").loc["G1", ["x", "y", "z"]].isna().all()
    assert "unplaced-electrodes" in [finding.code for finding in raw.findings]


def test_what_changes_the_response_changes_its_digest(served: Path) -> None:
    several = [{}, {"response": "raw"}, {"signals": {"rate_hz": 50.0}}]
    digests = [load_dataset("podcast", subjects=["01"], options=o).recordings()[0].digest for o in several]
    assert len(set(digests)) == len(several)


@pytest.mark.parametrize("subject", list(NAMES))
def test_the_planted_layers_are_found(served: Path, subject: str) -> None:
    picks = NAMES[subject][: len(LAYERS)]
    check_planted_layers(load_dataset("podcast", subjects=[subject], options={"signals": {"picks": picks}}))


@pytest.mark.slow
def test_the_command_finds_the_planted_layer(served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    planted = 2
    Path("recipe.yaml").write_text(
        f"""\
title: Podcast
dataset:
  name: podcast
  subjects: ["01"]
  signals: {{picks: [{NAMES["01"][LAYERS.index(planted)]}]}}
features:
  - {{kind: toy_model, n_layers: {MODEL.n_layers}, dimension: {MODEL.dimension}}}
baseline: [word_length]
alignment: {{tmin_s: 0.0, tmax_s: 0.5, sfreq_hz: 25.0, band_hz: [0.5, 10.0]}}
"""
    )
    assert _exit_code(["run", "recipe.yaml", "--jobs", "1", "--quiet", "--out", "results"]) == 0
    summary = pd.read_csv("results/summary.csv")
    layers = summary[summary["feature_space"] != "baseline"].reset_index(drop=True)
    assert len(layers) == MODEL.n_layers + 1
    assert layers["layer"][layers["r"].idxmax()] == planted


def broken_copy(archive: Path, folder: Path, path: str, content: bytes) -> Path:
    """A user's own copy of the archive's file, with other content."""
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("path", "content", "error", "message"),
    [
        ("stimuli/spectral/transcript.tsv", b"index\tword\n0\tAct\n", ChecksumError, "transcript"),
        (
            "derivatives/ecogprep/sub-01/ieeg/sub-01_task-podcast_desc-highgamma_ieeg.fif",
            b"/annex/objects/SHA256E-s364997794--c68a.fif\n",
            DataError,
            "highgamma.*not downloaded",
        ),
    ],
    ids=["damaged", "a placeholder"],
)
def test_files_of_the_users_copy_that_are_not_the_archives_are_named(
    served: Path, tmp_path: Path, path: str, content: bytes, error: type[Exception], message: str
) -> None:
    root = broken_copy(served, tmp_path / "own", path, content)
    data = load_dataset("podcast", root=root, subjects=["01"])
    with pytest.raises(error, match=message):
        _ = data.recordings(), data.stimuli["podcast"]


@pytest.mark.parametrize(
    ("path", "old", "new", "message"),
    [
        ("stimuli/spectral/transcript.tsv", "word_idx", "words", "no column 'word_idx'"),
        ("stimuli/spectral/transcript.tsv", "1\t1\tone", "1\t0\tone", "line 3: the word_idx does not grow"),
        ("stimuli/spectral/transcript.tsv", "3.99\t4.19", "3.99\t3.19", "line 3: the end is before the start"),
        ("stimuli/spectral/transcript.tsv", "3.99\t4.19", "3.99\tlater", "line 3: end 'later' is not"),
        (f"sub-01/ieeg/sub-01_{SPACE}_coordsystem.json", "MNI152NLin2009aSym", "Other", "'Other', not"),
        (f"sub-01/ieeg/sub-01_{SPACE}_coordsystem.json", '"mm"', '"n/a"', "places are in 'n/a'"),
        ("sub-01/ieeg/sub-01_task-podcast_channels.tsv", "good", "fine", "line 3: the status is 'fine'"),
    ],
)
def test_tables_that_cannot_be_are_errors_that_name_them(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, old: str, new: str, message: str
) -> None:
    folder = tmp_path / "podcast"
    shutil.copytree(archive, folder)
    text = (folder / path).read_text(encoding="utf-8-sig")
    assert old in text
    (folder / path).write_text(text.replace(old, new, 1), encoding="utf-8")
    serve_miniature(monkeypatch, folder)
    data = load_dataset("podcast", subjects=["01"])
    with pytest.raises(DataError, match=message):
        _ = data.recordings(), data.stimuli["podcast"]


def test_who_and_what_there_is_not_is_told_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"podcast has no subject '010'\. Did you mean '01'"):
        load_dataset("podcast", subjects=["010"])
    with pytest.raises(RecipeError, match="highgamma"):
        load_dataset("podcast", options={"response": "lowgamma"})


def test_the_archive_has_nine_subjects_and_all_that_is_needed_of_each() -> None:
    for response in ("highgamma", "raw"):
        data = load_dataset("podcast", options={"response": response})
        assert data.subjects == tuple(f"0{i}" for i in range(1, 10))
        assert set(data.files(kinds=("responses", "words", "sound"))) <= set(data.archive.table)
