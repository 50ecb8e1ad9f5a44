"""Pereira et al. (2018): a miniature of Brain-Score's file, with responses planted sentence by sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from miniatures import MODEL, serve_miniature

from brainalign.alignment import Items
from brainalign.archives.remote_files import remote_files
from brainalign.datasets import load_dataset
from brainalign.encoding import Splits
from brainalign.errors import DataError, RecipeError
from brainalign.features import Baseline
from brainalign.manifests import read_manifest
from brainalign.pipeline import score_layers
from brainalign.types import Dataset, Floats, Stimulus

FILE = "assy_Pereira2018_language.nc"
LENGTHS = {"243sentences": 243, "384sentences": 384}
# One saw both, the others one of the two.
SEEN = {"018": ("243sentences", "384sentences"), "199": ("384sentences",), "215": ("243sentences",)}
PLANTED = (0, 1, 2, 3)
VOCABULARY = ["a", "the", "piano", "wooden", "keys", "can", "be", "played", "by", "bees", "make", "honey", "of", "wax"]


def sentences_of(experiment: str) -> list[str]:
    random = np.random.default_rng(LENGTHS[experiment])
    drawn = [random.choice(VOCABULARY, random.integers(5, 12)) for _ in range(LENGTHS[experiment])]
    return [f"{' '.join(words).capitalize()}." for words in drawn]


def planted_responses(experiment: str, subject: str) -> Floats:
    """What each sentence's last word leaves in each layer, one layer for each voxel, and a quarter of noise."""
    texts = [text.split() for text in sentences_of(experiment)]
    words = [word for text in texts for word in text]
    times = np.arange(len(words), dtype=float)
    stimulus = Stimulus(experiment, pd.DataFrame({"onset": times, "duration": 1.0, "text": words}))
    last = np.cumsum([len(text) for text in texts]) - 1
    values = MODEL.extract(stimulus).values[:, last]
    drives = np.stack(
        [values[layer] @ np.random.default_rng([3, layer]).normal(size=MODEL.dimension) for layer in PLANTED], axis=1
    )
    noise = np.random.default_rng(int(subject)).normal(size=drives.shape)
    return drives / drives.std(axis=0) + 0.5 * noise


def assembly() -> xr.DataArray:
    """An assembly as Brain-Score's packaging makes it: outer joins of subjects and experiments, NaN where unseen."""
    sentences = pd.concat(
        pd.DataFrame(
            {
                "experiment": name,
                "stimulus_num": np.arange(n),
                "sentence": sentences_of(name),
                "stimulus": sentences_of(name),
                # Passages of three sentences or four, which count from 1.
                "passage_index": np.arange(n) // (3 if n == 243 else 4) + 1,
                "passage_label": [f"thing {i // 4}" for i in range(n)],
                "stimulus_id": [f"{name}.{i}" for i in range(n)],
            }
        )
        for name, n in LENGTHS.items()
    )
    voxels = pd.DataFrame(
        {
            "subject": np.repeat(list(SEEN), len(PLANTED)),
            "voxel_num": np.tile([28, 29, 31, 1001], len(SEEN)),
            "filter_strategy": np.nan,
            "atlas_selection": "from90to100prcnt",
            "roi": np.tile(["LH_AntTemp", "LH_AntTemp", "LH_MFG", "RH_PostTemp"], len(SEEN)),
            "indices_in_3d": np.arange(len(PLANTED) * len(SEEN)) + 72_505,
            "col_to_coord_1": np.arange(len(PLANTED) * len(SEEN)) + 1,
            "col_to_coord_2": 63,
            "col_to_coord_3": 10,
        }
    )
    voxels["neuroid_id"] = voxels["subject"] + "." + voxels["voxel_num"].astype(str)
    values = np.full((len(sentences), len(voxels)), np.nan)
    for subject, experiments in SEEN.items():
        for experiment in experiments:
            place = np.ix_(sentences["experiment"] == experiment, voxels["subject"] == subject)
            values[place] = planted_responses(experiment, subject)
    # In the real file neither dimension need be in order.
    shuffled = np.random.default_rng(5).permutation(len(sentences))
    coords = {
        **{str(name): ("presentation", column.to_numpy(dtype=None)) for name, column in sentences.items()},
        **{str(name): ("neuroid", column.to_numpy(dtype=None)) for name, column in voxels.items()},
    }
    return xr.DataArray(values, coords=coords, dims=("presentation", "neuroid"), name="data").isel(
        presentation=shuffled
    )


