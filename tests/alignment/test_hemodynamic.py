"""fMRI runs: what is planted in the volumes comes back, what lies outside the stimulus stays outside."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from nilearn.glm.first_level import glover_hrf

from brainalign.alignment import Hemodynamic, resampling_matrix
from brainalign.encoding import ContiguousBlocks, RidgeEncoder
from brainalign.encoding.cross_validation import cross_validate
from brainalign.encoding.responses import target_status
from brainalign.errors import DataError, RecipeError
from brainalign.types import Clock, Features, Recording, Stimulus

N_WORDS, DIMENSION, TR_S = 900, 4, 2.0
BARE = {"high_pass_s": None, "trim_s": (0.0, 0.0)}


@pytest.fixture(scope="module")
def story() -> Stimulus:
    random = np.random.default_rng(0)
    onset = np.cumsum(0.15 + random.gamma(2.0, 0.125, N_WORDS))
    return Stimulus("story", pd.DataFrame({"onset": onset, "duration": 0.2, "text": "word"}))


@pytest.fixture(scope="module")
def features(story: Stimulus) -> Features:
    values = np.random.default_rng(1).normal(size=(1, N_WORDS, DIMENSION)).astype(np.float32)
    return as_features(story, values)


def as_features(story: Stimulus, values: np.ndarray, **more: Any) -> Features:
    words = story.words
    layers = tuple(f"layer {i}" for i in range(len(values)))
    return Features("space", layers, values, words["onset"].to_numpy(), words["duration"].to_numpy(), **more)


def recording(response: np.ndarray, offset_s: float = 0.0, clock: Clock = Clock(TR_S), **more: Any) -> Recording:  # noqa: B008
    targets = pd.DataFrame({"name": [f"region {i}" for i in range(response.shape[1])], "kind": "region"})
    return Recording("01", "1", "story", "fmri", clock, offset_s, targets, lambda: response, "digest", **more)


def n_volumes(story: Stimulus, offset_s: float = 0.0, clock: Clock = Clock(TR_S)) -> int:  # noqa: B008
    return int((offset_s + story.duration_s + 20 - clock.start_s) / clock.step_s)


def driven(features: Features, weights: np.ndarray, times_s: np.ndarray, offset_s: float = 0.0) -> np.ndarray:
    """Volumes of words convolved with nilearn's response on a grid of a hundredth of a second, (volume, target)."""
    step = 0.01
    hrf = glover_hrf(step, oversampling=1, time_length=32.0)
    train = np.zeros((int((times_s[-1] + 40) / step), weights.shape[1]))
    rows = np.rint((features.onset_s + offset_s) / step).astype(int)
    np.add.at(train, rows[rows < len(train)], (features.values[0].astype(float) @ weights)[rows < len(train)])
    moments = np.arange(len(train)) * step
    series = [np.convolve(column, hrf)[: len(train)] for column in train.T]
    return np.stack([np.interp(times_s, moments, column) for column in series], axis=1)


def weights_of(n_targets: int) -> np.ndarray:
    return np.random.default_rng(2).normal(size=(DIMENSION, n_targets))


def scores(stage: Hemodynamic, given: Recording, story: Stimulus, features: Features) -> np.ndarray:
    """Mean held-out r of each target."""
    run = stage.align(given, story)
    splitter = ContiguousBlocks(3, 10)
    found, _ = cross_validate(
        RidgeEncoder(), run.place(features)[0], run.responses, np.zeros(len(run.responses)), splitter
    )
    return found.r.mean(axis=0)


# ----------------------------------------------------------------------------------------------- planted truth


@pytest.mark.parametrize("offset_s", [0.0, 5.3, 21.0])
@pytest.mark.parametrize("clock", [Clock(2.0), Clock(0.8, 0.4), Clock(1.5, -3.0)], ids=str)
def test_a_response_planted_through_the_hrf_comes_back(
    story: Stimulus, features: Features, offset_s: float, clock: Clock
) -> None:
    times = clock.times(n_volumes(story, offset_s, clock))
    response = driven(features, weights_of(3), times, offset_s)
    assert scores(Hemodynamic(), recording(response, offset_s, clock), story, features).min() > 0.99


