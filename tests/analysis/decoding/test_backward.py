"""Decoding finds the layer and the latency that are in the responses, and nothing where there is nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.signal import lfilter
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from brainalign.analysis.decoding.backward import Decoding
from brainalign.analysis.inference.surrogates import CircularShift
from brainalign.encoding.ridge import RidgeEncoder
from brainalign.encoding.samples import Samples
from brainalign.encoding.splits import ContiguousBlocks, LeaveOneRunOut
from brainalign.errors import DataError, RecipeError

ONE_PENALTY = RidgeEncoder(alphas=[30.0])


def samples_of(responses: np.ndarray, **changes: Any) -> Samples:
    """One story heard once, in five blocks."""
    n = len(responses)
    story = np.full(n, "story")
    plain = Samples(
        "s1", responses, story, story, story, np.arange(n, dtype=float), ContiguousBlocks(5, 4), 4, None, None, iter
    )
    return replace(plain, **changes)


def layers_and_responses(n: int = 400, n_columns: int = 30, planted: int = 2) -> tuple[list[np.ndarray], np.ndarray]:
    """Four unrelated layers, and responses to the third."""
    random = np.random.default_rng(0)
    layers = [random.normal(size=(n, 6)) for _ in range(4)]
    return layers, layers[planted] @ random.normal(size=(6, n_columns)) + 3 * random.normal(size=(n, n_columns))


# ---- what was planted comes back


def test_the_planted_layer_is_decoded_and_the_others_are_at_chance() -> None:
    layers, responses = layers_and_responses()
    decoded = Decoding(6, k=(1, 5)).decode(samples_of(responses), layers)
    r = decoded.r.mean(axis=(1, 2, 3))
    assert r.argmax() == 2
    assert r[2] > 0.7
    others = [0, 1, 3]
    assert np.abs(r[others]).max() < 0.06
    top_1, chance = decoded.top_k[:, 0, :, 0].mean(axis=1), decoded.chance_top_k[:, 0].mean()
    assert top_1[2] > 20 * chance
    assert top_1[others].max() < 3 * chance
    for found in (decoded.rank_accuracy, decoded.two_vs_two):
        assert found[2].mean() > 0.93
        assert np.abs(found[others].mean(axis=(1, 2)) - 0.5).max() < 0.05


def test_the_latency_of_the_planted_layer_is_where_it_is_decoded_best() -> None:
    random = np.random.default_rng(1)
    layers, _ = layers_and_responses(300)
    latencies = np.arange(-0.2, 0.61, 0.1)
    strength = np.exp(-0.5 * ((latencies - 0.3) / 0.08) ** 2)
    topography = layers[1] @ random.normal(size=(6, 12))
    responses = topography[:, :, None] * strength + 4 * random.normal(size=(300, 12, len(latencies)))
    samples = samples_of(responses.reshape(300, -1), latencies_s=latencies)
    each = Decoding(6, latencies="each").decode(samples, layers)
    assert each.r.shape == (4, len(latencies), 5, 6)
    assert each.latencies_s is latencies
    for course in (each.r.mean(axis=(2, 3)), each.two_vs_two.mean(axis=2)):
        assert np.unravel_index(course.argmax(), course.shape) == (1, int(np.abs(latencies - 0.3).argmin()))
    before = latencies < -0.05
    assert np.abs(each.r[1, before].mean(axis=(1, 2))).max() < 0.08
    together = Decoding(6, latencies="all").decode(samples, layers)
    assert together.r.shape == (4, 1, 5, 6)
    assert together.latencies_s is None
    assert together.r[1].mean() > 0.9 * each.r[1].mean(axis=(1, 2)).max()


def test_one_latency_is_decoded_from_its_own_columns_only() -> None:
    layers, responses = layers_and_responses(200, n_columns=12)
    samples = samples_of(responses, latencies_s=np.array([0.0, 0.1, 0.2]))
    each = Decoding(6, latencies="each").decode(samples, layers, ONE_PENALTY)
    alone = Decoding(6).decode(samples_of(responses[:, 1::3]), layers, ONE_PENALTY)
    np.testing.assert_allclose(each.r[:, [1]], alone.r, atol=1e-10)
    np.testing.assert_allclose(each.top_k[:, [1]], alone.top_k)


def test_predictions_are_those_of_scikit_learn_s_ridge_on_the_same_folds() -> None:
    layers, responses = layers_and_responses(150)
    decoded = Decoding(3).decode(samples_of(responses), layers, ONE_PENALTY)
    targets = PCA(3).fit_transform(StandardScaler().fit_transform(layers[2]))
    for fold, (train, test) in enumerate(ContiguousBlocks(5, 4).split(responses)):
        scaler = StandardScaler().fit(responses[train])
        model = Ridge(alpha=30.0).fit(scaler.transform(responses[train]), targets[train])
        predicted = np.asarray(model.predict(scaler.transform(responses[test])))
        expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(predicted.T, targets[test].T, strict=True)]
        np.testing.assert_allclose(decoded.r[2, 0, fold], expected, atol=1e-8)
        error = ((targets[test] - predicted) ** 2).sum(axis=0)
        total = ((targets[test] - targets[train].mean(axis=0)) ** 2).sum(axis=0)
        np.testing.assert_allclose(decoded.r2[2, 0, fold], 1 - error / total, atol=1e-8)


# ---- delays


def late_responses(layer: np.ndarray, runs: np.ndarray, lag: int) -> np.ndarray:
    """Responses that come `lag` rows later, each run by itself."""
    random = np.random.default_rng(3)
    clean = layer @ random.normal(size=(layer.shape[1], 20))
    late = np.zeros_like(clean)
    for run in np.unique(runs):
        rows = np.flatnonzero(runs == run)
        late[rows[lag:]] = clean[rows[:-lag]]
    return late + random.normal(size=late.shape)


def test_a_late_response_is_found_in_the_rows_that_follow() -> None:
    layer = np.random.default_rng(2).normal(size=(240, 5))
    runs = np.repeat(["a", "b", "c"], 80)
    samples = samples_of(
        late_responses(layer, runs, 2), run=runs, stimulus=runs, groups=runs, splitter=LeaveOneRunOut()
    )
    now, later = (Decoding(5, delays=delays).decode(samples, [layer]) for delays in ((0,), (1, 2, 3)))
    assert np.abs(now.r.mean()) < 0.1
    assert later.r.mean() > 0.7
    assert (now.n_left_out, later.n_left_out) == (0, 9), "three rows of each run are not followed by all delays"


def test_delays_never_reach_into_another_run() -> None:
    random = np.random.default_rng(4)
    responses, layer = random.normal(size=(90, 6)), random.normal(size=(90, 3))
    runs = np.repeat(["a", "b", "c"], 30)
    changes: dict[str, Any] = {"run": runs, "stimulus": runs, "groups": runs, "splitter": LeaveOneRunOut()}
    decoded = Decoding(None, delays=(0, 2)).decode(samples_of(responses, **changes), [layer], ONE_PENALTY)
    # By hand: rows 0 to 27 of each run, with themselves and the row two later.
    rows = np.concatenate([np.arange(start, start + 28) for start in (0, 30, 60)])
    by_hand = samples_of(
        np.hstack([responses[rows], responses[rows + 2]]), **changes | dict.fromkeys(list(changes)[:3], runs[rows])
    )
    np.testing.assert_allclose(
        decoded.r, Decoding(None).decode(by_hand, [layer[rows]], ONE_PENALTY).r, atol=1e-10, rtol=0
    )


def test_two_hearings_that_stand_side_by_side_are_followed_each_by_its_own() -> None:
    random = np.random.default_rng(5)
    layer = random.normal(size=(60, 4))
    stories = np.repeat(["a", "b", "c"], 20)
    hearings = [late_responses(layer, stories, 1) for _ in range(2)]
    hearings[1] += 0.5 * random.normal(size=hearings[1].shape)
    interleaved = np.stack(hearings, axis=1).reshape(120, -1)
    twice = np.repeat(stories, 2)
    samples = samples_of(
        interleaved,
        stimulus=twice,
        groups=twice,
        run=np.tile(["first", "second"], 60),
        splitter=LeaveOneRunOut(),
    )
    decoded = Decoding(4, delays=(1,)).decode(samples, [np.repeat(layer, 2, axis=0)])
    assert decoded.n_left_out == 6, "the last row of each story in each hearing"
    assert decoded.r.mean() > 0.7


def test_blocks_are_farther_apart_by_the_rows_that_a_design_reaches() -> None:
    seen: list[int] = []

    class Recorded(ContiguousBlocks):
        def split(self, X: Any, y: Any = None, groups: Any = None) -> Any:
            seen.append(self.gap)
            yield from super().split(X, y, groups)

    random = np.random.default_rng(6)
    samples = samples_of(random.normal(size=(120, 4)), splitter=Recorded(3, 4))
    Decoding(2, delays=(0, 3)).decode(samples, [random.normal(size=(120, 2))])
    assert seen == [7]


# ---- candidates


def test_held_out_neighbours_are_left_out_by_the_gap_of_the_samples() -> None:
    layers, responses = layers_and_responses(200)
    decoded = Decoding(6).decode(samples_of(responses), layers[:1])
    # 40 samples a block, of which 3 on either side are too near (fewer at its ends).
    expected = np.mean([40 - min(i, 3) - min(39 - i, 3) for i in range(40)])
    np.testing.assert_allclose(decoded.n_candidates, expected)
    assert decoded.chance_top_k[0, 0] == pytest.approx(1 / expected, rel=0.02)


def test_words_of_one_vector_tie_also_through_the_principal_components() -> None:
    random = np.random.default_rng(10)
    vocabulary = random.normal(size=(12, 50)).astype(np.float32)
    layer = vocabulary[random.integers(0, 12, 300)]
    responses = layer @ random.normal(size=(50, 60)) + 0.1 * random.normal(size=(300, 60))
    decoded = Decoding(8, k=(1,)).decode(samples_of(responses, gap=1), [layer])
    assert decoded.rank_accuracy.mean() > 0.93
    assert 0.1 < decoded.top_k.mean() < 0.35, "each word stands about five times in a block of sixty"


# ---- what is degenerate


def test_responses_and_components_that_do_not_vary_are_left_out_and_the_rest_is_as_without_them() -> None:
    layers, responses = layers_and_responses(150)
    plain = Decoding(6).decode(samples_of(responses), layers, ONE_PENALTY)
    spoilt = np.hstack([responses, np.ones((150, 1)), np.full((150, 1), np.nan)])
    with_constant = [np.hstack([layer, np.full((150, 1), 7.0)]) for layer in layers]
    found = Decoding(7).decode(samples_of(spoilt), with_constant, ONE_PENALTY)
    np.testing.assert_allclose(found.r[..., :6], plain.r, atol=1e-9)
    np.testing.assert_allclose(found.two_vs_two, plain.two_vs_two, atol=1e-9)
    for undefined in (found.r, found.r2, found.at_edge):
        assert np.isnan(undefined[..., 6]).all()


def test_a_layer_that_never_varies_has_no_scores_and_the_others_keep_theirs() -> None:
    layers, responses = layers_and_responses(150)
    found = Decoding(6).decode(samples_of(responses), [np.zeros((150, 6)), layers[2]])
    assert np.isnan(found.r[0]).all()
    assert np.isnan(found.rank_accuracy[0]).all()
    assert found.r[1].mean() > 0.6


def test_a_latency_without_a_usable_response_is_undefined() -> None:
    layers, responses = layers_and_responses(150, n_columns=8)
    responses[:, ::2] = 0.0
    found = Decoding(6, latencies="each").decode(samples_of(responses, latencies_s=np.array([0.0, 0.1])), layers)
    assert np.isnan(found.r[:, 0]).all()
    assert np.isnan(found.top_k[:, 0]).all()
    assert np.isfinite(found.r[:, 1]).all()


def test_fewer_columns_than_components_are_as_many_components() -> None:
    layers, responses = layers_and_responses(150)
    assert Decoding(20).decode(samples_of(responses), layers).r.shape[-1] == 6


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"n_components": 0}, "n_components is 0"),
        ({"delays": (-1,)}, "none negative"),
        ({"delays": ()}, "give whole volumes"),
        ({"delays": (1, 1)}, "each once"),
        ({"latencies": "evry"}, "there are no latencies 'evry'"),
        ({"k": (0,)}, "from 1 on"),
        ({"k": ()}, "at least one"),
        ({"permutations": -1}, "neither can be negative"),
    ],
)
def test_settings_that_cannot_be_are_refused_on_construction(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Decoding(**setting)


@pytest.mark.parametrize(
    ("setting", "changes", "error", "message"),
    [
        ({"latencies": "each"}, {}, RecipeError, "these responses have none"),
        ({"delays": (1,)}, {"latencies_s": np.array([0.0, 0.1])}, RecipeError, "leave delays out"),
        ({}, {"responses": np.zeros((60, 4))}, DataError, "no response varies"),
    ],
)
def test_responses_that_a_setting_does_not_fit_are_refused(
    setting: dict[str, Any], changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    random = np.random.default_rng(0)
    samples = replace(samples_of(random.normal(size=(60, 4))), **changes)
    with pytest.raises(error, match=message):
        Decoding(**setting).decode(samples, [random.normal(size=(60, 3))])


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], "their widths: none"),
        ([np.ones((60, 2)), np.ones((60, 3))], "their widths: 2, 3"),
        ([np.ones((59, 2))], r"layer number 0: features of shape \(59, 2\) for 60 samples"),
        ([np.full((60, 2), np.inf)], "not finite"),
    ],
)
def test_layers_that_cannot_be_decoded_are_refused(layers: list[np.ndarray], message: str) -> None:
    responses = np.random.default_rng(0).normal(size=(60, 4))
    with pytest.raises(DataError, match=message):
        Decoding(None).decode(samples_of(responses), layers)


# ---- shifted features


def test_the_p_of_the_planted_layer_is_the_smallest_and_chance_is_what_shifted_features_give() -> None:
    layers, responses = layers_and_responses()
    decoded = Decoding(6, permutations=99).decode(samples_of(responses), layers)
    assert decoded.null.shape == (4, 1, 99)
    assert decoded.p[2, 0] == 0.01
    assert (decoded.p[[0, 1, 3], 0] > 0.05).all()
    np.testing.assert_allclose(decoded.mean_r, decoded.r.mean(axis=(2, 3)))
    assert np.abs(decoded.null.mean()) < 0.02


def test_shifted_features_are_scored_as_if_they_were_decoded_at_the_same_penalties() -> None:
    layers, responses = layers_and_responses(150)
    samples = samples_of(responses)
    decoded = Decoding(3, permutations=4).decode(samples, layers[:1], ONE_PENALTY)
    shift = CircularShift(samples.run, 4, 0, samples.stimulus, min_shift=20)
    for number in range(4):
        by_hand = Decoding(3, permutations=0).decode(samples, [layers[0][shift.order(number)]], ONE_PENALTY)
        # Components of shifted rows are shifted components, up to their signs.
        np.testing.assert_allclose(decoded.null[0, 0, number], by_hand.mean_r[0, 0], atol=1e-5)


def test_the_p_of_two_slow_series_that_know_nothing_of_each_other_holds_its_level() -> None:
    found = []
    for seed in range(40):
        random = np.random.default_rng(seed)
        slow = lfilter([1.0], [1.0, -0.8], random.normal(size=(260, 9)), axis=0)[60:]
        decoded = Decoding(3, permutations=39).decode(samples_of(slow[:, 3:]), [slow[:, :3]], ONE_PENALTY)
        found.append(float(decoded.p[0, 0]))
    assert np.mean(np.array(found) <= 0.1) <= 0.25, "binomial 99 % of 40 draws at .1"


def test_no_shifts_are_no_p() -> None:
    layers, responses = layers_and_responses(100)
    none = Decoding(3, permutations=0).decode(samples_of(responses), layers)
    short = Decoding(3, min_shift_s=60.0).decode(samples_of(responses), layers)
    reduced = Decoding(3).decode(samples_of(responses), layers, RidgeEncoder(n_components=5))
    for decoded in (none, short, reduced):
        assert decoded.null.shape == (4, 1, 0)
        assert np.isnan(decoded.p).all()
        assert np.isfinite(decoded.mean_r).all()
    assert none.findings == ()
    assert [finding.code for finding in (*short.findings, *reduced.findings)] == ["no-permutations"] * 2


def test_a_layer_that_never_varies_has_no_p_and_the_others_keep_theirs() -> None:
    layers, responses = layers_and_responses(150)
    found = Decoding(6, permutations=19).decode(samples_of(responses), [np.zeros((150, 6)), layers[2]])
    assert np.isnan(found.mean_r[0]).all()
    assert np.isnan(found.p[0]).all()
    assert found.p[1, 0] == 0.05
