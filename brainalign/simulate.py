"""Datasets with planted truth: which layer drives which target, when, and how strongly, is known.

A method that cannot find what was planted cannot be believed about brains. `simulate_fmri` and `simulate_meg` plant
any features of any stimuli; `Simulated` is the dataset of that kind that needs no download.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from scipy.signal import lfilter

from brainalign.alignment import resampling_matrix
from brainalign.errors import DataError, RecipeError
from brainalign.features import ToyModel
from brainalign.files import digest_of
from brainalign.manifests import read_manifest
from brainalign.types import Clock, Dataset, Features, Finding, Floats, Modality, Recording, Stimulus

__all__ = ["InMemory", "Simulated", "simulate_fmri", "simulate_meg", "words_from_text"]

# A volume's noise resembles its neighbour's (.5 at 2 s is common in fMRI), a sensor's noise from one hundredth of a
# second to the next still more.
FMRI_NOISE_AUTOCORRELATION = 0.5
MEG_NOISE_AUTOCORRELATION = 0.9
RESPONSE_WIDTH_S = 0.04
TITLES = {"fmri": "fMRI", "meg": "MEG"}


@dataclass(eq=False)
class InMemory(Dataset):
    """A dataset whose stimuli and recordings are already made.

    Parameters
    ----------
    name, title : str
    modality : {"fmri", "meg", "eeg", "ecog"}
    stimuli_by_id : mapping of str -> Stimulus
    given : sequence of Recording

    Examples
    --------
    >>> InMemory("mine", "My pilot", "fmri", {}, ()).subjects
    ()
    """

    name: str
    title: str
    modality: Modality
    stimuli_by_id: Mapping[str, Stimulus]
    given: Sequence[Recording]
    citation: str = ""
    licence: str = ""

    @property
    def subjects(self) -> tuple[str, ...]:
        """All subjects, in the order of their first recording."""
        return tuple(dict.fromkeys(recording.subject for recording in self.given))

    @property
    def stimuli(self) -> Mapping[str, Stimulus]:
        """The stimuli by id."""
        return self.stimuli_by_id

    def recordings(
        self, subjects: Sequence[str] | None = None, stimuli: Sequence[str] | None = None
    ) -> list[Recording]:
        """The recordings of these subjects and stimuli."""
        return [
            recording
            for recording in self.given
            if (subjects is None or recording.subject in subjects)
            and (stimuli is None or recording.stimulus in stimuli)
        ]

    def fetch(self, subjects: Sequence[str] | None = None) -> list[Finding]:
        """Nothing is to be fetched."""
        return []


def words_from_text(text: str, seed: int = 0, words_per_second: float = 2.5) -> pd.DataFrame:
    """Give any text the times of speech: longer words last longer, and after punctuation comes a pause.

    Parameters
    ----------
    text : str
        Words are what stands between blanks.
    seed : int
    words_per_second : float
        Mean rate of speech, pauses included.

    Returns
    -------
    pandas.DataFrame
        Columns ``onset``, ``duration`` (seconds), ``text``, ``sentence``.

    Raises
    ------
    DataError
        If the text has no words.

    Examples
    --------
    >>> words_from_text("Hello world. Again!").sentence.tolist()
    [0, 0, 1]
    """
    words = text.split()
    if not words:
        raise DataError("The text has no words.")
    random = np.random.default_rng(seed)
    length = np.array([len(word) for word in words])
    ends = np.array([word[-1] in ".!?" for word in words])
    pause = np.where(ends, 0.6, np.array([0.3 if word[-1] in ",;:" else 0.0 for word in words]))
    duration = (0.08 + 0.045 * length) * random.uniform(0.7, 1.3, len(words))
    gap = pause * random.uniform(0.5, 1.5, len(words)) + random.exponential(0.03, len(words))
    scale = len(words) / words_per_second / (duration + gap).sum()
    duration, gap = duration * scale, gap * scale
    onset = np.r_[0.0, np.cumsum(duration + gap)[:-1]]
    return pd.DataFrame({"onset": onset, "duration": duration, "text": words, "sentence": np.cumsum(ends) - ends})


def simulate_fmri(
    stimuli: Mapping[str, Stimulus],
    features: Mapping[str, Features],
    truth: pd.DataFrame,
    subjects: Sequence[str],
    tr_s: float = 2.0,
    seed: int = 0,
) -> InMemory:
    """Make fMRI runs in which each target follows one layer through Glover's response.

    Parameters
    ----------
    stimuli, features : mapping of stimulus id -> Stimulus, Features
    truth : pandas.DataFrame
        One row per target: ``name``; ``planted_layer``, an index into the layers, -1 for none;
        ``explained_variance``, the layer's share of the target's variance; ``rate_variance``, the word rate's share.
    subjects : sequence of str
        Each gets weights and noise of its own.
    tr_s : float
    seed : int

    Examples
    --------
    >>> stimulus = Stimulus("story", words_from_text("the cat sat on the mat. " * 50))
    >>> truth = pd.DataFrame(
    ...     {"name": ["a"], "planted_layer": [1], "explained_variance": [0.5], "rate_variance": [0.1]}
    ... )
    >>> data = simulate_fmri({"story": stimulus}, {"story": ToyModel(n_layers=2).extract(stimulus)}, truth, ["s1"])
    >>> data.recordings()[0].response().shape
    (70, 1)
    """
    clock = Clock(tr_s)

    def respond(stimulus: Stimulus, space: Features, weights: Floats, random: np.random.Generator) -> Floats:
        n_volumes = int(np.ceil((stimulus.duration_s + 20.0) / tr_s))
        place = resampling_matrix(space.onset_s, space.duration_s, clock, n_volumes, "hrf")
        signal = np.stack([place @ drive for drive in _drives(space, truth, weights)], axis=1)
        rate = place.sum(axis=1, keepdims=True)
        noise = _autoregressive(signal.shape, FMRI_NOISE_AUTOCORRELATION, random)
        return _mix([(signal, truth["explained_variance"]), (rate, truth["rate_variance"])], noise)

    return _simulate("fmri", stimuli, features, truth, subjects, clock, 0.0, seed, respond)


def simulate_meg(
    stimuli: Mapping[str, Stimulus],
    features: Mapping[str, Features],
    truth: pd.DataFrame,
    subjects: Sequence[str],
    sfreq_hz: float = 100.0,
    seed: int = 0,
) -> InMemory:
    """Make MEG runs in which each word adds, at a target's latency, a bump that follows one layer.

    Parameters
    ----------
    stimuli, features : mapping of stimulus id -> Stimulus, Features
    truth : pandas.DataFrame
        One row per target: ``name``; ``planted_layer`` (-1 for none); ``planted_latency``, in seconds from word onset;
        ``explained_variance``, the bumps' share of the signal's variance; and the place ``x``, ``y``, ``z`` in metres.
    subjects : sequence of str
    sfreq_hz : float
    seed : int

    Examples
    --------
    >>> stimulus = Stimulus("story", words_from_text("the cat sat on the mat. " * 50))
    >>> truth = pd.DataFrame(
    ...     {"name": ["a"], "planted_layer": [1], "planted_latency": [0.2], "explained_variance": [0.2]}
    ... )
    >>> data = simulate_meg({"story": stimulus}, {"story": ToyModel(n_layers=2).extract(stimulus)}, truth, ["s1"])
    >>> data.recordings()[0].clock.sfreq_hz
    100.0
    """
    lead_s = 1.0
    clock = Clock(1.0 / sfreq_hz)

    def respond(stimulus: Stimulus, space: Features, weights: Floats, random: np.random.Generator) -> Floats:
        n_times = int(np.ceil((stimulus.duration_s + 2 * lead_s) * sfreq_hz))
        latencies = truth["planted_latency"].to_numpy(dtype=float)
        drives = _drives(space, truth, weights)
        bumps = [
            _bumps(lead_s + space.onset_s + latency_s, drive, clock, n_times)
            for latency_s, drive in zip(latencies, drives, strict=True)
        ]
        signal = np.stack(bumps, axis=1)
        noise = _autoregressive(signal.shape, MEG_NOISE_AUTOCORRELATION, random)
        return _mix([(signal, truth["explained_variance"])], noise)

    return _simulate("meg", stimuli, features, truth, subjects, clock, lead_s, seed, respond)


def _simulate(
    modality: Modality,
    stimuli: Mapping[str, Stimulus],
    features: Mapping[str, Features],
    truth: pd.DataFrame,
    subjects: Sequence[str],
    clock: Clock,
    offset_s: float,
    seed: int,
    respond: Callable[[Stimulus, Features, Floats, np.random.Generator], Floats],
) -> InMemory:
    """Every subject's recording of every stimulus; each subject has weights of its own, each recording its noise."""
    recordings = []
    for number, subject in enumerate(subjects):
        weights = _weights(features, truth, np.random.default_rng([seed, number, 0]))
        for run, (stimulus_id, stimulus) in enumerate(stimuli.items()):
            random = np.random.default_rng([seed, number, run, 1])
            response = respond(stimulus, features[stimulus_id], weights, random)
            recordings.append(_recording(subject, stimulus_id, modality, clock, offset_s, truth, response, seed))
    title = f"Simulated {TITLES[modality]} with planted layers"
    return InMemory("simulated", title, modality, dict(stimuli), tuple(recordings))


