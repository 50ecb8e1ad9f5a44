"""Windows of words ahead of, or behind, each word: their vectors side by side, reduced to few dimensions.

The window at distance d of a word are the `width` words that end d words ahead (Caucheteux, Gramfort & King, 2023): at
distance 8 and width 7 the words +2 to +8, at distance -2 the words -8 to -2. A window that ends d words ahead of word
n is the one that ends at word n + d, whatever n: so windows are reduced once, in one basis, and a distance shifts them.

Windows never leave their stimulus, and nothing wraps around. Words that lack a window at any distance have zeros at
all, which is the mean of the others, and are told, so that all distances are scored on the same words. A volume of
fMRI mixes the words of many seconds: zeros among them would make of every window a marker of where the stimulus
begins and ends, the more so the further ahead it looks. Leave out all samples that such a word reaches (`reached`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import DataError, RecipeError
from brainalign.types import Features, Floats

__all__ = ["WordWindows", "complete_words", "mirror_distance", "reached", "window_offsets", "windows", "word_windows"]


def window_offsets(distance: int, width: int) -> range:
    """The words of a window, counted from the present one.

    Examples
    --------
    >>> list(window_offsets(8, width=7)), list(window_offsets(-2, width=7))
    ([2, 3, 4, 5, 6, 7, 8], [-8, -7, -6, -5, -4, -3, -2])
    """
    return range(distance - width + 1, distance + 1)


def mirror_distance(distance: int, width: int) -> int:
    """The distance of the window that lies as far on the other side of the present word.

    Examples
    --------
    >>> mirror_distance(8, width=7), mirror_distance(-2, width=7)
    (-2, 8)
    """
    return width - 1 - distance


def complete_words(n_words: int, distances: Sequence[int], width: int) -> NDArray[np.bool_]:
    """Which of a stimulus's words have all words of all windows, shape (word,) of bool.

    Examples
    --------
    >>> complete_words(6, distances=[-1, 2], width=2).astype(int)
    array([0, 0, 1, 1, 0, 0])
    """
    word = np.arange(n_words)
    return (word + min(distances) - width + 1 >= 0) & (word + max(distances) < n_words)


def windows(vectors: Floats, distance: int, width: int) -> Floats:
    """The vectors of each word's window, side by side, earliest first.

    Parameters
    ----------
    vectors : array (..., word, dimension)
        Of one stimulus.
    distance : int
        Of the last word of the window from the present one.
    width : int
        Words in the window.

    Returns
    -------
    array (..., word, width * dimension)
        Zeros for words whose window leaves the stimulus.

    Examples
    --------
    >>> windows(np.array([[1.0], [2.0], [3.0], [4.0]]), distance=2, width=2).tolist()
    [[2.0, 3.0], [3.0, 4.0], [0.0, 0.0], [0.0, 0.0]]
    """
    n_words = vectors.shape[-2]
    found = np.zeros((*vectors.shape[:-1], width * vectors.shape[-1]), dtype=vectors.dtype)
    whole = np.flatnonzero(complete_words(n_words, [distance], width))
    found[..., whole, :] = _side_by_side(vectors, whole + distance, width)
    return found


def reached(
    times_s: Floats, onset_s: Floats, complete: NDArray[np.bool_], reach_s: tuple[float, float] = (0.0, 20.0)
) -> NDArray[np.bool_]:
    """Which samples a word without all its windows reaches: those to leave out of every distance alike.

    Parameters
    ----------
    times_s : array (sample,)
        Of the samples of one stimulus, in seconds from its start.
    onset_s : array (word,)
    complete : array (word,) of bool
        As `WordWindows.complete` says.
    reach_s : (float, float)
        Seconds after its onset from which and until which a word is in the samples. Of haemodynamic responses 0 to 20;
        with Lanczos resampling from before its onset on, by the lobes less the first delay. Of word-locked samples, at
        the onsets themselves, (0, 0).

    Returns
    -------
    array (sample,) of bool

    Examples
    --------
    >>> reached(np.array([0.0, 15.0, 30.0]), np.array([1.0, 12.0]), np.array([False, True]))
    array([False,  True, False])
    """
    onset = np.sort(np.asarray(onset_s)[~np.asarray(complete)])
    slack_s = 1e-6
    first = np.searchsorted(onset, np.asarray(times_s) - reach_s[1] - slack_s)
    last = np.searchsorted(onset, np.asarray(times_s) - reach_s[0] + slack_s)
    return last > first


@dataclass(frozen=True)
class WordWindows:
    """Windows at several distances, of several stimuli.

    Attributes
    ----------
    width : int
        Words in a window.
    features : mapping of distance to (mapping of stimulus to Features)
        Of each word its window, layer by layer, as features to be placed on responses like any others.
    complete : mapping of stimulus to array (word,) of bool
        The words that have windows at all distances; of the others all windows are zeros.
    retained : array (layer,)
        The share of the windows' variance that the components keep; one where they were not reduced.
    """

    width: int
    features: Mapping[int, Mapping[str, Features]]
    complete: Mapping[str, NDArray[np.bool_]]
    retained: Floats


def word_windows(
    features: Mapping[str, Features],
    distances: Sequence[int],
    width: int = 7,
    n_components: int | None = 20,
    seed: int = 0,
) -> WordWindows:
    """Make the windows of all words at all distances, reduced without looking at responses.

    Columns are standardised and reduced to principal components over all windows of all stimuli. With `width` 1 and
    the distance 0 these are the reduced features of the words themselves.

    Parameters
    ----------
    features : mapping of stimulus to Features
        Of words. Contextual vectors of words ahead know of the present word: see what static vectors, and those of a
        context that does not reach back so far, give in their place.
    distances : sequence of int
        In words; of past windows negative.
    width : int
    n_components : int, optional
        None keeps all dimensions, standardised.
    seed : int
        Of the randomised decomposition.

    Raises
    ------
    DataError
        If features are not of words, stimuli differ in layers or dimension, values are not finite, no word has all
        windows, or there are fewer windows than components.
    RecipeError
        If there are no distances, or width or n_components are below one.

    References
    ----------
    Caucheteux, Gramfort & King (2023). Evidence of a predictive coding hierarchy in the human brain listening to
    speech. Nature Human Behaviour.

    Examples
    --------
    >>> onset = np.arange(50.0)
    >>> values = np.random.default_rng(0).normal(size=(1, 50, 3)).astype(np.float32)
    >>> story = Features("random", ("layer 0",), values, onset, np.full(50, 0.5))
    >>> found = word_windows({"story": story}, distances=[-2, 8], n_components=4)
    >>> found.features[8]["story"].values.shape, int(found.complete["story"].sum())
    ((1, 50, 4), 34)
    """
    _check(features, distances, width, n_components)
    complete = {name: complete_words(len(one.onset_s), distances, width) for name, one in features.items()}
    if not any(words.any() for words in complete.values()):
        raise DataError(
            f"No word has all windows of width {width} from {min(distances)} to {max(distances)} words: the longest "
            f"stimulus has {max(map(len, complete.values()))} words. Take shorter distances."
        )
    # Of each stimulus the windows that end at each word, (layer, word, component).
    ending, retained = _reduced(features, width, n_components, seed)
    shifted = {
        distance: {
            name: _at(one, ending[name], complete[name], distance, width, n_components)
            for name, one in features.items()
        }
        for distance in dict.fromkeys(distances)
    }
    return WordWindows(width, shifted, complete, retained)


def _check(features: Mapping[str, Features], distances: Sequence[int], width: int, n_components: int | None) -> None:
    if not len(distances) or width < 1 or (n_components is not None and n_components < 1):
        raise RecipeError(
            f"windows: distances {list(distances)}, width {width} and n_components {n_components}: give at least one "
            "distance, and a width and a number of components of at least 1."
        )
    if not features:
        raise DataError("windows: there are no features of any stimulus.")
    first = next(iter(features.values()))
    for name, one in features.items():
        if one.kind != "word":
            raise DataError(f"windows: the features of '{name}' are of a {one.kind}, not of words.")
        if one.layers != first.layers or one.values.shape[2] != first.values.shape[2]:
            raise DataError(f"windows: '{name}' has other layers or dimensions than the first stimulus.")
        if not np.isfinite(one.values).all():
            word = int(np.argwhere(~np.isfinite(one.values))[0][1])
            raise DataError(f"windows: the vector of word {word} of '{name}' is not finite.")


def _reduced(
    features: Mapping[str, Features], width: int, n_components: int | None, seed: int
) -> tuple[dict[str, Floats], Floats]:
    """The components of windows that end at each word (layer, word, component), zeros at the first words.

    And the share of the variance that they keep, layer by layer.
    """
    layers = [
        _reduced_layer([one.values[layer] for one in features.values()], width, n_components, seed)
        for layer in range(len(next(iter(features.values())).layers))
    ]
    values = {name: np.stack([found[number] for found, _ in layers]) for number, name in enumerate(features)}
    return values, np.array([retained for _, retained in layers])


def _reduced_layer(
    stories: Sequence[Floats], width: int, n_components: int | None, seed: int
) -> tuple[list[Floats], float]:
    ends = [np.arange(width - 1, len(story)) for story in stories]
    every = np.concatenate([_side_by_side(story, end, width) for story, end in zip(stories, ends, strict=True)])
    every = every.astype(np.float64)
    every -= every.mean(axis=0)
    deviation = every.std(axis=0)
    every /= np.where(deviation > 0, deviation, 1.0)
    retained = 1.0
    if n_components is not None:
        every, retained = _components(every, n_components, seed)
    found, start = [], 0
    for story, end in zip(stories, ends, strict=True):
        placed = np.zeros((len(story), every.shape[1]), dtype=np.float32)
        placed[end] = every[start : start + len(end)]
        found.append(placed)
        start += len(end)
    return found, retained


def _components(standard: Floats, n_components: int, seed: int) -> tuple[Floats, float]:
    """The largest principal components (window, component), and the share of the variance that they keep."""
    from sklearn.decomposition import PCA

    if n_components > min(standard.shape):
        raise DataError(
            f"windows: {len(standard)} windows of {standard.shape[1]} dimensions have no {n_components} components; "
            "take fewer (n_components), or None for all dimensions."
        )
    reducer = PCA(n_components, random_state=seed)
    values: Any = standard
    components = np.asarray(reducer.fit_transform(values), dtype=np.float64)
    return components, float(np.asarray(reducer.explained_variance_ratio_).sum())


def _at(
    given: Features,
    ending: Floats,
    complete: NDArray[np.bool_],
    distance: int,
    width: int,
    n_components: int | None,
) -> Features:
    """The windows at one distance as features of the present words."""
    values = np.zeros_like(ending)
    present = np.flatnonzero(complete)
    values[:, present] = ending[:, present + distance]
    how = {"window": {"distance_words": distance, "width_words": width, "n_components": n_components}}
    return replace(
        given,
        name=f"{given.name}, window {distance:+d}",
        values=values,
        metadata={**given.metadata, **how},
    )


def _side_by_side(vectors: Floats, ends: NDArray[np.intp], width: int) -> Floats:
    """The vectors (..., word, dimension) of the windows that end at these words, (..., end, width * dimension)."""
    words = ends[:, None] + np.arange(-width + 1, 1)
    return vectors[..., words, :].reshape(*vectors.shape[:-2], len(ends), width * vectors.shape[-1])
