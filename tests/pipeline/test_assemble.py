"""Scores of all units become one dataset, the same bits wherever they lie meanwhile, and never all in memory."""

from __future__ import annotations

import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from child_processes import answer_of, limit_files_to
from studies import MODEL, heard, planted_fmri, stories

from brainalign.errors import DataError
from brainalign.files import digest_of
from brainalign.pipeline import assemble as assemble_module
from brainalign.pipeline.assemble import assemble
from brainalign.pipeline.fit import SubjectScores
from brainalign.pipeline.results import save_scores
from brainalign.pipeline.score import score_layers
from brainalign.store import Store

N_SUBJECTS, N_LAYERS, N_FOLDS, N_TARGETS = 8, 50, 5, 10_000


def test_scores_on_disk_are_those_in_memory_bit_by_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = planted_fmri(n_subjects=2)
    with warnings.catch_warnings(action="ignore"):
        in_memory = score_layers(data, MODEL, store=None)
        monkeypatch.setattr(assemble_module, "LARGE_BYTES", 0)
        on_disk = score_layers(data, MODEL, store=Store(tmp_path / "store"))
    xr.testing.assert_identical(in_memory, on_disk)
    saved = [save_scores(scores, tmp_path / f"{i}.nc") for i, scores in enumerate([in_memory, on_disk, in_memory])]
    assert len(set(saved)) == 1
    # The files that held them have no name.
    assert [path.name for path in (tmp_path / "store").iterdir() if path.is_file()] == []


def test_folds_that_a_subject_lacks_are_undefined(tmp_path: Path) -> None:
    data = heard(["a", "b"], stories(), lambda subject, *_: np.zeros((60, 2)))

    def unit(n_folds: int) -> SubjectScores:
        arrays = {name: np.full((2, n_folds, 2), n_folds, np.float32) for name in ("r", "r2", "alpha")}
        arrays["r_baseline"] = np.full((n_folds, 2), n_folds, np.float32)
        facts = {"n_folds": n_folds, "latencies_s": None, "status": ["ok"] * 2, "n_samples": 9, "findings": []}
        return SubjectScores(arrays, {**facts, "splitter": "", "solver": ""})

    results = [("space", ("one", "two"), {}, {"a": unit(3), "b": unit(5)})]
    recordings = {name: [r for r in data.recordings() if r.subject == name] for name in "ab"}
    scores = assemble(data, recordings, results, ())
    assert scores.sizes == {"layer": 2, "fold": 5, "target": 4}
    for values in (scores["r"].values, scores["r_baseline"].values[None]):
        assert (values[..., :3, :2] == 3).all()
        assert np.isnan(values[..., 3:, :2]).all()
        assert (values[..., 2:] == 5).all()


def large_units(store: Store) -> list[tuple[str, tuple[str, ...], dict, dict[str, SubjectScores]]]:
    """Subjects' scores of one space in the store, 400 MB in all."""
    found = {}
    for number in range(N_SUBJECTS):
        key = digest_of({"subject": number})
        with store.writer(key) as writer:
            for place, name in enumerate(assemble_module.PER_LAYER):
                values = writer.allocate(name, (N_LAYERS, N_FOLDS, N_TARGETS), np.float32)
                values[...] = number + 0.1 * place
            facts = {"n_folds": N_FOLDS, "latencies_s": None, "status": ["ok"] * N_TARGETS, "n_samples": 9}
            writer.commit({}, {**facts, "findings": [], "splitter": "", "solver": ""})
        entry = store.get(key)
        found[f"s{number}"] = SubjectScores(entry.on_disk, entry.facts)
    return [("space", tuple(f"layer {i}" for i in range(N_LAYERS)), {}, found)]


@pytest.mark.slow
def test_merging_and_writing_takes_far_less_memory_than_there_are_scores(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    results = large_units(store)
    n_bytes = sum(scores.arrays[name].nbytes for scores in results[0][3].values() for name in scores.arrays)
    data = heard(list(results[0][3]), stories(1), lambda *_: np.zeros((2, N_TARGETS)))
    recordings = {recording.subject: [recording] for recording in data.recordings()}
    tracemalloc.start()
    try:
        scores = assemble(data, recordings, results, (), scratch=store.root)
        merged = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        save_scores(scores[["r"]].assign_attrs(scores.attrs), tmp_path / "scores.nc")
        written = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    print(f"{n_bytes / 1e6:.0f} MB of scores: merged in {merged / 1e6:.0f} MB, written in {written / 1e6:.0f} MB")
    assert n_bytes >= 400e6
    # Most of it are the names of 80,000 targets.
    assert merged < n_bytes / 3
    assert written < n_bytes / 3
    for number, name in enumerate(results[0][3]):
        assert np.float32(scores["alpha"].values[3, 2, N_TARGETS * number + 7]) == np.float32(number + 0.2)
        assert str(scores["subject"].values[N_TARGETS * number]) == name


def test_a_disk_without_room_for_merging_is_told(tmp_path: Path) -> None:
    def merge() -> str:
        limit_files_to(1000)
        try:
            assemble_module._room((200, 200, 2000), np.dtype(np.float32), tmp_path)
        except DataError as error:
            return str(error)
        return "no error"

    message = answer_of(merge)
    assert "No room" in message
    assert "run again" in message
    assert list(tmp_path.iterdir()) == []