class Simulated(Dataset):
    """Brains made by the computer: each target follows a layer of `ToyModel` that is known, some follow none.

    Parameters
    ----------
    root : Path, optional
        Where the path `text` counts from.
    subjects : tuple of str, optional
        Of "01", "02" ...; all by default.
    modality : {"fmri", "meg"}
    n_subjects, n_runs : int
    n_words : int
        In each run, where no `text` is given.
    text : Path, optional
        A text file to be spoken; by default random words, each as frequent as in English.
    explained_variance : float, optional
        Share of each driven target's variance that its layer explains; by default .3 for fMRI, .05 for MEG.
    n_layers, dimension : int
        Of the `ToyModel` that is planted.
    seed : int

    Examples
    --------
    >>> Simulated(n_subjects=2).subjects
    ('01', '02')
    """

    name = "simulated"

    def __init__(
        self,
        root: Path | None = None,
        subjects: tuple[str, ...] | None = None,
        modality: Literal["fmri", "meg"] = "fmri",
        n_subjects: int = 4,
        n_runs: int = 4,
        n_words: int = 700,
        text: Path | None = None,
        explained_variance: float | None = None,
        n_layers: int = 8,
        dimension: int = 32,
        seed: int = 0,
    ) -> None:
        if min(n_subjects, n_runs, n_words, n_layers, dimension) < 1:
            raise RecipeError("simulated: n_subjects, n_runs, n_words, n_layers and dimension are at least 1.")
        if explained_variance is not None and not 0 <= explained_variance < 0.9:
            raise RecipeError(f"simulated: explained_variance is {explained_variance}; it lies from 0 to below 0.9.")
        everyone = tuple(f"{number + 1:02d}" for number in range(n_subjects))
        for subject in subjects or ():
            if subject not in everyone:
                raise RecipeError(f"simulated: no subject '{subject}'; there are {everyone[0]} to {everyone[-1]}.")
        self.modality: Modality = modality
        manifest = read_manifest("simulated")
        self.citation, self.licence = manifest.citation, manifest.licence
        self.title = f"Simulated {TITLES[modality]} with planted layers"
        self._everyone = everyone
        self._subjects = subjects or everyone
        self._text = (root or Path()) / text if text is not None else None
        self._n_runs, self._n_words, self._seed = n_runs, n_words, seed
        default = 0.3 if modality == "fmri" else 0.05
        self._explained_variance = default if explained_variance is None else explained_variance
        self._model = ToyModel(n_layers=n_layers, dimension=dimension)

    @property
    def subjects(self) -> tuple[str, ...]:
        """The subjects chosen."""
        return self._subjects

    @cached_property
    def stimuli(self) -> Mapping[str, Stimulus]:
        """One stimulus per run."""
        texts = _split(self._text, self._n_runs) if self._text else self._random_texts()
        ids = [f"run-{run + 1}" for run in range(len(texts))]
        return {
            name: Stimulus(name, words_from_text(text, self._seed + run))
            for run, (name, text) in enumerate(zip(ids, texts, strict=True))
        }

    @cached_property
    def truth(self) -> pd.DataFrame:
        """What is planted: one row per target."""
        layers = np.arange(self._model.n_layers + 1)
        if self.modality == "fmri":
            planted = [*layers, -1]
            names = [f"region {layer}" for layer in layers] + ["silent"]
            driven = np.array(planted) >= 0
            return pd.DataFrame(
                {
                    "name": names,
                    "kind": "region",
                    "planted_layer": planted,
                    "explained_variance": np.where(driven, self._explained_variance, 0.0),
                    "rate_variance": np.where(driven, 0.1, 0.0),
                }
            )
        sensors = _magnetometers()
        # From the back of the left side to its front, sensors follow higher layers, later; the right is silent.
        rank = sensors["y"].rank(method="first") - 1
        planted = np.where(sensors["x"] > 0, -1, rank * len(layers) // len(sensors)).astype(int)
        latency = np.where(planted < 0, np.nan, 0.1 + 0.3 * planted / max(layers[-1], 1))
        return sensors.assign(
            planted_layer=planted,
            planted_latency=latency.round(2),
            explained_variance=np.where(planted >= 0, self._explained_variance, 0.0),
        )

    def recordings(
        self, subjects: Sequence[str] | None = None, stimuli: Sequence[str] | None = None
    ) -> list[Recording]:
        """The recordings of these subjects and stimuli."""
        return self._made.recordings(self._subjects if subjects is None else subjects, stimuli)

    def fetch(self, subjects: Sequence[str] | None = None) -> list[Finding]:
        """Nothing is to be fetched."""
        return []

    @property
    def findings(self) -> list[Finding]:
        """That these are no recordings."""
        return [Finding("simulated", "simulated", "the responses are made by the computer, with planted truth.")]

    @cached_property
    def _made(self) -> InMemory:
        features = {name: self._model.extract(stimulus) for name, stimulus in self.stimuli.items()}
        make = simulate_fmri if self.modality == "fmri" else simulate_meg
        return make(self.stimuli, features, self.truth, self._everyone, seed=self._seed)

    def _random_texts(self) -> list[str]:
        """Words as frequent as in English, in sentences of 5 to 15."""
        from wordfreq import top_n_list, word_frequency

        words = [word for word in top_n_list("en", 2000) if word.isalpha()]
        frequency = np.array([word_frequency(word, "en") for word in words])
        random = np.random.default_rng(self._seed)
        texts = []
        for _ in range(self._n_runs):
            chosen = random.choice(words, self._n_words, p=frequency / frequency.sum()).tolist()
            end = 0
            while end < len(chosen):
                end += int(random.integers(5, 16))
                chosen[min(end, len(chosen)) - 1] += "."
            texts.append(" ".join(chosen))
        return texts


def _split(path: Path, n_runs: int) -> list[str]:
    """The words of a text file in `n_runs` parts of equal length."""
    try:
        words = path.read_text(encoding="utf-8-sig").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text: {error}") from error
    if len(words) < n_runs:
        raise DataError(f"{path}: {len(words)} words cannot be split into {n_runs} runs.")
    return [" ".join(part) for part in np.array_split(words, n_runs)]


def _magnetometers() -> pd.DataFrame:
    """The 102 magnetometers of a Neuromag helmet: ``name``, ``kind`` and place in metres."""
    import mne

    info = mne.channels.read_meg_canonical_info("neuromag", verbose="error")
    sensors = [info["chs"][i] for i in mne.pick_types(info, meg="mag")]
    place = np.array([sensor["loc"][:3] for sensor in sensors])
    names = [sensor["ch_name"] for sensor in sensors]
    return pd.DataFrame({"name": names, "kind": "sensor", "x": place[:, 0], "y": place[:, 1], "z": place[:, 2]})


def _weights(features: Mapping[str, Features], truth: pd.DataFrame, random: np.random.Generator) -> Floats:
    """How a subject's targets read the dimensions of their layers, shape (target, dimension)."""
    dimension = next(iter(features.values())).values.shape[2]
    return random.normal(size=(len(truth), dimension))


def _drives(space: Features, truth: pd.DataFrame, weights: Floats) -> list[Floats]:
    """What drives each target, word by word, shape (word,) each; zero where nothing is planted."""
    layers = truth["planted_layer"].to_numpy(dtype=int)
    n_words = space.values.shape[1]
    return [
        space.values[layer].astype(np.float64) @ weights[target] if layer >= 0 else np.zeros(n_words)
        for target, layer in enumerate(layers)
    ]


def _bumps(centre_s: Floats, height: Floats, clock: Clock, n_times: int) -> Floats:
    """The sum of Gaussian bumps at these seconds, shape (n_times,)."""
    signal = np.zeros(n_times)
    if np.isnan(centre_s).any():
        return signal
    reach = int(np.ceil(4 * RESPONSE_WIDTH_S / clock.step_s))
    rows = np.rint((centre_s - clock.start_s) / clock.step_s).astype(int)[:, None] + np.arange(-reach, reach + 1)
    distance = rows * clock.step_s + clock.start_s - centre_s[:, None]
    inside = (rows >= 0) & (rows < n_times)
    np.add.at(signal, rows[inside], (height[:, None] * np.exp(-0.5 * (distance / RESPONSE_WIDTH_S) ** 2))[inside])
    return signal


def _autoregressive(shape: tuple[int, ...], autocorrelation: float, random: np.random.Generator) -> Floats:
    """Noise of unit variance in which each row resembles the row before, shape (row, column)."""
    burn_in = 200
    white = random.normal(size=(shape[0] + burn_in, shape[1]))
    noise = lfilter([np.sqrt(1 - autocorrelation**2)], [1, -autocorrelation], white, axis=0)
    return np.asarray(noise)[burn_in:]


def _mix(parts: Sequence[tuple[Floats, pd.Series]], noise: Floats) -> Floats:
    """Add parts so that each has its share of the variance, the noise the rest, shape (row, target), float32."""
    mixed, rest = np.zeros_like(noise), np.ones(noise.shape[1])
    for signal, share in parts:
        deviation = signal.std(axis=0)
        scaled = (signal - signal.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
        mixed = mixed + scaled * np.sqrt(share.to_numpy(dtype=float))
        rest = rest - share.to_numpy(dtype=float)
    return (mixed + noise * np.sqrt(rest)).astype(np.float32)


def _recording(
    subject: str,
    stimulus: str,
    modality: Modality,
    clock: Clock,
    offset_s: float,
    truth: pd.DataFrame,
    response: Floats,
    seed: int,
) -> Recording:
    known = {"name", "kind", "x", "y", "z", "planted_layer", "planted_latency"}
    targets = truth[[column for column in truth if column in known]].copy()
    if "kind" not in targets:
        targets["kind"] = "target"
    content = {"clock": asdict(clock), "response": hashlib.sha256(response.tobytes()).hexdigest()}
    digest = digest_of({"subject": subject, "stimulus": stimulus, "seed": seed, **content})
    read = partial(np.copy, response)
    return Recording(subject, stimulus, stimulus, modality, clock, offset_s, targets, read, digest)