@pytest.mark.parametrize("delay", [1, 3, 4])
@pytest.mark.parametrize("resampling", ["lanczos", "sum", "mean"])
def test_a_response_planted_at_a_delay_comes_back_through_delays(
    story: Stimulus, features: Features, resampling: Any, delay: int
) -> None:
    n = n_volumes(story)
    place = resampling_matrix(features.onset_s, features.duration_s, Clock(TR_S), n, resampling)
    response = np.zeros((n, 3))
    response[delay:] = (place @ features.values[0] @ weights_of(3))[: n - delay]
    stage = Hemodynamic(resampling)
    assert scores(stage, recording(response), story, features).min() > 0.99
    without = tuple(d for d in stage.volumes_of_delay(TR_S) if d != delay)
    missed = scores(Hemodynamic(resampling, delays=without), recording(response), story, features).max()
    assert missed < 0.8, "without that delay it does not"


def test_delays_learn_the_shape_of_the_response(story: Stimulus, features: Features) -> None:
    response = driven(features, weights_of(3), Clock(TR_S).times(n_volumes(story)))
    stage = Hemodynamic("lanczos", delays=tuple(range(10)))
    assert scores(stage, recording(response), story, features).min() > 0.97


def test_an_offset_is_found_only_by_who_knows_of_it(story: Stimulus, features: Features) -> None:
    response = driven(features, weights_of(3), Clock(TR_S).times(n_volumes(story, 5.3)), 5.3)
    right = scores(Hemodynamic(), recording(response, 5.3), story, features)
    for wrong_s in (0.0, 10.6):
        wrong = scores(Hemodynamic(), recording(response, wrong_s), story, features)
        assert wrong.max() < 0.5
    assert right.min() > 0.99


def test_the_hrf_s_regressors_are_those_of_the_independent_convolution(story: Stimulus, features: Features) -> None:
    run = Hemodynamic(**BARE).align(recording(np.random.default_rng(0).normal(size=(n_volumes(story), 1))), story)
    expected = driven(features, np.eye(DIMENSION), run.times_s) / 0.01
    np.testing.assert_allclose(run.place(features)[0], expected - expected.mean(axis=0), atol=0.02)
    assert expected.std() > 0.3


def test_word_rate_alone_explains_what_is_summed_but_not_what_is_averaged(story: Stimulus) -> None:
    # V13: a brain that follows the word rate only, and random embeddings whose mean is not zero.
    random = np.random.default_rng(5)
    rate = np.exp(0.8 * np.sin(np.arange(0, 500, 2.0) / 9) + 0.3 * random.normal(size=250))
    onset = np.sort(np.concatenate([2.0 * k + random.uniform(0, 2, random.poisson(5 * r)) for k, r in enumerate(rate)]))
    tale = Stimulus("story", pd.DataFrame({"onset": onset, "duration": 0.1, "text": "word"}))
    embeddings = random.normal(size=(1, len(onset), 20)) + 1.0
    words = Features("random", ("layer 0",), embeddings.astype(np.float32), onset, np.full(len(onset), 0.1))
    counts = Features("rate", ("count",), np.ones((1, len(onset), 1), np.float32), onset, np.full(len(onset), 0.1))
    response = driven(counts, np.ones((1, 40)), np.arange(260) * 2.0)
    response = response / response.std() + 1.5 * random.normal(size=response.shape)
    given = recording(response)
    count = scores(Hemodynamic("hrf"), given, tale, counts).mean()
    summed = scores(Hemodynamic("hrf"), given, tale, words).mean()
    averaged = scores(Hemodynamic("mean"), given, tale, words).mean()
    assert count > 0.4
    assert summed > 0.9 * count
    assert averaged < 0.4 * count


# -------------------------------------------------------------------------------------------------------- runs


