"""The page of a check: which files are here, what the recordings hold, and whether signals and words fit together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brainalign.report.html import Picture, Table, picture, write_page
from brainalign.report.writing import number

__all__ = ["check_summary", "write_check"]

# Beyond these the page is cut, and says so; check.json always has all.
N_ROWS = 1500
N_ALIKE = 3
COLUMNS: Mapping[str, tuple[str, int | None]] = {
    "subject": ("subject", None),
    "run": ("run", None),
    "stimulus": ("stimulus", None),
    "duration_s": ("duration (s)", 1),
    "n_rows": ("rows", 0),
    "n_targets": ("targets", 0),
    "rate_hz": ("rate (Hz)", 2),
    "n_words": ("words", 0),
    "first_word_s": ("first word (s)", 2),
    "last_word_s": ("last word (s)", 2),
    "n_words_outside": ("words outside", 0),
    "nan_share": ("NaN (%)", 2),
    "n_constant": ("constant", 0),
    "signal_to_drift": ("mean / SD", 1),
    "shared_r": ("r with others", 2),
    "peak_s": ("peak (s)", 2),
    "peak_r": ("its r", 2),
    "snr": ("SNR", 1),
    "half_split_r": ("half-split r", 2),
    "findings": ("findings", None),
}
# What the terminal has room for.
SHORT = ("subject", "run", "duration_s", "n_targets", "n_words", "n_words_outside", "nan_share", "n_constant")
SHORT += ("shared_r", "peak_s", "peak_r", "snr", "findings")


def write_check(found: Mapping[str, Any], path: Path) -> None:
    """Write what a check found as one HTML file that loads nothing from elsewhere.

    Parameters
    ----------
    found : mapping
        As in ``check.json``: what `brainalign.pipeline.inspection.Inspection.record` gives.
    path : Path
        The file to write, usually ``check.html``. It appears whole or not at all.

    Examples
    --------
    >>> import tempfile
    >>> found = {"dataset": {"name": "mine", "title": "<Mine>", "modality": "fmri", "subjects": []}, "recordings": []}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_check(found, Path(folder) / "check.html")
    ...     "Check of &lt;Mine&gt;" in (Path(folder) / "check.html").read_text(encoding="utf-8")
    True
    """
    dataset = found["dataset"]
    write_page(
        "check.html.jinja",
        path,
        title=f"Check of {dataset.get('title') or dataset['name']}",
        statement=_statement(found),
        remarks=list(_remarks(found)),
        facts=list(_facts(found)),
        findings=list(_findings(found.get("findings") or [])),
        pictures=_pictures(found),
        **_recordings(found),
        **_files(found),
        methods=list(_methods(found)),
        citation=str(dataset.get("citation") or ""),
        licence=str(dataset.get("licence") or "not stated"),
    )


def check_summary(found: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The headers and rows of the table of recordings as a terminal has room for them; empty columns are left out."""
    names, rows = _rows(found, SHORT)
    return [COLUMNS[name][0] for name in names], rows


def _statement(found: Mapping[str, Any]) -> str:
    recordings, files = found["recordings"], found.get("files")
    n_codes = len({finding["code"] for finding in found.get("findings") or []})
    parts = []
    if recordings:
        n_subjects = len({recording["subject"] for recording in recordings})
        hours = sum(recording["duration_s"] or 0.0 for recording in recordings) / 3600
        lasting = f", {hours:.1f} hours in all" if hours else ""
        parts.append(f"{_count(len(recordings), 'recording')} of {_count(n_subjects, 'subject')} read{lasting}.")
    if files is not None:
        states = [file["state"] for file in files]
        counted = ", ".join(f"{states.count(state)} {state}" for state in ("here", "missing", "damaged"))
        parts.append(f"{_count(len(files), 'file')}: {counted}.")
    parts.append(f"{_count(n_codes, 'kind')} of findings." if n_codes else "Nothing odd was found.")
    return " ".join(parts)


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' * (n != 1)}"


def _remarks(found: Mapping[str, Any]) -> Iterator[str]:
    shared, rate, answer = found.get("shared"), found.get("word_rate"), found.get("word_response")
    if shared:
        median = number(float(np.mean([entry["median"] for entry in shared])), 2)
        low, high = min(entry["lowest"] for entry in shared), max(entry["highest"] for entry in shared)
        stimuli = f", mean over {len(shared)} stimuli" if len(shared) > 1 else ""
        yield (
            f"Subjects who heard the same: r = {median} with the others (median over targets{stimuli}; "
            f"{number(low, 2)} to {number(high, 2)})."
        )
    if rate:
        yield (
            f"The mean response follows the rate of words best at a shift of {_seconds(rate['peak_s'], 0)} (r = "
            f"{number(rate['peak_r'], 2)}); near zero is right."
        )
    if answer:
        yield (
            f"The mean response to words peaks at {_seconds(answer['peak_s'], 2)} from onset; signal-to-noise "
            f"{number(_or_nan(answer['snr']), 1)}, half-split r = {number(_or_nan(answer['half_split_r']), 2)}."
        )


def _seconds(time_s: float, digits: int) -> str:
    return f"{number(time_s, digits)} s"


