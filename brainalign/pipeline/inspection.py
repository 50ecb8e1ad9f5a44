"""What is to be known of a dataset before any model is fitted: its files, its recordings, its words, its signals.

`inspect` reads what is on this machine and downloads nothing. What it finds odd has a stable code and a sentence.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import xxhash

from brainalign.archives.local_files import require_file
from brainalign.datasets.archive_dataset import ArchiveDataset
from brainalign.datasets.checks import check_recording, response_end_s
from brainalign.datasets.common_targets import with_common_targets
from brainalign.errors import BrainalignError, DataError
from brainalign.pipeline.extraction import Progress, silent
from brainalign.pipeline.signal_checks import (
    CLEAR_R,
    LATENCIES_S,
    SHIFTS_S,
    Course,
    lag_is_odd,
    lag_message,
    on_coarse_clock,
    shared_responses,
    word_rate_course,
    word_response,
)
from brainalign.types import Dataset, Finding, Floats, Recording, Stimulus

__all__ = ["FileState", "Inspection", "RecordingFacts", "inspect"]

# Of whole brains so many evenly spread targets are compared between subjects.
N_COMPARED = 1000
# Of these kinds of places, or in a brain of one's own, equal names do not mean equal targets.
OWN_KINDS = ("electrodes",)
OWN_UNLESS_STANDARD = ("volume", "surface")
# Recordings whose peaks of the correlation with the word rate are so far apart differ by more than anatomy.
FAR_SHIFT_S = 3.0
# Between these the response to a word is largest in all studies of speech and reading.
WORD_PEAK_S = (0.0, 0.8)
CLEAR_SNR = 4.0
LISTED = 5


@dataclass(frozen=True)
class FileState:
    """A file that a dataset's loader needs: ``here``, ``missing`` or ``damaged``, and why.

    `is_verified` says whether its bytes were compared with a checksum of the archive's.
    """

    path: str
    state: str
    n_bytes: int | None = None
    is_verified: bool = False
    why: str = ""


@dataclass(frozen=True)
class RecordingFacts:
    """A recording in numbers. Times of words are on the recording's clock; None is what does not apply.

    `nan_share` is of all values; `signal_to_drift` the median over targets of mean over standard deviation (what is
    called temporal signal-to-noise of fMRI), None where the responses are centred.
    """

    subject: str
    run: str
    stimulus: str
    n_rows: int
    n_targets: int
    duration_s: float | None
    rate_hz: float | None
    n_words: int
    first_word_s: float | None
    last_word_s: float | None
    n_words_outside: int
    nan_share: float
    n_constant: int
    signal_to_drift: float | None
    steps: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inspection:
    """What `inspect` found.

    Parameters
    ----------
    dataset : mapping
        ``name``, ``title``, ``modality``, ``citation``, ``licence``, ``subjects``.
    files : tuple of FileState or None
        None where nothing tells which files there should be.
    recordings : tuple of RecordingFacts
    shared : tuple of mapping
        Inter-subject correlation, one entry per stimulus: ``stimulus``, ``step_s``, ``subjects`` and ``targets``
        (names with their mean r), ``median``, ``lowest``, ``highest`` over targets.
    word_rate : mapping or None
        Of fMRI: ``shift_s``, ``r`` (mean over recordings), ``peak_s``, ``peak_r``, and the ``recordings``.
    word_response : mapping or None
        Of MEG, EEG and ECoG: ``latency_s``, ``field_power`` (mean over recordings), ``peak_s``, the ``recordings``, and
        ``channels``: the mean over recordings with the same targets as the first.
    findings : tuple of Finding
    """

    dataset: Mapping[str, Any]
    files: tuple[FileState, ...] | None = None
    recordings: tuple[RecordingFacts, ...] = ()
    shared: tuple[Mapping[str, Any], ...] = ()
    word_rate: Mapping[str, Any] | None = None
    word_response: Mapping[str, Any] | None = None
    findings: tuple[Finding, ...] = ()

    def count(self, state: str) -> int:
        """How many files are ``here``, ``missing`` or ``damaged``."""
        return sum(file.state == state for file in self.files or ())

    def record(self) -> dict[str, Any]:
        """All of it as JSON takes it; what is undefined is null."""
        return _jsonable(asdict(self))


def inspect(data: Dataset, *, responses: bool = True, progress: Progress = silent) -> Inspection:
    """Look at all of a dataset that is on this machine; nothing is downloaded.

    Parameters
    ----------
    data : Dataset
        Its chosen subjects and stimuli are looked at.
    responses : bool
        Whether to read the recordings; without them only files are looked at, each read once for its checksum.
    progress : callable
        Told how far it is.

    Raises
    ------
    DataError
        If recordings are asked for and none can be read, with the first reason.

    Examples
    --------
    >>> from brainalign.simulate import Simulated
    >>> found = inspect(Simulated(n_subjects=2, n_runs=1, n_words=200))
    >>> [(facts.subject, facts.n_words) for facts in found.recordings]
    [('01', 200), ('02', 200)]
    """
    if isinstance(data, ArchiveDataset):
        data.archive.require_root()
    files = _inventory(data, progress) if isinstance(data, ArchiveDataset) else None
    found = _Collected(list(_file_findings(data.name, files or {})))
    if responses:
        found.findings += data.findings
        for recording, stimulus in _readable(data, files, found.findings, progress):
            found.add(recording, stimulus, is_timed=data.rows == "time")
        if not found.facts:
            raise DataError(_nothing(data, files, found.findings))
    return found.inspection(
        {
            "name": data.name,
            "title": data.title,
            "modality": data.modality,
            "citation": data.citation,
            "licence": data.licence,
            "subjects": list(data.subjects),
        },
        None if files is None else tuple(files.values()),
    )


# Files


def _inventory(data: ArchiveDataset, progress: Progress) -> dict[str, FileState]:
    paths, root = data.files(), data.archive.root
    if root is not None and not any(data.archive.place(path) == root / path for path in paths):
        raise DataError(f"{root}: it holds none of the {len(paths)} files of {data.name}, such as {paths[0]}.")
    states = {}
    for number, path in enumerate(paths):
        progress("files", number, len(paths))
        states[path] = _state(data, path)
    progress("files", len(paths), len(paths))
    return states


def _state(data: ArchiveDataset, path: str) -> FileState:
    known = data.archive.table.get(path)
    place = data.archive.place(path)
    if not data.archive.is_here(path):
        why = "a link to content that was not downloaded" if place.is_symlink() else ""
        return FileState(path, "missing", None if known is None else known.size, why=why)
    size = place.stat().st_size
    try:
        require_file(place)
        why = data.archive.fault(path, anew=True)
    except (DataError, OSError) as error:
        why = str(error).splitlines()[0]
    if why:
        return FileState(path, "damaged", size, why=why)
    return FileState(path, "here", size, is_verified=known is not None and bool(known.checksum))


def _file_findings(name: str, files: Mapping[str, FileState]) -> Iterator[Finding]:
    for state, code, advice in (
        ("missing", "missing-file", f"`brainalign fetch {name}` brings them"),
        ("damaged", "damaged-file", f"`brainalign fetch {name}` replaces those in the cache, not your own"),
    ):
        which = [file for file in files.values() if file.state == state]
        if which:
            shown = ", ".join(file.path + (f" ({file.why})" if file.why else "") for file in which[:LISTED])
            more = f" and {len(which) - LISTED} more" if len(which) > LISTED else ""
            message = f"{len(which)} of {len(files)} files are {state}: {shown}{more}; {advice}."
            yield Finding(code, name, message)
    unverified = sum(file.state == "here" and not file.is_verified for file in files.values())
    # Of a user's own folder nobody has checksums.
    if 0 < unverified < len(files) or (unverified and any(file.is_verified for file in files.values())):
        yield Finding("unverified-file", name, f"of {unverified} files the archive tells no checksum.")


# Recordings


def _readable(
    data: Dataset, files: Mapping[str, FileState] | None, findings: list[Finding], progress: Progress
) -> Iterator[tuple[Recording, Stimulus]]:
    """Each recording that is here, with its stimulus; what cannot be read is found and passed over."""
    if isinstance(data, ArchiveDataset) and files is not None:
        yield from _readable_of_archive(data, files, findings, progress)
        return
    for number, subject in enumerate(data.subjects):
        progress("subjects", number, len(data.subjects))
        try:
            recordings = data.recordings(subjects=[subject])
            stimuli = [data.stimuli[recording.stimulus] for recording in recordings]
        except BrainalignError as error:
            findings.append(Finding("unreadable", f"subject {subject}", str(error)))
            continue
        yield from zip(recordings, stimuli, strict=True)
    progress("subjects", len(data.subjects), len(data.subjects))


def _readable_of_archive(
    data: ArchiveDataset, files: Mapping[str, FileState], findings: list[Finding], progress: Progress
) -> Iterator[tuple[Recording, Stimulus]]:
    def is_here(paths: Sequence[str]) -> bool:
        return all(files[path].state == "here" for path in paths)

    # Asking a lazy mapping whether it holds a stimulus would fetch it: only its names are asked for.
    names = tuple(data.stimuli)
    chosen = [run for run in data.all_runs() if run.subject in data.subjects and run.stimulus in names]
    here = [run for run in chosen if is_here((*run.responses, *run.sidecars, *data.words_files(run.stimulus)))]
    stimuli: dict[str, Stimulus] = {}
    by_subject = {subject: [run for run in here if run.subject == subject] for subject in data.subjects}
    for number, (subject, runs) in enumerate(by_subject.items()):
        progress("subjects", number, len(by_subject))
        recordings = []
        for run in runs:
            try:
                if run.stimulus not in stimuli:
                    stimuli[run.stimulus] = data.read_stimulus(run.stimulus)
                recordings.append(data.read_run(run))
            except BrainalignError as error:
                findings.append(Finding("unreadable", str(run), str(error)))
        try:
            recordings = with_common_targets(recordings)
        except DataError as error:
            findings.append(Finding("unreadable", f"subject {subject}", str(error)))
            continue
        for recording in recordings:
            yield recording, stimuli[recording.stimulus]
    progress("subjects", len(by_subject), len(by_subject))


def _nothing(data: Dataset, files: Mapping[str, FileState] | None, findings: Sequence[Finding]) -> str:
    unreadable = [finding for finding in findings if finding.code == "unreadable"]
    if unreadable:
        return unreadable[0].message
    if files and not any(file.state == "here" for file in files.values()):
        return (
            f"{data.name}: none of its {len(files)} files is here. `brainalign fetch {data.name}` brings them, also "
            "from the folder that BRAINALIGN_MIRROR names; `--root FOLDER` takes a copy of your own."
        )
    damaged = [file for file in (files or {}).values() if file.state == "damaged"]
    if damaged:
        return f"{data.name}: no recording can be read: {damaged[0].path} is damaged ({damaged[0].why})."
    return f"{data.name}: no recording has all of its files here. `brainalign fetch {data.name}` brings the rest."


@dataclass
class _Collected:
    """What the recordings read so far have shown."""

    findings: list[Finding]
    facts: list[RecordingFacts] = field(default_factory=list)
    courses: dict[str, dict[str, Course]] = field(default_factory=dict)
    rates: list[dict[str, Any]] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)
    # The sum over recordings with the same targets as the first.
    channel_names: tuple[str, ...] = ()
    channel_sum: Floats | None = None
    n_summed: int = 0

    def add(self, recording: Recording, stimulus: Stimulus, *, is_timed: bool) -> None:
        """Read a recording, and keep what is needed of it."""
        try:
            response = recording.response()
        except BrainalignError as error:
            self.findings.append(Finding("unreadable", str(recording), str(error)))
            return
        except (OSError, ValueError) as error:  # a damaged file raises whatever its reader trips over
            message = f"its response cannot be read: {(str(error).splitlines() or [type(error).__name__])[0]}"
            self.findings.append(Finding("unreadable", str(recording), message))
            return
        found = [*recording.findings, *check_recording(recording, response, stimulus)]
        found += _words_before(recording, stimulus) if is_timed else []
        found += self._of_twin(recording, response)
        if stimulus.id not in self.told:
            self.told.add(stimulus.id)
            self.findings += stimulus.findings
        self.findings += found
        self.facts.append(_facts(recording, response, stimulus, found, is_timed=is_timed))
        if any(finding.code == "empty-recording" for finding in found):
            return
        if _are_shared(recording):
            high_pass = is_timed and recording.modality == "fmri"
            course = on_coarse_clock(recording, response, N_COMPARED, high_pass=high_pass)
            # Of a stimulus that was heard twice, the first time.
            self.courses.setdefault(stimulus.id, {}).setdefault(recording.subject, course)
        if is_timed and recording.modality == "fmri":
            r = word_rate_course(recording, response, stimulus.words)
            if np.isfinite(r).all():
                peak = {"peak_s": SHIFTS_S[r.argmax()], "peak_r": r.max()}
                self.rates.append({**_whose(recording), "n_rows": len(response), "r": r, **peak})
        elif is_timed:
            self._add_answer(recording, response, stimulus)

    def _add_answer(self, recording: Recording, response: Floats, stimulus: Stimulus) -> None:
        answer = word_response(recording, response, stimulus.words)
        if answer is None:
            return
        self.answers.append(
            {
                **_whose(recording),
                "n_words": answer.n_words,
                "field_power": answer.field_power,
                "peak_s": LATENCIES_S[answer.field_power.argmax()],
                "snr": answer.snr,
                "half_split_r": answer.half_split_r,
            }
        )
        names = tuple(recording.targets["name"].astype(str))
        if self.channel_sum is None:
            self.channel_names, self.channel_sum = names, np.zeros_like(answer.channels)
        if names == self.channel_names:
            self.channel_sum = self.channel_sum + answer.channels
            self.n_summed += 1

    def _of_twin(self, recording: Recording, response: Floats) -> list[Finding]:
        digest = xxhash.xxh3_128_hexdigest(np.ascontiguousarray(response).data.cast("B"))
        other = self.digests.setdefault(digest, str(recording))
        if other == str(recording) or not response.any():
            return []
        return [Finding("identical-response", str(recording), f"its response is that of {other}, number by number.")]

    def inspection(self, dataset: Mapping[str, Any], files: tuple[FileState, ...] | None) -> Inspection:
        """All of it, with what only the whole shows."""
        shared = tuple(_shared(stimulus, courses) for stimulus, courses in self.courses.items())
        shared = tuple(entry for entry in shared if entry)
        rate, answer = _mean_rate(self.rates), _mean_answer(self)
        findings = [*self.findings, *_odd_subjects(shared), *_odd_rate(rate), *_odd_answer(answer)]
        return Inspection(dataset, files, tuple(self.facts), shared, rate, answer, tuple(findings))


def _words_before(recording: Recording, stimulus: Stimulus) -> list[Finding]:
    before = int((stimulus.words["onset"] + recording.offset_s < recording.clock.start_s).sum())
    if not before:
        return []
    message = f"{before} of {len(stimulus.words)} words begin before the first row; nothing was recorded of them."
    return [Finding("words-before-start", f"{recording}, stimulus {stimulus.id}", message)]


def _facts(
    recording: Recording, response: Floats, stimulus: Stimulus, findings: Sequence[Finding], *, is_timed: bool
) -> RecordingFacts:
    onset_s = stimulus.words["onset"].to_numpy(dtype=float)
    end_s = response_end_s(recording, len(response)) if is_timed else np.inf
    with np.errstate(invalid="ignore"):
        mean, spread = response.mean(axis=0, dtype=np.float64), response.std(axis=0, dtype=np.float64)
        low, high = response.min(axis=0), response.max(axis=0)
    outside = (onset_s >= end_s) | (onset_s + recording.offset_s < recording.clock.start_s)
    varies = np.isfinite(spread) & (spread > 0)
    ratio = float(np.median(np.abs(mean[varies]) / spread[varies])) if varies.any() else 0.0
    return RecordingFacts(
        **_whose(recording),
        n_rows=len(response),
        n_targets=response.shape[1],
        duration_s=len(response) * recording.clock.step_s if is_timed else None,
        rate_hz=recording.clock.sfreq_hz if is_timed else None,
        n_words=len(onset_s),
        first_word_s=float(onset_s[0] + recording.offset_s) if is_timed else None,
        last_word_s=float(onset_s[-1] + recording.offset_s) if is_timed else None,
        n_words_outside=int(outside.sum()) if is_timed else 0,
        nan_share=float(np.mean(~np.isfinite(response))),
        n_constant=int((low == high).sum()),
        signal_to_drift=ratio if recording.modality == "fmri" and ratio > 1.0 else None,
        steps=recording.steps,
        findings=tuple(dict.fromkeys(finding.code for finding in findings)),
    )


def _whose(recording: Recording) -> dict[str, str]:
    return {"subject": recording.subject, "run": recording.run, "stimulus": recording.stimulus}


def _are_shared(recording: Recording) -> bool:
    """Whether a target of this name is the same one in another subject."""
    kind = recording.space.get("kind")
    return kind not in OWN_KINDS and (kind not in OWN_UNLESS_STANDARD or bool(recording.space.get("template")))


# What only all recordings together show


def _shared(stimulus: str, courses: Mapping[str, Course]) -> dict[str, Any]:
    found = shared_responses(courses)
    if found is None or not np.isfinite(found.r).any():
        return {}
    of_target = _means(found.r, axis=0)
    of_subject = _means(found.r, axis=1)
    return {
        "stimulus": stimulus,
        "step_s": found.step_s,
        "median": float(np.nanmedian(of_target)),
        "lowest": float(np.nanmin(of_target)),
        "highest": float(np.nanmax(of_target)),
        "targets": dict(zip(found.names, of_target.tolist(), strict=True)),
        "subjects": dict(zip(found.subjects, of_subject.tolist(), strict=True)),
    }


def _means(r: Floats, axis: int) -> Floats:
    """Means over what is defined; NaN, without a warning, where nothing is."""
    defined = np.isfinite(r)
    n = defined.sum(axis=axis)
    return np.where(n > 0, np.where(defined, r, 0.0).sum(axis=axis) / np.maximum(n, 1), np.nan)


def _mean_rate(rates: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    if not rates:
        return None
    r = np.mean([rate["r"] for rate in rates], axis=0)
    return {
        "shift_s": SHIFTS_S,
        "r": r,
        "peak_s": SHIFTS_S[r.argmax()],
        "peak_r": r.max(),
        "recordings": list(rates),
    }


def _mean_answer(collected: _Collected) -> dict[str, Any] | None:
    if not collected.answers or collected.channel_sum is None:
        return None
    power = np.mean([answer["field_power"] for answer in collected.answers], axis=0)
    return {
        "latency_s": LATENCIES_S,
        "field_power": power,
        "peak_s": LATENCIES_S[power.argmax()],
        "snr": float(np.median([answer["snr"] for answer in collected.answers])),
        "half_split_r": float(np.mean([answer["half_split_r"] for answer in collected.answers])),
        "recordings": collected.answers,
        "channels": {
            "names": collected.channel_names,
            "n_recordings": collected.n_summed,
            "values": (collected.channel_sum / collected.n_summed).T.round(4),
        },
    }


def _odd_subjects(shared: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    for entry in shared:
        r = np.array(list(entry["subjects"].values()), dtype=float)
        if len(r) < 3:
            continue
        for subject, own in entry["subjects"].items():
            if np.isfinite(own) and own < 0.02 and np.nanmedian(r) > 0.1:
                message = (
                    f"its responses to {entry['stimulus']} are unlike the other subjects' (r = {own:.2f}, where the "
                    f"median subject has {np.nanmedian(r):.2f}); another stimulus, or a wrong start?"
                )
                yield Finding("unlike-others", f"subject {subject}", message)


def _odd_rate(rate: Mapping[str, Any] | None) -> Iterator[Finding]:
    if rate is None:
        return
    for entry in rate["recordings"]:
        far = abs(entry["peak_s"] - rate["peak_s"]) > FAR_SHIFT_S
        if far and lag_is_odd(entry["r"], entry["n_rows"], least_r=2 * CLEAR_R):
            yield Finding("W216", f"subject {entry['subject']}, run {entry['run']}", lag_message(entry["r"]))
    if lag_is_odd(rate["r"], sum(entry["n_rows"] for entry in rate["recordings"]), least_r=CLEAR_R):
        yield Finding("W216", "mean over recordings", lag_message(rate["r"]))
    elif rate["peak_r"] < CLEAR_R:
        message = (
            f"the mean response follows the rate of words at no shift (highest r = {rate['peak_r']:.2f}); over a whole "
            "brain that may be so, in language regions it should not."
        )
        yield Finding("no-word-rate", "mean over recordings", message)


def _odd_answer(answer: Mapping[str, Any] | None) -> Iterator[Finding]:
    if answer is None:
        return
    early, late = WORD_PEAK_S
    if answer["snr"] >= CLEAR_SNR and not early <= answer["peak_s"] <= late:
        message = (
            f"the mean response to words peaks {answer['peak_s']:+.2f} s from their onset, where it is expected from "
            f"{early:g} to {late:g} s; look at offset and start."
        )
        yield Finding("odd-latency", "mean over recordings", message)
    elif answer["half_split_r"] < CLEAR_R:
        message = (
            "the mean response to words is that of noise: the means over every other block of words and over the rest "
            f"do not resemble each other (r = {answer['half_split_r']:z.2f})."
        )
        yield Finding("no-word-response", "mean over recordings", message)


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _jsonable(value.tolist())
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, np.generic):
        return _jsonable(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