def test_nothing_of_one_run_reaches_into_the_next(story: Stimulus) -> None:
    values = np.zeros((1, N_WORDS, 1), dtype=np.float32)
    values[0, -1] = 1.0  # the last word of the first run
    response = np.random.default_rng(0).normal(size=(n_volumes(story), 1))
    for stage in (Hemodynamic("lanczos", **BARE), Hemodynamic("hrf", **BARE)):
        first, second = (stage.align(recording(response), story) for _ in range(2))
        assert np.abs(first.place(as_features(story, values))).max() > 0.05
        assert not second.place(as_features(story, np.zeros_like(values))).any()


def test_delays_come_before_trimming_so_that_what_was_heard_before_still_counts(
    story: Stimulus, features: Features
) -> None:
    given = recording(np.random.default_rng(0).normal(size=(n_volumes(story), 1)))
    late = Hemodynamic("sum", delays=(3,), high_pass_s=None, trim_s=(40.0, 0.0)).align(given, story)
    place = resampling_matrix(features.onset_s, features.duration_s, Clock(TR_S), n_volumes(story), "sum")
    expected = (place @ features.values[0].astype(float))[late.rows - 3]
    np.testing.assert_allclose(late.place(features)[0], expected - expected.mean(axis=0), atol=1e-9)
    assert late.rows[0] == 21  # the first word comes after half a second


@pytest.mark.parametrize(
    ("offset_s", "trim_s", "first_s", "last_s"),
    [
        (0.0, (0.0, 0.0), "onset", "tail"),
        (31.0, (0.0, 0.0), "onset", "tail"),
        (31.0, (10.0, 10.0), "onset", "tail"),
        (-60.0, (10.0, 4.0), 10.0, "tail"),
    ],
)
def test_volumes_outside_the_stimulus_and_trimmed_ones_are_left_out(
    story: Stimulus, offset_s: float, trim_s: tuple[float, float], first_s: Any, last_s: Any
) -> None:
    response = np.random.default_rng(0).normal(size=(n_volumes(story, max(offset_s, 0.0)) + 30, 2))
    run = Hemodynamic(trim_s=trim_s).align(recording(response, offset_s), story)
    start = offset_s + story.words["onset"].iloc[0] + trim_s[0] if first_s == "onset" else first_s
    stop = offset_s + story.duration_s + 10.0 - trim_s[1]  # the response to the last word may rise for 10 s
    times = np.arange(len(response)) * TR_S
    np.testing.assert_array_equal(run.times_s, times[(times >= start) & (times <= stop)])
    assert len(run.responses) == len(run.times_s)
    assert last_s == "tail"

    outside = np.ones(len(response), dtype=bool)
    outside[run.rows] = False
    spoilt = response.copy()
    spoilt[outside] = np.where(np.arange(outside.sum())[:, None] % 2, np.nan, 1e9)
    again = Hemodynamic(trim_s=trim_s).align(recording(spoilt, offset_s), story)
    np.testing.assert_array_equal(again.responses, run.responses)


def test_a_recording_that_ends_before_the_stimulus_is_used_to_its_end(story: Stimulus) -> None:
    run = Hemodynamic(trim_s=(0.0, 6.0)).align(recording(np.random.default_rng(0).normal(size=(60, 1))), story)
    assert run.times_s[-1] == 118.0 - 6.0


def test_a_recording_without_the_stimulus_is_an_error_that_names_both(story: Stimulus) -> None:
    response = np.random.default_rng(0).normal(size=(60, 1))
    with pytest.raises(DataError, match=r"subject 01, run 1: 0 of 60 volumes lie within stimulus 'story'.*500 s"):
        Hemodynamic().align(recording(response, 500.0), story)


# ---------------------------------------------------------------------------------------------------- cleaning


