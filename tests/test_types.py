"""The nouns: what they refuse, and what they compute."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainalign.errors import DataError
from brainalign.types import Clock, Features, Finding, Recording, Scores, Stimulus, check_words

NAN, INF = float("nan"), float("inf")
TARGETS = pd.DataFrame({"name": ["left", "right"], "kind": "region"})


def words_with(**columns) -> pd.DataFrame:
    """Four good words, but for the columns given."""
    good = {"onset": [0.0, 0.5, 1.0, 1.5], "duration": [0.3] * 4, "text": ["once", "upon", "a", "time"]}
    return pd.DataFrame({**good, **columns})


def recording_of(values, **changes) -> Recording:
    settings = {
        "subject": "01",
        "run": "2",
        "stimulus": "story",
        "modality": "fmri",
        "clock": Clock(2.0),
        "offset_s": 0.0,
        "targets": TARGETS,
        "read": lambda: values,
        "digest": "d",
    }
    return Recording(**{**settings, **changes})


# Clock


@settings(deadline=None)
@given(step=st.floats(0.001, 10.0), start=st.floats(-100.0, 100.0), n=st.integers(0, 50))
def test_rows_of_a_clock_are_evenly_spaced_from_its_start(step, start, n):
    times = Clock(step, start).times(n)
    assert times.shape == (n,)
    np.testing.assert_allclose(times, [start + i * step for i in range(n)], rtol=1e-12, atol=1e-9)


def test_the_rate_of_a_clock_is_one_over_its_step():
    assert Clock(0.01).sfreq_hz == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("step_s", "start_s"), [(0.0, 0.0), (-2.0, 0.0), (NAN, 0.0), (INF, 0.0), (2.0, NAN), (2.0, INF), (2.0, -INF)]
)
def test_a_clock_that_cannot_be_is_refused_with_both_numbers(step_s, start_s):
    with pytest.raises(DataError, match=rf"not {re.escape(str(step_s))} s and {re.escape(str(start_s))} s"):
        Clock(step_s, start_s)


# Words


@pytest.mark.parametrize(
    ("columns", "word", "what"),
    [
        ({"onset": [0.0, 1.0, 0.5, 1.5]}, "word 3", "before the previous word's; sort the words by onset"),
        ({"onset": [-0.1, 0.5, 1.0, 1.5]}, "word 1", "onset is negative"),
        ({"onset": [0.0, NAN, 1.0, 1.5]}, "word 2", "onset is missing or infinite"),
        ({"onset": [0.0, None, 1.0, 1.5]}, "word 2", "onset is missing or infinite"),
        ({"onset": pd.array([0, None, 1, 2], dtype="Int64")}, "word 2", "onset is missing or infinite"),
        ({"onset": [0.0, 0.5, 1.0, INF]}, "word 4", "onset is missing or infinite"),
        ({"onset": [0.0, 0.5, INF, INF]}, "word 3", "onset is missing or infinite"),
        ({"onset": [-INF, -INF, 1.0, 2.0]}, "word 1", "onset is missing or infinite"),
        ({"duration": [0.3, -0.1, 0.3, 0.3]}, "word 2", "duration is negative"),
        ({"duration": [0.3, 0.3, NAN, 0.3]}, "word 3", "duration is missing or infinite"),
        ({"duration": [0.3, 0.3, INF, 0.3]}, "word 3", "duration is missing or infinite"),
        ({"text": ["once", "", "a", "time"]}, "word 2", "text is empty"),
        ({"text": ["once", "upon", "a", " \t\u00a0"]}, "word 4", "text is empty"),
        ({"text": ["once", None, "a", "time"]}, "word 2", "text is empty"),
        ({"text": pd.Series(["once", "upon", NAN, "time"], dtype=object)}, "word 3", "text is empty"),
    ],
)
def test_the_row_that_cannot_be_right_is_named(columns, word, what):
    with pytest.raises(DataError, match=rf"^stimulus 'story', {word} \(.*\): .*{re.escape(what)}.*\.$"):
        Stimulus("story", words_with(**columns))


@pytest.mark.parametrize("column", ["onset", "duration"])
@pytest.mark.parametrize(
    "values",
    [["1", "2", "3", "4"], ["0.0", "x", "1", "2"], pd.to_timedelta([0, 1, 2, 3], unit="s"), [0j, 1j, 2j, 3j]],
    ids=["numbers as text", "text", "timedelta", "complex"],
)
def test_times_that_are_not_numbers_are_refused(column, values):
    # As text, "1" + "2" seconds end at "12".
    with pytest.raises(DataError, match=f"stimulus 'story'.*{column}"):
        Stimulus("story", words_with(**{column: values}))


@pytest.mark.parametrize("column", ["onset", "duration", "text"])
def test_a_missing_column_is_named_with_those_there_are(column):
    there = [name for name in ("onset", "duration", "text") if name != column]
    with pytest.raises(DataError, match=rf"^words.csv: no column '{column}'; found {', '.join(there)}\.$"):
        check_words(words_with().drop(columns=column), "words.csv")


def test_a_table_without_rows_is_refused():
    with pytest.raises(DataError, match=r"story.*empty"):
        Stimulus("story", words_with().iloc[:0])


def test_rows_are_called_what_the_caller_calls_them():
    with pytest.raises(DataError, match=r"^a\.csv, line 9 \('upon', onset -1 s\): onset is negative\.$"):
        check_words(words_with(onset=[0.0, -1.0, 1.0, 2.0]), "a.csv", ["line 2", "line 9", "line 10", "line 11"])


def test_the_index_of_the_table_does_not_matter():
    words = words_with(onset=[0.0, 1.0, 0.5, 1.5]).set_index(pd.Index([7, 7, 7, 7]))
    with pytest.raises(DataError, match="word 3"):
        check_words(words, "here")


@pytest.mark.parametrize("text", ["None", "nan", "NA", "null", "N/A", "NaN", "-", "0"])
def test_words_that_look_like_missing_values_are_words(text):
    stimulus = Stimulus("story", words_with(text=["once", text, "a", "time"]))
    assert stimulus.words["text"].tolist() == ["once", text, "a", "time"]


def test_words_at_one_moment_and_of_no_duration_are_fine():
    check_words(words_with(onset=[0.0, 0.5, 0.5, 0.5], duration=[0.0] * 4), "here")


def test_a_stimulus_lasts_until_the_last_word_to_end_has_ended():
    assert Stimulus("story", words_with(duration=[5.0, 0.1, 0.1, 0.1])).duration_s == 5.0


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 1e4), min_size=1, max_size=30).map(sorted),
    st.data(),
)
def test_sorted_words_pass_and_any_swap_of_unequal_onsets_does_not(onsets, data):
    words = pd.DataFrame({"onset": onsets, "duration": 0.1, "text": "w"})
    check_words(words, "here")
    i = data.draw(st.integers(0, len(onsets) - 1))
    j = data.draw(st.integers(0, len(onsets) - 1))
    if onsets[i] != onsets[j]:
        onsets[i], onsets[j] = onsets[j], onsets[i]
        with pytest.raises(DataError, match="sort the words"):
            check_words(words.assign(onset=onsets), "here")


# Recording


def test_a_response_is_given_as_float32_of_the_shape_read():
    response = recording_of([[1, 2], [3, 4], [5, 6]]).response()
    assert response.dtype == np.float32
    assert response.tolist() == [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 3), (0, 2), (2, 3, 2), ()])
def test_a_response_of_another_shape_is_refused_with_both_shapes(shape):
    with pytest.raises(DataError, match=rf"^subject 01, run 2: .* {re.escape(str(shape))}; expected \(time, 2\)"):
        recording_of(np.zeros(shape)).response()


@pytest.mark.parametrize(
    "values",
    [
        np.ones((3, 2)) * (1 + 2j),
        np.array([["1", "2"], ["3", "4"]]),
        np.array([[1.0, None]], dtype=object),
        np.ma.masked_equal(np.array([[1.0, 99.0], [2.0, 3.0]]), 99.0),
    ],
    ids=["complex", "text", "objects", "masked"],
)
def test_a_response_that_float32_would_silently_change_is_refused(values):
    with pytest.raises(DataError, match="subject 01, run 2"):
        recording_of(values).response()


def test_nan_in_a_response_is_kept_for_the_checks_to_name():
    assert np.isnan(recording_of([[NAN, 1.0]]).response()).tolist() == [[True, False]]


def test_nothing_is_read_before_it_is_asked_for():
    def read():
        raise AssertionError("was read")

    recording = recording_of(None, read=read, read_confounds=read, read_regressors=read)
    assert str(recording) == "subject 01, run 2"
    with pytest.raises(AssertionError, match="was read"):
        recording.response()


def test_a_recording_without_confounds_or_regressors_has_tables_without_columns():
    recording = recording_of(np.zeros((3, 2)))
    assert recording.confounds().shape == recording.regressors().shape == (0, 0)


def test_confounds_and_regressors_are_what_is_read():
    table = pd.DataFrame({"x": [1.0, 2.0]})
    recording = recording_of(None, read_confounds=lambda: table, read_regressors=lambda: 2 * table)
    assert recording.confounds()["x"].tolist() == [1.0, 2.0]
    assert recording.regressors()["x"].tolist() == [2.0, 4.0]


def test_a_finding_reads_as_where_and_what():
    assert str(Finding("zero", "subject s33", "all zeros")) == "subject s33: all zeros"


# Features


def features_of(shape=(3, 4, 2), n_layers=3, n_onsets=4, n_durations=4) -> Features:
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return Features("m", tuple("abcdef"[:n_layers]), values, np.arange(n_onsets), np.ones(n_durations))


@pytest.mark.parametrize(
    "wrong",
    [
        {"shape": (4, 2)},
        {"shape": (3, 4)},
        {"shape": (3, 4, 2, 1)},
        {"n_layers": 2},
        {"n_onsets": 5},
        {"n_durations": 3},
        {"shape": (4, 3, 2)},
    ],
    ids=str,
)
def test_features_whose_parts_do_not_agree_are_refused(wrong):
    with pytest.raises(ValueError, match="features 'm': values of shape"):
        features_of(**wrong)


@pytest.mark.parametrize("layers", [[0], [2, 0], (1,), range(3), np.array([1, 2]), []])
def test_selected_layers_keep_their_names_values_and_order(layers):
    features = features_of()
    selected = features.select(layers)
    assert selected.layers == tuple("abc"[i] for i in layers)
    assert selected.values.shape == (len(layers), 4, 2)
    for row, layer in enumerate(layers):
        np.testing.assert_array_equal(selected.values[row], features.values[layer])
    assert features.layers == ("a", "b", "c")


def test_selecting_a_layer_that_is_not_there_is_an_error():
    with pytest.raises(IndexError):
        features_of().select([3])


# Scores


def scores_of(r_joint=(0.5, NAN, 0.9), r_baseline=(0.1, 0.2, NAN)) -> Scores:
    """Two layers, three folds, one target; the second layer is the first plus 1."""
    joint = np.stack([np.array(r_joint), np.array(r_joint) + 1.0])[:, :, None]
    return Scores(
        {
            "r": (("layer", "fold", "target"), joint / 2),
            "r_joint": (("layer", "fold", "target"), joint),
            "r_baseline": (("fold", "target"), np.array(r_baseline)[:, None]),
            "alpha": (("layer", "fold", "target"), np.ones(joint.shape)),
            "status": (("target",), ["ok"]),
        },
        coords={"layer_name": ("layer", ["low", "high"]), "subject": ("target", ["01"])},
    )


def test_the_gain_is_a_mean_of_differences_and_not_a_difference_of_means():
    frame = scores_of().to_frame()
    # Only the first fold has both: .5 - .1. The means differ by .7 - .15.
    np.testing.assert_allclose(frame["gain"], [0.4, 1.4])
    np.testing.assert_allclose(frame["r_joint"], [0.7, 1.7])
    np.testing.assert_allclose(frame["r_baseline"], [0.15, 0.15])


def test_a_gain_that_no_fold_defines_is_nan_without_a_warning():
    frame = scores_of(r_joint=[NAN, NAN, 0.9]).to_frame()
    assert frame["gain"].isna().all()
    np.testing.assert_allclose(frame["r_joint"], [0.9, 1.9])


def test_the_table_has_one_row_per_layer_and_target_with_its_coordinates():
    frame = scores_of().to_frame()
    assert frame["layer_name"].tolist() == ["low", "high"]
    assert frame["subject"].tolist() == ["01", "01"]
    assert not {"alpha", "status", "fold"} & set(frame.columns)


def test_the_table_has_one_row_per_latency_too():
    scores = Scores(
        {"r": (("layer", "fold", "target", "latency"), np.arange(24.0).reshape(2, 2, 3, 2))},
        coords={"latency": [-0.1, 0.2]},
    )
    frame = scores.to_frame()
    assert len(frame) == 2 * 3 * 2
    assert "gain" not in frame
    row = frame[(frame["layer"] == 1) & (frame["target"] == 2) & (frame["latency"] == 0.2)]
    assert row["r"].item() == np.mean([17.0, 23.0])


def test_the_scores_are_left_as_they_were():
    scores = scores_of()
    scores.to_frame()
    assert "gain" not in scores
    assert "alpha" in scores