def write(data: xr.DataArray, path: Path) -> None:
    """As Brain-Score's `write_netcdf`: the MultiIndex reset, the values compressed."""
    indexed = data.set_index(
        presentation=[str(name) for name in data.coords if data[name].dims == ("presentation",)],
        neuroid=[str(name) for name in data.coords if data[name].dims == ("neuroid",)],
    )
    flat = indexed.reset_index(["presentation", "neuroid"]).to_dataset(name="data")
    path.parent.mkdir(parents=True, exist_ok=True)
    flat.to_netcdf(path, engine="h5netcdf", encoding={"data": {"zlib": True, "complevel": 9}})


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mirror") / "pereira2018"
    write(assembly(), folder / FILE)
    return folder


@pytest.fixture
def served(archive: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    serve_miniature(monkeypatch, archive)
    return archive


def pereira2018(subjects: tuple[str, ...] | None = None, **options: Any) -> Dataset:
    return load_dataset("pereira2018", subjects=subjects, options=options)


# What is given back


@pytest.mark.usefixtures("served")
def test_sentences_come_in_order_their_words_sharing_an_item() -> None:
    data = pereira2018()
    assert data.rows == "items"
    for experiment, n_sentences in LENGTHS.items():
        words = data.stimuli[experiment].words
        found = words.groupby("item")["text"].agg(" ".join).tolist()
        assert found == sentences_of(experiment)
        assert words["sentence"].tolist() == words["item"].tolist()
        assert np.floor(words["onset"]).tolist() == words["item"].tolist()
        ends = (words["onset"] + words["duration"]).groupby(words["item"]).max()
        np.testing.assert_allclose(ends, np.arange(n_sentences) + 1)


@pytest.mark.usefixtures("served")
def test_passages_can_be_what_a_model_reads_together() -> None:
    words = pereira2018(context="passage").stimuli["384sentences"].words
    assert words["sentence"].tolist() == (words["item"] // 4).tolist()
    assert words["sentence"].iloc[-1] == 95


@pytest.mark.usefixtures("served")
def test_responses_are_each_subjects_own_in_the_order_of_the_sentences() -> None:
    recordings = pereira2018().recordings()
    assert [(recording.subject, recording.stimulus) for recording in recordings] == [
        (subject, experiment) for subject, experiments in SEEN.items() for experiment in experiments
    ]
    for recording in recordings:
        expected = planted_responses(recording.stimulus, recording.subject)
        np.testing.assert_allclose(recording.response(), expected, rtol=1e-5, atol=1e-6)
    assert len({recording.digest for recording in recordings}) == len(recordings)


@pytest.mark.usefixtures("served")
def test_voxels_keep_their_place() -> None:
    targets = pereira2018(("199",)).recordings()[0].targets
    assert targets["name"].tolist() == ["199.28", "199.29", "199.31", "199.1001"]
    assert set(targets["kind"]) == {"voxel"}
    assert targets["roi"].tolist() == ["LH_AntTemp", "LH_AntTemp", "LH_MFG", "RH_PostTemp"]
    assert targets["voxel"].tolist() == [72_509, 72_510, 72_511, 72_512]
    assert targets[["i", "j", "k"]].to_numpy().tolist() == [[5 + n, 63, 10] for n in range(4)]


@pytest.mark.usefixtures("served")
def test_an_experiment_that_a_subject_did_not_see_is_named() -> None:
    both, late, early = (pereira2018((subject,)).recordings() for subject in SEEN)
    assert [recording.findings for recording in both] == [(), ()]
    assert [str(finding) for finding in late[0].findings] == [
        "subject 199: no responses to 243sentences: not every subject saw both experiments."
    ]
    assert [finding.code for finding in early[0].findings] == ["unseen-stimulus"]


@pytest.mark.usefixtures("served")
def test_one_experiment_can_be_chosen() -> None:
    recordings = pereira2018(stimuli=("384sentences",)).recordings()
    assert [recording.subject for recording in recordings] == ["018", "199"]
    assert all(recording.findings == () for recording in recordings)


def test_voxels_that_one_experiment_lacks_are_left_out_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = assembly()
    lost = np.ix_(data["experiment"] == "243sentences", data["neuroid_id"] == "018.29")
    data.values[lost] = np.nan
    write(data, tmp_path / "pereira2018" / FILE)
    serve_miniature(monkeypatch, tmp_path / "pereira2018")
    first, second = pereira2018(("018",)).recordings()
    assert first.targets["name"].tolist() == second.targets["name"].tolist() == ["018.28", "018.31", "018.1001"]
    assert second.response().shape == (384, 3)
    assert [finding.code for finding in second.findings] == ["uncommon-targets"]


# Planted truth


@pytest.mark.usefixtures("served")
def test_the_planted_layers_are_found_from_last_words() -> None:
    data = pereira2018()
    with pytest.warns(match="not every subject saw both"):
        scores = score_layers(data, MODEL, splits=Splits(outer="blocks"), store=None)
    r = scores["r"].mean("fold").values
    assert r.argmax(axis=0).tolist() == list(PLANTED) * len(SEEN), r.round(2)
    assert (r.max(axis=0) > 0.7).all()
    gain = (scores["r_joint"] - scores["r_baseline"]).mean("fold").max("layer")
    assert (gain > 0.5).all()


@pytest.mark.usefixtures("served")
def test_a_baseline_of_sentences_counts_words_and_averages_their_properties() -> None:
    data = pereira2018(("199",))
    [recording] = data.recordings()
    stimulus = data.stimuli["384sentences"]
    run = Items().align(recording, stimulus)
    placed = run.place_properties(Baseline(("word_rate", "word_length")).extract(stimulus))[0]
    counts = np.array([len(text.split()) for text in sentences_of("384sentences")])
    letters = [np.mean([len(word.strip(".")) for word in text.split()]) for text in sentences_of("384sentences")]
    np.testing.assert_allclose(placed[:, 0], counts - counts.mean(), atol=1e-6)
    np.testing.assert_allclose(placed[:, 1], letters - np.mean(letters), atol=1e-6)


# What is known and what cannot be


def test_the_files_are_those_of_brain_scores_registry() -> None:
    manifest = read_manifest("pereira2018")
    files = remote_files(manifest)
    assert not manifest.verified
    assert files[FILE].checksum == "sha1:f8434b4022f5b2c862f0ff2854d5b3f5f2a7fb96"
    assert files[FILE].size is None
    assert files[FILE].url == f"https://brainscore-storage.s3.amazonaws.com/brainscore-language/{FILE}"


def test_nothing_is_read_before_it_is_asked_for() -> None:
    data = pereira2018()
    assert len(data.subjects) == 10
    assert tuple(data.stimuli) == ("243sentences", "384sentences")


@pytest.mark.parametrize("option", ["network", "context"])
def test_an_unknown_choice_is_refused(option: str) -> None:
    with pytest.raises(RecipeError, match=option):
        pereira2018(**{option: "visual"})


@pytest.mark.parametrize("content", [b"", b"no NetCDF at all", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_a_damaged_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    (tmp_path / "pereira2018").mkdir()
    (tmp_path / "pereira2018" / FILE).write_bytes(content)
    serve_miniature(monkeypatch, tmp_path / "pereira2018")
    with pytest.raises(DataError, match=rf"{FILE}: not a NetCDF file of Brain-Score"):
        pereira2018().recordings()


@pytest.mark.parametrize("name", ["experiment", "subject", "stimulus_num"])
def test_a_file_without_a_coordinate_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    write(assembly().drop_vars(name), tmp_path / "pereira2018" / FILE)
    serve_miniature(monkeypatch, tmp_path / "pereira2018")
    with pytest.raises(DataError, match=rf"no coordinate '{name}'"):
        pereira2018().recordings()