def test_responses_have_mean_zero_and_a_deviation_of_one_in_each_run(story: Stimulus) -> None:
    response = np.random.default_rng(0).normal(size=(n_volumes(story), 3)) * [1e-6, 1.0, 1e4] + [0.0, 500.0, -1e5]
    run = Hemodynamic().align(recording(response), story)
    np.testing.assert_allclose(run.responses.mean(axis=0), 0.0, atol=1e-10)
    np.testing.assert_allclose(run.responses.std(axis=0), 1.0)


def drift(n: int) -> np.ndarray:
    ramp = np.linspace(-1, 1, n)[:, None]
    return np.cos(2 * np.pi * ramp * 1.2) + 0.5 * ramp**2 + 0.3 * ramp


def test_drifts_hide_a_response_unless_they_are_removed(story: Stimulus, features: Features) -> None:
    times = Clock(TR_S).times(n_volumes(story))
    response = driven(features, weights_of(3), times)
    given = recording(response / response.std() + 3 * drift(len(times)))
    assert scores(Hemodynamic(), given, story, features).min() > 0.8
    assert scores(Hemodynamic(high_pass_s=None), given, story, features).max() < 0.5


def test_features_are_filtered_as_the_responses_are(story: Stimulus) -> None:
    # A feature that varies slowly, of which the filter took most from the response.
    random = np.random.default_rng(3)
    slow = np.cumsum(random.normal(size=(N_WORDS, 1)), axis=0)
    values = (slow / slow.std() + 0.15 * random.normal(size=(N_WORDS, 1))).astype(np.float32)
    features = as_features(story, values[None])
    response = driven(features, np.ones((1, 1)), Clock(TR_S).times(n_volumes(story)))
    run = Hemodynamic().align(recording(response), story)
    placed = run.place(features)[0, :, 0]
    raw = (resampling_matrix(features.onset_s, features.duration_s, Clock(TR_S), len(response), "hrf") @ values)[
        run.rows
    ]
    assert np.corrcoef(placed, run.responses[:, 0])[0, 1] > 0.99
    assert np.corrcoef(raw[:, 0], run.responses[:, 0])[0, 1] < 0.6
    np.testing.assert_allclose(run.clean(placed[:, None])[:, 0], placed, atol=1e-10)


def motion(n: int) -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(6).normal(size=(n, 3)), columns=["x", "y", "z"])


def test_confounds_are_regressed_out_of_responses_and_features(story: Stimulus, features: Features) -> None:
    times = Clock(TR_S).times(n_volumes(story))
    response, table = driven(features, weights_of(3), times), motion(len(times))
    moved = response / response.std() + 5 * table.to_numpy()
    given = recording(moved, read_confounds=lambda: table)
    assert scores(Hemodynamic(), given, story, features).min() > 0.98
    assert scores(Hemodynamic(confounds=False), given, story, features).max() < 0.5
    run = Hemodynamic().align(given, story)
    kept = table.to_numpy()[run.rows]
    for cleaned in (run.responses, run.place(features)[0]):
        np.testing.assert_allclose(kept.T @ cleaned, 0.0, atol=1e-8)


def test_confounds_need_one_row_per_volume_and_finite_values_where_they_are_used(story: Stimulus) -> None:
    response = np.random.default_rng(0).normal(size=(n_volumes(story), 1))
    short = motion(len(response) - 1)
    with pytest.raises(DataError, match=rf"{len(short)} rows of x, y, z ... for {len(response)} volumes"):
        Hemodynamic().align(recording(response, read_confounds=lambda: short), story)
    at_the_start, within = motion(len(response)), motion(len(response))
    at_the_start.loc[0, "y"] = np.nan  # a derivative has no first value; the first volumes are trimmed anyway
    Hemodynamic().align(recording(response, read_confounds=lambda: at_the_start), story)
    within.loc[30, "y"] = np.nan
    with pytest.raises(DataError, match="confound 'y' is not finite"):
        Hemodynamic().align(recording(response, read_confounds=lambda: within), story)
    Hemodynamic(confounds=False).align(recording(response, read_confounds=lambda: within), story)


