"""The page of a check says what was found, as text, in one file that opens offline."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainalign.report import write_check
from brainalign.report.check_figures import shared_response, word_rate, word_response
from brainalign.report.check_page import check_summary

SHIFTS_S = np.arange(-10.0, 11.0)
LATENCIES_S = np.round(np.arange(-0.5, 1.005, 0.01), 2)


def recording(subject: str, **changes: Any) -> dict[str, Any]:
    return {
        "subject": subject,
        "run": "1",
        "stimulus": "story",
        "n_rows": 362,
        "n_targets": 6,
        "duration_s": 724.0,
        "rate_hz": 0.5,
        "n_words": 2127,
        "first_word_s": 20.72,
        "last_word_s": 743.63,
        "n_words_outside": 0,
        "nan_share": 0.0,
        "n_constant": 0,
        "signal_to_drift": None,
        "steps": [],
        "findings": [],
    } | changes


def found(**changes: Any) -> dict[str, Any]:
    return {
        "dataset": {
            "name": "mine",
            "title": "Mine",
            "modality": "fmri",
            "citation": "Me (2026)",
            "licence": "CC0",
            "subjects": ["a", "b"],
        },
        "files": None,
        "recordings": [recording("a"), recording("b", nan_share=0.25, findings=["nonfinite-target"])],
        "shared": [],
        "word_rate": None,
        "word_response": None,
        "findings": [],
    } | changes


SHARED = [
    {
        "stimulus": "story",
        "step_s": 2.0,
        "median": 0.3,
        "lowest": 0.2,
        "highest": 0.4,
        "targets": {"A1": 0.2, "STG": 0.4, "V1": None},
        "subjects": {"a": 0.25, "b": 0.35},
    }
]


def rate(peak_s: float = 2.0) -> dict[str, Any]:
    r = np.exp(-0.5 * ((SHIFTS_S - peak_s) / 3) ** 2)
    of_each = [
        {"subject": s, "run": "1", "stimulus": "story", "r": (r * k).tolist(), "peak_s": peak_s, "peak_r": k}
        for s, k in (("a", 0.2), ("b", 0.4))
    ]
    return {
        "shift_s": SHIFTS_S.tolist(),
        "r": (0.3 * r).tolist(),
        "peak_s": peak_s,
        "peak_r": 0.3,
        "recordings": of_each,
    }


def answer(peak_s: float = 0.4) -> dict[str, Any]:
    power = np.exp(-0.5 * ((LATENCIES_S - peak_s) / 0.1) ** 2)
    entry = {"subject": "a", "run": "1", "stimulus": "story", "n_words": 100, "field_power": power.tolist()}
    return {
        "latency_s": LATENCIES_S.tolist(),
        "field_power": power.tolist(),
        "peak_s": peak_s,
        "snr": 5.25,
        "half_split_r": 0.8,
        "recordings": [entry | {"peak_s": peak_s, "snr": 5.25, "half_split_r": 0.8}],
        "channels": {"names": ["M1", "M2"], "n_recordings": 1, "values": [power.tolist(), [None] * len(power)]},
    }


def write(folder: Path, content: dict[str, Any]) -> str:
    write_check(content, folder / "check.html")
    return (folder / "check.html").read_text(encoding="utf-8")


def test_the_page_says_what_was_read(tmp_path: Path) -> None:
    page = write(tmp_path, found())
    assert "2 recordings of 2 subjects read, 0.4 hours in all. Nothing odd was found." in page
    assert "<td>25.00</td>" in page
    assert "nonfinite-target" in page
    assert "Me (2026)" in page
    assert "Files that are missing" not in page


def test_missing_and_damaged_files_are_listed_and_those_here_are_not(tmp_path: Path) -> None:
    files = [
        {"path": "a.txt", "state": "here", "n_bytes": 5, "is_verified": True, "why": ""},
        {"path": "b.txt", "state": "missing", "n_bytes": 1234567, "is_verified": False, "why": ""},
        {"path": "c.txt", "state": "damaged", "n_bytes": None, "is_verified": False, "why": "its MD5 is wrong"},
    ]
    page = write(tmp_path, found(files=files, recordings=[]))
    assert "3 files: 1 here, 1 missing, 1 damaged." in page
    assert "1,234,567" in page
    assert "its MD5 is wrong" in page
    assert "a.txt" not in page


def test_what_the_signals_say_stands_at_the_top_and_beside_each_recording(tmp_path: Path) -> None:
    content = found(shared=SHARED, word_rate=rate())
    page = write(tmp_path, content)
    assert "r = 0.30 with the others (median over targets; 0.20 to 0.40)" in page
    assert "best at a shift of 2 s (r = 0.30)" in page
    headers, rows = check_summary(content)
    table = dict(zip(headers, np.array(rows).T.tolist(), strict=True))
    assert table["r with others"] == ["0.25", "0.35"]
    assert table["its r"] == ["0.20", "0.40"]
    assert "SNR" not in table
    page = write(tmp_path, found(word_response=answer()))
    assert "peaks at 0.40 s from onset; signal-to-noise 5.2, half-split r = 0.80" in page


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "{{ 7 * 7 }}", '"><b>', "日本語", "a\udcffb"])
@pytest.mark.filterwarnings("ignore:Glyph .* missing from:UserWarning")
def test_whatever_names_hold_is_shown_as_text(tmp_path: Path, name: str) -> None:
    content = found(
        recordings=[recording(name, run=name, findings=[name])],
        shared=[{**SHARED[0], "targets": {name: 0.1}, "subjects": {name: 0.1}}],
        findings=[{"code": name, "where": name, "message": name}],
    )
    content["dataset"] |= {"title": name, "citation": name}
    page = write(tmp_path, content)
    assert "<script" not in page
    assert "<b>" not in re.sub(r"<li><b>", "", page)
    assert "49" not in page.split("<style>")[0]
    assert "default-src 'none'" in page
    assert "http" not in re.sub(r"data:[^\"]*|http-equiv", "", page)


def test_the_figures_draw_the_numbers() -> None:
    figure = word_rate(rate())
    drawn = [np.asarray(line.get_ydata()) for line in figure.axes[0].lines]
    assert any(len(y) == 21 and np.allclose(y, rate()["r"]) for y in drawn)
    assert "n = 2" in figure.caption
    figure = shared_response(SHARED)
    (dots,) = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    np.testing.assert_allclose(dots.get_xdata(), [0.2, 0.4])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["A1", "STG"]
    figure = word_response(answer())
    assert any(np.allclose(line.get_ydata(), answer()["field_power"]) for line in figure.axes[1].lines)
    assert "2 of 2 channels" in figure.caption


def test_of_many_targets_a_histogram_is_drawn() -> None:
    many = {f"voxel {i}": i / 1000 for i in range(500)}
    figure = shared_response([{**SHARED[0], "targets": many}])
    assert sum(bar.get_height() for bar in figure.axes[0].patches) == 500
