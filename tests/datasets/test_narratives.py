"""Narratives: real events and words, planted volumes and surfaces."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from miniatures import check_planted_layers, planted_bold, serve_miniature

from brainalign.datasets import load_dataset
from brainalign.errors import DataError, RecipeError, UnreachableError
from brainalign.simulate import words_from_text
from brainalign.types import Clock, Stimulus

SUBJECT = "sub-111"
TASKS = ("milkyway", "notthefallintact", "slumlordreach")
# The story's onset in the scan (events.tsv), its start in its file of sound, and seconds it lasts.
STORIES = {
    "milkywayoriginal": (21.0, 21.0, 404.0),
    "notthefallintact": (29.5, 25.0, 547.0),
    "slumlord": (29.5, 25.0, 903.0),
    "reach": (969.5, 965.0, 825.0),
}
SLICES_S = 0.5
CLOCK = Clock(1.5, SLICES_S)


@pytest.fixture(scope="module")
def truth(shared: Path) -> dict[str, Stimulus]:
    """The words of each story, counted from its start: real ones of one, made ones of the others."""
    path = shared / "datasets" / "real" / "ds002345_narratives" / "gentle_notthefall" / "itsnotthefall.json"
    found = [w for w in json.loads(path.read_text(encoding="utf-8"))["words"] if w["case"] == "success"][1:]
    ends = np.maximum.accumulate([w["start"] for w in found])
    real = [w for w, end in zip(found, ends, strict=True) if w["start"] >= end]
    tables = {
        "notthefallintact": pd.DataFrame(
            {
                "onset": [w["start"] - 25.0 for w in real],
                "duration": [w["end"] - w["start"] for w in real],
                "text": [w["word"] for w in real],
            }
        )
    }
    for seed, story in enumerate(("milkywayoriginal", "slumlord", "reach")):
        text = " ".join(np.random.default_rng(seed).choice(list(_VOCABULARY), int(2.0 * STORIES[story][2])))
        tables[story] = words_from_text(text, seed=seed, words_per_second=2.005)[["onset", "duration", "text"]]
    return {story: Stimulus(story, table) for story, table in tables.items()}


_VOCABULARY = [
    "a",
    "the",
    "man",
    "who",
    "went",
    "home",
    "and",
    "saw",
    "his",
    "dog",
    "there",
    "was",
    "not",
    "what",
    "he",
    "had",
    "thought",
    "it",
    "would",
    "be",
]


@pytest.fixture(scope="module")
def archive(shared: Path, truth: dict[str, Stimulus], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three real scans' events, with volumes that were made, and words as gentle writes them."""
    folder = tmp_path_factory.mktemp("mirror") / "narratives"
    real = shared / "datasets" / "real" / "ds002345_narratives"
    for task in TASKS:
        scan = f"{SUBJECT}/func/{SUBJECT}_task-{task}"
        (folder / scan).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(real / f"{scan}_events.tsv", folder / f"{scan}_events.tsv")
        (folder / f"{scan}_bold.json").write_text('{"RepetitionTime": 1.5, "SliceTiming": [0.0, 0.5, 1.0]}')
    _write_volumes(folder, truth)
    gentle = folder / "stimuli" / "gentle"
    for name in ("notthefallintact", "milkywayoriginal", "slumlordreach"):
        (gentle / name).mkdir(parents=True)
    shutil.copyfile(real / "gentle_notthefall" / "itsnotthefall.json", gentle / "notthefallintact" / "align.json")
    # Of this one, times count from the story; of that, from a file with two stories and music before each.
    _write_gentle(gentle / "milkywayoriginal" / "align.csv", [(truth["milkywayoriginal"], 0.0)])
    _write_gentle(gentle / "slumlordreach" / "align.csv", [(truth["slumlord"], 25.0), (truth["reach"], 965.0)])
    return folder


def _write_volumes(folder: Path, truth: dict[str, Stimulus]) -> None:
    for seed, (task, stories) in enumerate(
        [
            ("milkyway", ["milkywayoriginal"]),
            ("notthefallintact", ["notthefallintact"]),
            ("slumlordreach", ["slumlord", "reach"]),
        ]
    ):
        last_onset, _, last_duration = STORIES[stories[-1]]
        n_volumes = int((last_onset + last_duration + 15) / 1.5)
        bold = sum(planted_bold(truth[story], CLOCK, STORIES[story][0], n_volumes, seed=seed) for story in stories)
        image = nibabel.Nifti1Image(np.asarray(bold).T.reshape(2, 2, 1, n_volumes) + 100, np.diag([3, 3, 4, 1]))
        image.header.set_xyzt_units("mm", "sec")
        image.header.set_zooms((3, 3, 4, 1.5))
        nibabel.save(image, folder / SUBJECT / "func" / f"{SUBJECT}_task-{task}_bold.nii.gz")


