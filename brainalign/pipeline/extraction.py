"""The features of every stimulus: read where they are stored, computed and stored where they are not."""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, get_args

import numpy as np

from brainalign.errors import DataWarning
from brainalign.files import digest_of
from brainalign.pipeline.machine import made_here
from brainalign.store import Entry, Store
from brainalign.types import Block, Extractor, Features, FeatureStream, Finding, Stimulus, StimulusPart

__all__ = ["Progress", "WhenAsked", "extract_features", "key_of_features", "silent", "stimulus_digest"]

PARTS: tuple[StimulusPart, ...] = get_args(StimulusPart)


class Progress(Protocol):
    """Called with what is being done, how much of it is done and how much there is, and a remark such as a speed."""

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """Take note."""
        ...


def silent(what: str, done: int, total: int, note: str = "") -> None:
    """Report nothing."""


def extract_features(
    space: Extractor, stimuli: Mapping[str, Stimulus], store: Store | None, progress: Progress = silent
) -> dict[str, Features]:
    """Give a feature space's values for every stimulus; what is stored is read, the rest computed and stored.

    Each stimulus is stored as soon as it is done, so that what was interrupted goes on with the next.

    Parameters
    ----------
    space : Extractor
    stimuli : mapping of id -> Stimulus
    store : Store or None
        None keeps everything in memory, and nothing for the next time.
    progress : callable
        Told how many of all words are done, and how many tokens a second are read.

    Returns
    -------
    dict of id -> Features
        What a space warned of (words that are in no dictionary ...) stands in the metadata's ``findings``.

    Warns
    -----
    StoreWarning
        If what was stored is damaged; it is computed again.

    Examples
    --------
    >>> import pandas as pd
    >>> from brainalign.features import ToyModel
    >>> words = pd.DataFrame({"onset": [0.0, 0.4], "duration": [0.3, 0.5], "text": ["hello", "world"]})
    >>> extract_features(ToyModel(n_layers=1, dimension=4), {"s": Stimulus("s", words)}, store=None)["s"].values.shape
    (2, 2, 4)
    """
    parts = _parts(space)
    fingerprint = space.fingerprint()
    counter = Counter(f"extract {space.name}", sum(len(stimulus.words) for stimulus in stimuli.values()), progress)
    features = {}
    for name, stimulus in stimuli.items():
        key = key_of_features(space, stimulus, fingerprint)
        entry = store.get(key) if store else None
        if entry is not None:
            counter.skip(len(stimulus.words))
        elif store is not None:
            _compute(space, stimulus, counter, store, key, "times" in parts or "sound" in parts)
            entry = store.get(key)
        features[name] = (
            _compute_in_memory(space, stimulus, counter) if entry is None else _read(space, stimulus, entry)
        )
    return features


class WhenAsked(Mapping[str, Mapping[str, Features]]):
    """Features of each space, extracted or read when they are first asked for.

    Parameters
    ----------
    spaces : sequence of Extractor
    stimuli : mapping of id -> Stimulus
    store : Store or None
    progress : callable
    """

    def __init__(
        self,
        spaces: Sequence[Extractor],
        stimuli: Mapping[str, Stimulus],
        store: Store | None,
        progress: Progress = silent,
    ) -> None:
        self._spaces = {space.name: space for space in spaces}
        self._stimuli, self._store, self._progress = stimuli, store, progress
        self._read: dict[str, Mapping[str, Features]] = {}

    def __getitem__(self, name: str) -> Mapping[str, Features]:
        if name not in self._read:
            self._read[name] = extract_features(self._spaces[name], self._stimuli, self._store, self._progress)
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._spaces)

    def __len__(self) -> int:
        return len(self._spaces)


def key_of_features(
    space: Extractor,
    stimulus: Stimulus,
    fingerprint: Mapping[str, Any],
    digest: Callable[[Stimulus, tuple[StimulusPart, ...]], str] | None = None,
) -> str:
    """The key of a stimulus's features: a digest of all that they depend on.

    Parameters
    ----------
    space : Extractor
    stimulus : Stimulus
    fingerprint : mapping
        The space's.
    digest : callable, optional
        `stimulus_digest`, or what remembers what that gave.
    """
    found = (digest or stimulus_digest)(stimulus, _parts(space))
    return digest_of({"what": "features", "extractor": dict(fingerprint), "stimulus": found})


def _parts(space: Extractor) -> tuple[StimulusPart, ...]:
    """The parts of a stimulus that a space's values depend on."""
    return getattr(space, "reads", PARTS)