def _facts(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    dataset, recordings = found["dataset"], found["recordings"]
    yield "Name", str(dataset["name"])
    yield "Modality", str(dataset.get("modality") or "not stated")
    subjects = [str(subject) for subject in dataset.get("subjects") or []]
    yield "Subjects chosen", f"{len(subjects)}: {', '.join(subjects)}" if subjects else "none"
    stimuli = dict.fromkeys(str(recording["stimulus"]) for recording in recordings)
    if stimuli:
        yield "Stimuli read", f"{len(stimuli)}: {', '.join(stimuli)}"
    ways = dict.fromkeys("; ".join(recording["steps"]) for recording in recordings if recording["steps"])
    for steps in list(ways)[:N_ALIKE]:
        yield "Steps", steps


def _findings(findings: Sequence[Mapping[str, str]]) -> Iterator[tuple[str, str, str]]:
    """Code, place and message."""
    for finding in findings[:N_ROWS]:
        yield finding["code"], finding["where"], finding["message"]
    if len(findings) > N_ROWS:
        yield "more", "and", f"{len(findings) - N_ROWS:,} more, which check.json has."


def _recordings(found: Mapping[str, Any]) -> dict[str, Any]:
    names, rows = _rows(found, tuple(COLUMNS))
    if not rows:
        return {"recordings": None, "recordings_note": ""}
    note = f" The first {N_ROWS:,} of {len(rows):,} are shown." if len(rows) > N_ROWS else ""
    cut = tuple(tuple(row) for row in rows[:N_ROWS])
    headers = tuple(COLUMNS[name][0] for name in names)
    table = Table(headers, (("", cut),), tuple(COLUMNS[name][1] is None for name in names))
    return {"recordings": table, "recordings_note": note}


def _rows(found: Mapping[str, Any], names: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The recordings as text, with what the signals say of each; columns that are empty throughout are left out."""
    full = [{**recording, **_of_signals(found, recording)} for recording in found["recordings"]]
    kept = [name for name in names if any(row.get(name) not in (None, [], ()) for row in full)]
    if len({row["stimulus"] for row in full}) == 1:
        kept = [name for name in kept if name != "stimulus"]
    return kept, [[_cell(row.get(name), name) for name in kept] for row in full]


def _of_signals(found: Mapping[str, Any], recording: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for entry in found.get("shared") or []:
        if entry["stimulus"] == recording["stimulus"] and recording["subject"] in entry["subjects"]:
            values["shared_r"] = entry["subjects"][recording["subject"]]
    for analysis in ("word_rate", "word_response"):
        for entry in (found.get(analysis) or {}).get("recordings", ()):
            if all(entry[key] == recording[key] for key in ("subject", "run", "stimulus")):
                values |= {key: entry[key] for key in ("peak_s", "peak_r", "snr", "half_split_r") if key in entry}
    return values


def _cell(value: Any, name: str) -> str:
    digits = COLUMNS[name][1]
    if name == "nan_share" and value is not None:
        value = 100 * value
    if value is None:
        return number(np.nan)
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value) if digits is None else number(float(value), digits)


def _files(found: Mapping[str, Any]) -> dict[str, Any]:
    wrong = [file for file in found.get("files") or [] if file["state"] != "here"]
    if not wrong:
        return {"files": None, "files_note": ""}
    rows = tuple(
        (file["path"], file["state"], f"{file['n_bytes'] or 0:,}", file["why"] or number(np.nan))
        for file in wrong[:N_ROWS]
    )
    note = f"The first {N_ROWS:,} of {len(wrong):,}; check.json has all." if len(wrong) > N_ROWS else ""
    table = Table(("path", "state", "bytes", "why"), (("", rows),), (True, True, False, True))
    return {"files": table, "files_note": note}


def _pictures(found: Mapping[str, Any]) -> list[Picture]:
    from brainalign.report import check_figures as figures

    drawn = []
    if found.get("shared"):
        drawn.append(picture("Inter-subject correlation", figures.shared_response(found["shared"])))
    if found.get("word_rate"):
        drawn.append(picture("Response and rate of words, moved in time", figures.word_rate(found["word_rate"])))
    if found.get("word_response"):
        drawn.append(picture("Response to the onset of words", figures.word_response(found["word_response"])))
    return drawn


def _methods(found: Mapping[str, Any]) -> Iterator[str]:
    if found.get("files") is not None:
        yield (
            "Files: every file that the loader needs of the subjects chosen was looked for, and read once for its "
            "checksum, which was compared with the archive's where that tells one. Nothing was downloaded."
        )
    if found["recordings"]:
        yield (
            "Recordings: each was read with the loader's settings, as `brainalign run` would. A target is constant if "
            "its lowest and highest value are equal; words are outside where they begin before the first row or after "
            "the last."
        )
    if found.get("shared"):
        yield (
            "Inter-subject correlation: each subject's course with the mean of the others' standardised courses "
            "(leave-one-out), on the coarsest of their clocks, interpolated linearly and counted from the stimulus's "
            "start. Targets are matched by name; of more than 1,000, evenly spread ones are taken. fMRI loses drifts "
            "slower than 128 s; faster signals are the loader's, averaged over tenths of a second."
        )
    if found.get("word_rate"):
        yield (
            "Rate of words: the standardised targets' mean and the word rate, convolved with Glover's haemodynamic "
            "response, both without drifts slower than 128 s, are correlated while the words are moved. A peak at "
            "+4 s says that the response comes four seconds later than offset and clock say."
        )
    if found.get("word_response"):
        yield (
            "Response to words: channels are divided by their standard deviation over the recording, cut from 0.5 s "
            "before to 1 s after each word's onset, and averaged; each channel's mean over these latencies is taken "
            "out. Field power is the root mean square over channels. Signal-to-noise is the highest field power over "
            "that of the plus-minus average (every other block of 20 words subtracted). In continuous speech the "
            "words before and after are in the average too."
        )


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value
