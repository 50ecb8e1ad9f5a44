"""Ceilings by planted shares of signal: from hearings of the same, from other subjects, and where there are none."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from studies import MODEL, TR_S, heard, planted_fmri, stories

import brainalign.questions.ceiling as ceiling_module
from brainalign.config import parse_recipe
from brainalign.errors import RecipeError
from brainalign.pipeline import score_layers
from brainalign.pipeline.results import open_scores, save_scores
from brainalign.questions import Ceiling
from brainalign.simulate import InMemory
from brainalign.types import Scores

STORIES = stories(3, 350)
N_VOLUMES, N_TARGETS = 90, 24
SHARES = np.repeat([0.1, 0.3, 0.6], 8)


def noise(*key: int) -> np.ndarray:
    return np.random.default_rng(key).normal(size=(N_VOLUMES, N_TARGETS))


def number(name: str) -> int:
    return int(name.removeprefix("story").removeprefix("s"))


def respond(subject: str, stimulus: str, hearing: int) -> np.ndarray:
    """A signal that is the same for all subjects and hearings, SHARES of the variance, and noise."""
    of_hearing = noise(1, number(stimulus), number(subject), hearing)
    return np.sqrt(SHARES) * noise(0, number(stimulus)) + np.sqrt(1 - SHARES) * of_hearing


def scored(data: InMemory, *questions: object, **settings: object) -> Scores:
    with warnings.catch_warnings(action="ignore"):
        return score_layers(data, MODEL, baseline=(), questions=questions, **{"store": None, **settings})


def codes(scores: Scores) -> list[str]:
    return [finding["code"] for finding in scores.attrs["findings"]]


# ------------------------------------------------------------------------------------------------- planted truths


@pytest.mark.parametrize("kind", ["auto", "repeats"])
def test_the_share_of_signal_in_three_hearings_comes_back(kind: str, tmp_path: Path) -> None:
    scores = scored(heard(["s0"], STORIES, respond, hearings=3), Ceiling(kind=kind, n_bootstrap=50))
    share = scores["explainable_variance"].values.reshape(3, 8).mean(axis=1)
    np.testing.assert_allclose(share, [0.1, 0.3, 0.6], atol=0.03)
    np.testing.assert_allclose(scores["ceiling"], np.sqrt(scores["explainable_variance"]), atol=1e-6)
    inside = (scores["ceiling_low"] <= scores["ceiling"]) & (scores["ceiling"] <= scores["ceiling_high"])
    assert inside.values[8:].all()
    assert scores.attrs["answers"]["ceiling"]["sources"]["s0"].startswith("explainable variance of 3 presentations")
    save_scores(scores, tmp_path / "scores.nc")
    np.testing.assert_array_equal(open_scores(tmp_path / "scores.nc")["ceiling"], scores["ceiling"])


def test_the_share_of_signal_that_subjects_have_in_common_comes_back() -> None:
    subjects = ["s0", "s1", "s2", "s3"]
    scores = scored(heard(subjects, STORIES, respond), Ceiling(n_bootstrap=50))
    share = (scores["ceiling"] ** 2).values.reshape(4, 3, 8)
    np.testing.assert_allclose(share.mean(axis=(0, 2)), [0.1, 0.3, 0.6], atol=0.03)
    # What a subject and the mean of three others have in common, and what a ridge from that mean predicts.
    expected = SHARES / np.sqrt(SHARES + (1 - SHARES) / 3)
    found = scores["isc_leave_one_out"].values.reshape(4, 3, 8).mean(axis=(0, 2))
    np.testing.assert_allclose(found, expected[::8], atol=0.04)
    # A ridge has to learn what the correlation takes for granted, and is a little below.
    assert expected[-1] - 0.1 < scores["r_from_others"].values.reshape(4, 3, 8)[:, 2].mean() < expected[-1] + 0.02
    assert scores.attrs["answers"]["ceiling"]["sources"]["s1"].startswith("inter-subject correlation of 4 subjects")


def test_scores_are_divided_by_ceilings() -> None:
    """Layer 2 drives half of what comes back with each hearing, the word rate a tenth: about .7 of the ceiling."""
    data = planted_fmri(1, layers=(2, 2, 2, -1))
    recordings = [
        replace(recording, run=f"{recording.run} {hearing}", digest=f"{recording.digest} {hearing}", read=read)
        for recording in data.recordings()
        for hearing, read in enumerate(hearings_of(recording))
    ]
    scores = scored(InMemory("twice", "Twice", "fmri", data.stimuli_by_id, recordings), Ceiling(n_bootstrap=100))
    best = scores["r_over_ceiling_aggregate"].values
    assert best.argmax() == 2
    assert 0.55 < best[2] < 0.85
    assert (scores["r_over_ceiling_low"] <= scores["r_over_ceiling_high"]).all()
    usable = scores["ceiling_status"].values == "ok"
    assert usable[:3].all()
    ratio = scores["r"].mean("fold") / scores["ceiling"]
    np.testing.assert_allclose(scores["r_over_ceiling"].values[:, usable], ratio.values[:, usable], rtol=1e-4)


def hearings_of(recording: object) -> list:
    """Two hearings: the same response with fresh noise on top, and nothing but noise for the last target."""
    response = recording.response()
    follows = np.array([1, 1, 1, 0])
    return [
        lambda seed=seed: (
            follows * response
            + np.random.default_rng([seed, len(response)]).normal(size=response.shape) * (0.6 * follows + (1 - follows))
        )
        for seed in (1, 2)
    ]


# ---------------------------------------------------------------------------------------------- what is compared


def test_only_what_all_heard_is_compared_and_stories_heard_once_more_are_averaged() -> None:
    data = heard(["s0", "s1"], STORIES, respond, 2)
    given = [
        recording
        for recording in data.recordings()
        if not (recording.subject == "s1" and recording.run in ("story0 0", "story0 1", "story1 1"))
    ]
    scores = scored(InMemory("some", "Some", "fmri", STORIES, given), Ceiling(kind="subjects", n_bootstrap=20))
    source = scores.attrs["answers"]["ceiling"]["sources"]["s0"]
    # Of the six hearings of s0 those of two stories, each once.
    assert source == f"inter-subject correlation of 2 subjects, {scores.attrs['n_samples']['s0'] // 3} samples"
    # s0 is the mean of two hearings of both stories, s1 of one and of two.
    assert 0.65 < np.nanmean(scores["ceiling"].values[16:24] ** 2) < 0.85


def test_other_targets_are_not_compared_though_as_many() -> None:
    names = lambda subject, target: f"voxel {target} of {subject}"  # noqa: E731
    scores = scored(heard(["s0", "s1"], STORIES, respond, names=names), Ceiling())
    assert "ceiling" not in scores
    messages = [str(finding["message"]) for finding in scores.attrs["findings"] if finding["code"] == "no-ceiling"]
    assert len(messages) == 2
    assert "no other subject has the same targets" in messages[0]


def test_one_subject_who_heard_all_once_has_no_ceiling() -> None:
    scores = scored(heard(["s0"], STORIES, respond), Ceiling())
    assert codes(scores).count("no-ceiling") == 1
    assert not [name for name in scores if "ceiling" in str(name)]


def test_a_subject_without_repeats_is_nan_beside_one_who_has_some() -> None:
    data = heard(["s0", "s1"], STORIES, respond, 2)
    given = [one for one in data.recordings() if one.subject == "s0" or one.run.endswith("0")]
    scores = scored(InMemory("some", "Some", "fmri", STORIES, given), Ceiling(kind="repeats", n_bootstrap=20))
    defined = np.isfinite(scores["ceiling"].values)
    assert defined[12:24].all()
    assert not defined[24:].any()
    assert (scores["ceiling_status"].values[24:] == "undefined").all()
    assert codes(scores).count("no-ceiling") == 1


def test_noise_has_no_usable_ceiling_and_a_score_is_not_divided() -> None:
    scores = scored(
        heard(["s0"], STORIES, lambda *key: noise(7, *map(number_of, key)), hearings=2), Ceiling(n_bootstrap=200)
    )
    usable = scores["ceiling_status"].values == "ok"
    assert usable.mean() <= 3 / 24
    assert (scores["ceiling"].values[scores["ceiling_status"].values == "not significant"] ** 2 > 0.05).all()
    assert np.isnan(scores["r_over_ceiling"].values[:, ~usable]).all()
    assert "W208" in codes(scores)


def number_of(key: object) -> int:
    return key if isinstance(key, int) else number(str(key))


def test_a_score_above_its_ceiling_is_told_and_stays() -> None:
    data = planted_fmri(2, layers=(2, 2, 2, 2))
    scores = scored(data, Ceiling(threshold=0.0, n_bootstrap=20))
    above = scores["r_over_ceiling"].values > 1
    assert ("W209" in codes(scores)) == above.any()


def test_constant_and_undefined_targets_have_no_ceiling() -> None:
    def spoilt(subject: str, stimulus: str, hearing: int) -> np.ndarray:
        response = respond(subject, stimulus, hearing)
        response[:, 20] = 1.0
        response[5, 21] = np.nan
        return response

    scores = scored(heard(["s0"], STORIES, spoilt, hearings=2), Ceiling(n_bootstrap=20))
    assert np.isnan(scores["ceiling"].values[[20, 21]]).all()
    assert (scores["ceiling_status"].values[[20, 21]] == "undefined").all()


def test_subjects_who_would_fill_the_memory_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceiling_module, "free_memory", lambda: 1000)
    scores = scored(heard(["s0", "s1"], STORIES, respond), Ceiling())
    assert codes(scores).count("no-ceiling") == 2


def test_two_words_of_one_onset_are_not_two_hearings() -> None:
    samples = words_at([0.0, 0.5, 0.5, 1.0, 1.5], runs=["1"] * 5)
    assert ceiling_module._repeats(samples) is None


def test_times_in_tenths_of_milliseconds_are_the_same_moments_whatever_the_offset() -> None:
    times = np.arange(1, 2000) * 0.33335
    first, second = words_at(times, ["1"] * len(times)), words_at((times + 17.123) - 17.123, ["1"] * len(times))
    assert len(ceiling_module._common([first, second])[0]) == len(times)


def words_at(times_s: object, runs: list[str]) -> object:
    from brainalign.encoding import ContiguousBlocks, Samples

    times = np.asarray(times_s)
    names = np.array(["story"] * len(times))
    return Samples(
        "s0", np.zeros((len(times), 1)), names, np.array(runs), names, times, ContiguousBlocks(), 0, None, None,
        lambda features: iter(()),
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------- settings


def test_a_recipe_asks_for_ceilings() -> None:
    recipe = {"dataset": {"name": "simulated"}, "features": [{"kind": "toy_model"}], "ceiling": {"kind": "subjects"}}
    (question,) = parse_recipe(recipe).questions
    assert question == Ceiling(kind="subjects")


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"kind": "subject"}, "Did you mean 'subjects'"), ({"threshold": 1.0}, "from 0 to 1")],
    ids=["kind", "threshold"],
)
def test_settings_that_cannot_be_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Ceiling(**settings)


def test_scans_that_begin_at_other_moments_of_the_story_are_compared_at_the_same_ones() -> None:
    """A third of a volume later in the second subject: of a slow signal that all share, nothing is lost."""
    slow_hz = np.linspace(0.02, 0.06, N_TARGETS)

    def signal(seconds: np.ndarray, stimulus: str) -> np.ndarray:
        return np.sin(2 * np.pi * (seconds[:, None] * slow_hz + number(stimulus) / 7))

    offsets = {"s0": 0.0, "s1": TR_S / 3, "s2": TR_S / 2}
    data = heard(list(offsets), STORIES, respond)
    given = []
    for recording in data.given:
        offset_s = offsets[recording.subject]
        seconds = np.arange(N_VOLUMES) * TR_S - offset_s
        response = signal(seconds, recording.stimulus) + 0.3 * noise(
            5, int(recording.subject[1]), number(recording.stimulus)
        )
        read = partial(np.asarray, response.astype(np.float32))
        given.append(replace(recording, offset_s=offset_s, read=read, digest=recording.digest + "shifted"))
    shifted = InMemory("heard", "Heard", "fmri", data.stimuli, given)
    found = scored(shifted, Ceiling(kind="subjects", n_bootstrap=20, predict_from_others=False))
    assert found["isc_pairwise"].values.min() > 0.6
    sources = found.attrs["answers"]["ceiling"]["sources"].values()
    assert all(source.startswith("inter-subject correlation of 3 subjects") for source in sources)