def test_the_recording_s_own_regressors_are_cleaned_but_not_delayed(story: Stimulus) -> None:
    n = n_volumes(story)
    envelope = np.random.default_rng(8).normal(size=(n, 1)) + 3 * drift(n)
    response = np.random.default_rng(0).normal(size=(n, 1))
    given = recording(response, read_regressors=lambda: pd.DataFrame(envelope, columns=["sound_envelope"]))
    for stage in (Hemodynamic(), Hemodynamic("lanczos")):
        run = stage.align(given, story)
        found = run.regressors()
        assert list(found.columns) == ["sound_envelope"]
        np.testing.assert_allclose(found.to_numpy(), run.clean(envelope[run.rows]), atol=1e-12)
        assert found.index.tolist() == list(range(len(run.rows)))
    assert Hemodynamic().align(recording(response), story).regressors().shape == (len(run.rows), 0)
    short = pd.DataFrame({"sound_envelope": np.zeros(n - 5)})
    with pytest.raises(DataError, match=rf"{n - 5} rows of sound_envelope"):
        Hemodynamic().align(recording(response, read_regressors=lambda: short), story).regressors()


# ------------------------------------------------------------------------------------------------ odd targets


@pytest.mark.parametrize("stage", [Hemodynamic(), Hemodynamic(**BARE)], ids=["default", "bare"])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e6, -3e-7])
def test_a_constant_target_stays_constant_and_a_nan_stays_nan(
    story: Stimulus, stage: Hemodynamic, value: float
) -> None:
    response = np.random.default_rng(0).normal(size=(n_volumes(story), 5)).astype(np.float32)
    intact = stage.align(recording(response), story).responses
    spoilt = response.copy()
    spoilt[:, 1] = value
    spoilt[100, 2] = np.nan
    spoilt[:, 3] = np.nan
    found = stage.align(recording(spoilt), story).responses
    assert target_status(found).tolist() == ["ok", "constant", "nonfinite", "nonfinite", "ok"]
    np.testing.assert_array_equal(found[:, 1], 0.0)
    np.testing.assert_allclose(found[:, [0, 4]], intact[:, [0, 4]], atol=1e-12)


def test_a_target_that_is_its_own_confound_is_constant_afterwards(story: Stimulus) -> None:
    response = np.random.default_rng(0).normal(size=(n_volumes(story), 2)).astype(np.float32) + 1000
    table = pd.DataFrame({"copy": response[:, 1]})
    run = Hemodynamic().align(recording(response, read_confounds=lambda: table), story)
    assert target_status(run.responses).tolist() == ["ok", "constant"]


def test_a_response_far_from_zero_in_single_precision_keeps_its_signal(story: Stimulus, features: Features) -> None:
    times = Clock(TR_S).times(n_volumes(story))
    response = driven(features, weights_of(3), times)
    far = (response / response.std() * 5 + 1e6).astype(np.float32)
    assert scores(Hemodynamic(), recording(far), story, features).min() > 0.99


def test_a_signal_is_averaged_where_words_are_summed(story: Stimulus) -> None:
    onset = np.arange(0, story.duration_s, 0.01)
    level = np.sin(onset / 3)[None, :, None].astype(np.float32)
    sound = Features("envelope", ("envelope",), level, onset, np.full(len(onset), 0.01), kind="signal")
    given = recording(np.random.default_rng(0).normal(size=(n_volumes(story), 1)))
    run = Hemodynamic("sum", delays=(0,), **BARE).align(given, story)
    inside = run.times_s < story.duration_s - TR_S
    middle = np.sin((run.times_s + 1.0) / 3) * (np.sin(1 / 3) / (1 / 3))
    placed = run.place(sound)[0, :, 0]
    np.testing.assert_allclose(np.diff(placed[inside]), np.diff(middle[inside]), atol=0.01)