def _write_gentle(path: Path, stories: list[tuple[Stimulus, float]]) -> None:
    lines = []
    for stimulus, start in stories:
        for number, word in enumerate(stimulus.words.itertuples()):
            end = word.onset + word.duration
            times = ",," if number == 5 else f",{start + word.onset!r},{start + end!r}"
            lines.append(f"{word.text},{'' if number == 5 else word.text}{times}")
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    nibabel.save(nibabel.Nifti1Image(np.ones((2, 2, 1), np.uint8), np.diag([3, 3, 4, 1])), tmp_path / "mask.nii.gz")
    return tmp_path / "mask.nii.gz"


@pytest.fixture
def served(archive: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    serve_miniature(monkeypatch, archive)
    return archive


@pytest.mark.parametrize("story", list(STORIES))
def test_words_count_from_the_story_wherever_the_alignment_began(
    served: Path, truth: dict[str, Stimulus], story: str
) -> None:
    stimulus = load_dataset("narratives").stimuli[story]
    words, planted = stimulus.words, truth[story].words
    timed = words[words["timed"]]
    assert abs(len(words) - len(planted)) <= 60
    both = planted[planted["onset"].round(3).isin(timed["onset"].round(3))]
    assert len(both) > 0.97 * len(planted)
    [clock] = [finding for finding in stimulus.findings if finding.code == "words-clock"]
    assert ("start of the story" in clock.message) == (story == "milkywayoriginal")
    assert stimulus.story == {"milkywayoriginal": "milkyway", "notthefallintact": "notthefall"}.get(story)
    assert any(finding.code == "untimed-words" for finding in stimulus.findings) == (not words["timed"].all())


def test_stories_begin_in_the_scan_when_the_events_say(served: Path, mask: Path) -> None:
    recordings = load_dataset("narratives", options={"volumes": {"mask": mask}}).recordings()
    assert {r.stimulus: r.offset_s for r in recordings} == {story: onset for story, (onset, _, _) in STORIES.items()}
    assert {r.clock for r in recordings} == {Clock(1.5, SLICES_S)}
    assert {r.run for r in recordings} == set(STORIES)
    assert all("raw-volumes" in {finding.code for finding in r.findings} for r in recordings)
    targets = recordings[0].targets
    assert targets[["x", "y", "z"]].values.tolist() == [[3 * i, 3 * j, 0] for i in (0, 1) for j in (0, 1)]


def test_the_planted_layers_are_found(served: Path, mask: Path) -> None:
    data = load_dataset("narratives", options={"volumes": {"mask": mask}})
    check_planted_layers(data)


def test_surfaces_are_taken_before_volumes_where_all_runs_have_them(
    served: Path, archive: Path, truth: dict[str, Stimulus], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    for task, story in (("milkyway", "milkywayoriginal"), ("notthefallintact", "notthefallintact")):
        bold = planted_bold(truth[story], CLOCK, STORIES[story][0], 300, seed=1)
        for hemisphere, columns in (("L", [0, 1]), ("R", [2, 3])):
            arrays = [
                nibabel.gifti.GiftiDataArray(row.astype(np.float32), intent="NIFTI_INTENT_TIME_SERIES")
                for row in bold[:, columns]
            ]
            path = (
                own
                / f"derivatives/afni-nosmooth/{SUBJECT}/func"
                / (f"{SUBJECT}_task-{task}_space-fsaverage6_hemi-{hemisphere}_desc-clean.func.gii")
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.GiftiImage(darrays=arrays), path)
    stories = {"stimuli": ["milkywayoriginal", "notthefallintact"]}
    recordings = load_dataset("narratives", root=own, options=stories).recordings()
    assert [r.space["template"] for r in recordings] == ["fsaverage6", "fsaverage6"]
    np.testing.assert_allclose(
        recordings[0].response(),
        planted_bold(truth["milkywayoriginal"], CLOCK, 21.0, 300, seed=1),
        rtol=1e-6,
    )
    assert recordings[0].offset_s == 21.0
    # One story more, of which there are no surfaces: volumes for all.
    assert not any("derivatives" in path for path in load_dataset("narratives", root=own).files(kinds=["responses"]))


def test_each_scan_of_the_archive_is_a_run_of_known_stories() -> None:
    data = load_dataset("narratives")
    runs = data.all_runs()
    assert len({run.subject for run in runs}) > 300
    heard = pd.Series([run.stimulus for run in load_dataset("narratives", options={"exclude": False}).all_runs()])
    counts = heard.value_counts()
    assert counts[["pieman", "black", "slumlord", "reach", "milkywayvodka"]].tolist() == [96, 46, 18, 18, 18]
    assert len(runs) == len(heard) - 28  # 27 scans, one of them with two stories
    assert set(data.archive.table) >= {path for run in runs for path in (*run.responses, *run.sidecars)}


def test_words_that_must_be_got_elsewhere_are_asked_for() -> None:
    with pytest.raises(UnreachableError, match="datalad get stimuli/gentle"):
        load_dataset("narratives").stimuli["black"]


def test_an_unknown_story_is_met_by_those_there_are() -> None:
    with pytest.raises(RecipeError, match="pieman"):
        load_dataset("narratives", options={"stimuli": ["piemen"]})


@pytest.mark.parametrize("lead", ["unfound", "music"])
def test_an_alignment_that_tells_two_things_of_its_clock_is_refused_until_the_user_says(
    archive: Path, tmp_path: Path, truth: dict[str, Stimulus], monkeypatch: pytest.MonkeyPatch, lead: str
) -> None:
    folder = tmp_path / "narratives"
    shutil.copytree(archive, folder)
    path = folder / "stimuli" / "gentle" / "milkywayoriginal" / "align.csv"
    stimulus = truth["milkywayoriginal"]
    if lead == "unfound":  # of the story's clock, though no word of its first 21 s was found
        _write_gentle(path, [(stimulus, 0.0)])
        rows = [line.split(",") for line in path.read_text().splitlines()]
        path.write_text("\n".join(",".join(r) if r[2] and float(r[2]) > 21 else f"{r[0]},,," for r in rows) + "\n")
    else:  # of the file's, with words that the aligner put into the music
        _write_gentle(path, [(stimulus, 21.0)])
        music = "".join(f"a,a,{time},{time + 0.1}\n" for time in np.arange(0.5, 19.0, 0.8))
        path.write_text(music + path.read_text())
    serve_miniature(monkeypatch, folder)
    with pytest.raises(DataError, match="say `words_from: file` or `words_from: story`"):
        load_dataset("narratives").stimuli["milkywayoriginal"]
    told = "story" if lead == "unfound" else "file"
    words = load_dataset("narratives", options={"words_from": told}).stimuli["milkywayoriginal"].words
    last = stimulus.words.iloc[-1]
    assert words["onset"].iloc[-1] == pytest.approx(last["onset"], abs=1e-3)


def test_two_stories_in_one_file_are_told_apart_on_either_clock(
    archive: Path, tmp_path: Path, truth: dict[str, Stimulus], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "narratives"
    shutil.copytree(archive, folder)
    path = folder / "stimuli" / "gentle" / "slumlordreach" / "align.csv"
    _write_gentle(path, [(truth["slumlord"], 0.0), (truth["reach"], 940.0)])
    serve_miniature(monkeypatch, folder)
    data = load_dataset("narratives")
    for story in ("slumlord", "reach"):
        words = data.stimuli[story].words
        assert len(words) == len(truth[story].words)
        np.testing.assert_allclose(words["onset"].iloc[[0, -1]], truth[story].words["onset"].iloc[[0, -1]], atol=1e-3)


def test_events_of_another_story_are_refused(
    archive: Path, tmp_path: Path, mask: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "narratives"
    shutil.copytree(archive, folder)
    path = folder / SUBJECT / "func" / f"{SUBJECT}_task-notthefallintact_events.tsv"
    path.write_text(path.read_text().replace("notthefallintact_audio", "black_audio"))
    serve_miniature(monkeypatch, folder)
    data = load_dataset("narratives", options={"volumes": {"mask": mask}})
    with pytest.raises(DataError, match=r"0 rows of a story in notthefallintact_audio\.wav"):
        data.recordings(stimuli=["notthefallintact"])


def test_words_of_the_real_alignment_of_black_are_read(shared: Path, tmp_path: Path) -> None:
    real = shared / "datasets" / "real" / "ds002345_narratives" / "gentle_black" / "black_gentle.csv"
    (tmp_path / "stimuli" / "gentle" / "black").mkdir(parents=True)
    shutil.copyfile(real, tmp_path / "stimuli" / "gentle" / "black" / "align.csv")
    words = load_dataset("narratives", root=tmp_path).stimuli["black"].words
    assert len(words) == 1544
    assert words["onset"].iloc[0] == pytest.approx(0.24)