def stimulus_digest(stimulus: Stimulus, parts: tuple[StimulusPart, ...] = PARTS) -> str:
    """Changes whenever one of these parts of a stimulus does.

    Examples
    --------
    >>> import pandas as pd
    >>> word = {"duration": [0.3], "text": ["so"]}
    >>> early, late = (Stimulus("s", pd.DataFrame({"onset": [onset], **word})) for onset in (0.0, 1.0))
    >>> stimulus_digest(early) == stimulus_digest(late)
    False
    >>> stimulus_digest(early, ("text",)) == stimulus_digest(late, ("text",))
    True
    """
    words = stimulus.words
    content: dict[str, Any] = {"id": stimulus.id} if "id" in parts else {}
    if "text" in parts:
        columns = [column for column in ("text", "sentence") if column in words]
        # As text, since numbers of sentences come in many types, and some are missing.
        content["text"] = {column: words[column].astype(str).tolist() for column in columns}
        content["language"] = stimulus.language
    if "times" in parts:
        content["times"] = {column: words[column].tolist() for column in ("onset", "duration")}
    if "sound" in parts and stimulus.audio is not None:
        content["sound"] = [hashlib.sha256(stimulus.audio.samples.tobytes()).hexdigest(), stimulus.audio.rate_hz]
    return digest_of(content)


@dataclass
class Counter:
    """Words done of all stimuli, and the tokens read for them since this one was made."""

    what: str
    n_words: int
    progress: Progress
    done: int = 0
    n_tokens: int = 0
    started_s: float = field(default_factory=time.perf_counter)

    def skip(self, n_words: int) -> None:
        """Count words that were there already."""
        self.done += n_words
        self.progress(self.what, self.done, self.n_words)

    def counted(self, blocks: Iterator[Block], n_words: int, n_samples: int) -> Iterator[Block]:
        """The same blocks; progress is told of each as it passes."""
        begun, n_done = self.done, 0
        self.progress(self.what, begun, self.n_words)
        for block in blocks:
            yield block
            n_done += block.values.shape[1]
            self.n_tokens += block.n_tokens
            # Samples that are not words count as their share of the stimulus's words.
            self.done = begun + n_words * n_done // n_samples
            speed = self.n_tokens / max(time.perf_counter() - self.started_s, 1e-9)
            self.progress(self.what, self.done, self.n_words, f"{speed:,.0f} tokens/s" if self.n_tokens else "")
        self.done = begun + n_words


def _stream(space: Extractor, stimulus: Stimulus, counter: Counter) -> FeatureStream:
    """A space's features as they come; those of a space that gives them all at once in one block."""
    make: Callable[[Stimulus], FeatureStream] | None = getattr(space, "stream", None)
    stream = make(stimulus) if make is not None else FeatureStream.of(space.extract(stimulus))
    n_samples = max(len(stream.onset_s), 1)
    return replace(stream, blocks=counter.counted(stream.blocks, len(stimulus.words), n_samples))


@contextmanager
def _noted(space: Extractor) -> Iterator[list[dict[str, str]]]:
    """Turn what a space warns of into findings, which are kept with its values for the next time as well."""
    findings: list[dict[str, str]] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataWarning)
        yield findings
    for warning in caught:
        if issubclass(warning.category, DataWarning):
            findings.append(vars(Finding("features", space.name, str(warning.message))))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def _compute_in_memory(space: Extractor, stimulus: Stimulus, counter: Counter) -> Features:
    with _noted(space) as findings:
        features = _stream(space, stimulus, counter).collect()
    return replace(features, metadata={**features.metadata, "findings": findings})


def _compute(
    space: Extractor, stimulus: Stimulus, counter: Counter, store: Store, key: str, has_own_times: bool
) -> None:
    """Compute a stimulus's features straight into the store, block by block."""
    started = time.perf_counter()
    with store.writer(key) as writer:
        with _noted(space) as findings:
            stream = _stream(space, stimulus, counter)
            values = writer.allocate("values", stream.shape, np.float32)
            for block in stream.blocks:
                values[:, block.samples] = block.values
        # What does not depend on the words' times takes them from the stimulus when it is read.
        times = {"onset_s": stream.onset_s, "duration_s": stream.duration_s} if has_own_times else {}
        made = made_here(time.perf_counter() - started)
        writer.commit(times, {**_facts(stream, stimulus, findings), "made": made})


def _facts(stream: FeatureStream, stimulus: Stimulus, findings: list[dict[str, str]]) -> dict[str, Any]:
    return {
        "what": "features",
        "name": stream.name,
        "stimulus": stimulus.id,
        "layers": list(stream.layers),
        "kind": stream.kind,
        "metadata": {**stream.metadata, "findings": findings},
    }


def _read(space: Extractor, stimulus: Stimulus, entry: Entry) -> Features:
    facts, words = entry.facts, stimulus.words
    return Features(
        # The same values may have been computed under another name of the same model.
        name=space.name,
        layers=tuple(facts["layers"]),
        values=entry.arrays["values"],
        onset_s=entry.arrays.get("onset_s", words["onset"].to_numpy(dtype=float, copy=True)),
        duration_s=entry.arrays.get("duration_s", words["duration"].to_numpy(dtype=float, copy=True)),
        kind=facts["kind"],
        metadata=facts["metadata"],
    )