# ----------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("resampling", "tr_s", "expected"),
    [
        ("hrf", 2.0, (0,)),
        ("lanczos", 2.0, (1, 2, 3, 4)),
        ("sum", 1.5, (2, 3, 4, 5)),
        ("mean", 0.8, tuple(range(3, 11))),
        ("lanczos", 1.0, tuple(range(2, 9))),
        ("lanczos", 0.1, tuple(range(20, 81))),
    ],
)
def test_delays_by_default_are_all_from_two_to_eight_seconds(resampling: Any, tr_s: float, expected: tuple) -> None:
    assert Hemodynamic(resampling).volumes_of_delay(tr_s) == expected
    assert Hemodynamic(resampling, delays=(0, 7)).volumes_of_delay(tr_s) == (0, 7)


@pytest.mark.parametrize(
    ("settings_given", "message"),
    [
        ({"delays": ()}, "delays"),
        ({"delays": (1, -1)}, "delays"),
        ({"high_pass_s": 0.0}, "high_pass_s"),
        ({"high_pass_s": -128.0}, "high_pass_s"),
        ({"trim_s": (-1.0, 0.0)}, "trim_s"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(settings_given: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=f"alignment: {message}"):
        Hemodynamic(**settings_given)


def test_aligning_changes_neither_the_features_nor_the_response(story: Stimulus, features: Features) -> None:
    response = np.random.default_rng(0).normal(size=(n_volumes(story), 2)).astype(np.float32)
    before = response.copy(), features.values.copy()
    run = Hemodynamic("lanczos").align(recording(response), story)
    run.place(features)
    np.testing.assert_array_equal(response, before[0])
    np.testing.assert_array_equal(features.values, before[1])


# ------------------------------------------------------------------------------------------- found in review


def test_a_dimension_that_cleaning_removes_does_not_come_back_as_noise(story: Stimulus) -> None:
    # A word rate is the same in each volume once it is averaged. The rounding that cleaning leaves of it must not be
    # standardised by the encoder to a column of unit variance.
    everywhere = np.arange(0, story.duration_s + 20, 0.25)
    tale = Stimulus("story", pd.DataFrame({"onset": everywhere, "duration": 0.2, "text": "word"}))
    values = np.broadcast_to(np.float32([1.0, 0.1]), (1, len(everywhere), 2))
    constant = Features("rate", ("rate",), values, everywhere, np.full(len(everywhere), 0.2))
    n = n_volumes(story)
    envelope = pd.DataFrame({"sound_envelope": np.random.default_rng(1).normal(size=n)})
    given = recording(
        np.random.default_rng(0).normal(size=(n, 3)),
        read_confounds=lambda: envelope.rename(columns={"sound_envelope": "x"}),
        read_regressors=lambda: envelope,
    )
    run = Hemodynamic("mean", delays=(2,)).align(given, tale)
    assert not run.place(constant).any()
    assert not run.regressors().to_numpy().any(), "a regressor that is a confound as well"


def test_an_unknown_way_of_resampling_is_refused_when_it_is_given() -> None:
    with pytest.raises(RecipeError, match="resampling"):
        Hemodynamic(resampling="glover")  # type: ignore[arg-type]


def test_a_target_with_an_infinite_value_is_nonfinite_and_costs_no_other(story: Stimulus) -> None:
    response = np.random.default_rng(0).normal(size=(n_volumes(story), 3)).astype(np.float32)
    response[100, 1] = np.inf
    run = Hemodynamic().align(recording(response), story)
    assert target_status(run.responses).tolist() == ["ok", "nonfinite", "ok"]


def test_volumes_too_far_apart_for_any_default_delay_are_refused_with_what_to_do(story: Stimulus) -> None:
    with pytest.raises((DataError, RecipeError), match="delays"):
        Hemodynamic("lanczos").volumes_of_delay(tr_s=9.0)


def test_a_confound_that_is_not_finite_is_named_by_its_volume(story: Stimulus) -> None:
    response = np.random.default_rng(0).normal(size=(n_volumes(story), 1))
    table = motion(len(response))
    table.loc[30, "y"] = np.nan
    with pytest.raises(DataError, match="row 30"):
        Hemodynamic().align(recording(response, read_confounds=lambda: table), story)
