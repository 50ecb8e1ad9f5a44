from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from tiny_models import stimulus_of, story_words

from brainalign.errors import DataError, StoreWarning
from brainalign.features import LanguageModel, ToyModel
from brainalign.pipeline.extraction import extract_features, stimulus_digest
from brainalign.store import Store
from brainalign.types import Audio, Block, Features, FeatureStream, Stimulus, StimulusPart


@dataclass
class Counting:
    """A stage whose values are the words' lengths, and which counts what it computes."""

    reads: ClassVar[tuple[StimulusPart, ...]] = ("text",)
    name: str = "length"
    extracted: list[str] = field(default_factory=list)
    fails_at: int | None = None
    n_blocks: int = 4

    def fingerprint(self) -> dict[str, str]:
        return {"kind": "counting"}

    def stream(self, stimulus: Stimulus) -> FeatureStream:
        self.extracted.append(stimulus.id)
        words = stimulus.words
        onset, duration = words["onset"].to_numpy(dtype=float), words["duration"].to_numpy(dtype=float)
        return FeatureStream(self.name, ("layer 0",), onset, duration, 1, self._blocks(words))

    def _blocks(self, words: pd.DataFrame) -> Iterator[Block]:
        lengths = words["text"].str.len().to_numpy(dtype=np.float32)
        for number, samples in enumerate(np.array_split(np.arange(len(words)), self.n_blocks)):
            if number == self.fails_at:
                raise KeyboardInterrupt
            yield Block(samples, lengths[samples][None, :, None], n_tokens=len(samples))

    def extract(self, stimulus: Stimulus) -> Features:
        return self.stream(stimulus).collect()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def stimuli() -> dict[str, Stimulus]:
    return {name: stimulus_of(story_words(n), name) for name, n in (("one", 20), ("two", 30), ("three", 9))}


def test_what_is_stored_is_read_and_the_rest_computed(store: Store, stimuli: dict[str, Stimulus]) -> None:
    space = Counting()
    first = extract_features(space, {"one": stimuli["one"]}, store)
    both = extract_features(space, stimuli, store)
    assert space.extracted == ["one", "two", "three"]
    np.testing.assert_array_equal(first["one"].values, both["one"].values)
    for name, stimulus in stimuli.items():
        np.testing.assert_array_equal(both[name].values[0, :, 0], stimulus.words["text"].str.len())
        assert isinstance(both[name].values, np.memmap)


def test_an_extraction_that_was_interrupted_goes_on_with_the_next_stimulus(
    store: Store, stimuli: dict[str, Stimulus]
) -> None:
    extract_features(Counting(), {"one": stimuli["one"]}, store)
    with pytest.raises(KeyboardInterrupt):
        extract_features(Counting(fails_at=2), stimuli, store)
    space = Counting()
    features = extract_features(space, stimuli, store)
    assert space.extracted == ["two", "three"]
    np.testing.assert_array_equal(features["two"].values[0, :, 0], stimuli["two"].words["text"].str.len())


def test_values_of_the_text_outlive_a_change_of_its_times_and_take_the_new_ones(
    store: Store, stimuli: dict[str, Stimulus]
) -> None:
    space, words = Counting(), stimuli["one"].words
    extract_features(space, {"one": stimuli["one"]}, store)
    later = replace(stimuli["one"], words=words.assign(onset=words["onset"] + 5.0))
    features = extract_features(space, {"one": later}, store)["one"]
    assert space.extracted == ["one"]
    np.testing.assert_array_equal(features.onset_s, words["onset"] + 5.0)
    edited = replace(stimuli["one"], words=words.assign(text=["Twice", *words["text"][1:]]))
    extract_features(space, {"one": edited}, store)
    assert space.extracted == ["one", "one"]


def test_what_reads_everything_is_computed_again_when_anything_changes() -> None:
    stimulus = stimulus_of(story_words(5))
    changed = {
        "text": replace(stimulus, words=stimulus.words.assign(text=list("abcde"))),
        "times": replace(stimulus, words=stimulus.words.assign(duration=0.2)),
        "sound": replace(stimulus, audio=Audio(np.zeros(3), 100.0)),
    }
    for part, other in changed.items():
        assert stimulus_digest(other) != stimulus_digest(stimulus)
        for read in changed:
            same = stimulus_digest(other, (read,)) == stimulus_digest(stimulus, (read,))  # type: ignore[arg-type]
            assert same == (read != part)
    assert stimulus_digest(replace(stimulus, language="fr"), ("text",)) != stimulus_digest(stimulus, ("text",))


def test_the_same_model_under_another_name_is_not_read_again(
    store: Store, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from brainalign.features import loading

    stimuli = {"s": stimulus_of(story_words(40))}
    first = extract_features(LanguageModel(str(tiny_llama)), stimuli, store)["s"]
    (tmp_path / "renamed").symlink_to(tiny_llama)
    monkeypatch.setattr(loading, "_load", lambda *a: pytest.fail("the model is loaded again"))
    again = extract_features(LanguageModel(str(tmp_path / "renamed")), stimuli, store)["s"]
    np.testing.assert_array_equal(first.values, again.values)
    assert (first.name, again.name) == ("stories260K", "renamed")


def test_a_stage_without_a_stream_and_one_without_a_store_give_the_same(
    store: Store, stimuli: dict[str, Stimulus]
) -> None:
    stored, in_memory = (extract_features(ToyModel(), stimuli, where) for where in (store, None))
    for name in stimuli:
        np.testing.assert_array_equal(stored[name].values, in_memory[name].values)
        np.testing.assert_array_equal(stored[name].onset_s, in_memory[name].onset_s)
        assert stored[name].layers == in_memory[name].layers
        assert dict(stored[name].metadata) == dict(in_memory[name].metadata)


def test_damage_is_found_and_computed_again_with_a_warning(store: Store, stimuli: dict[str, Stimulus]) -> None:
    space = Counting()
    extract_features(space, stimuli, store)
    path = max(store.folder.rglob("values.npy"), key=lambda file: file.stat().st_size)  # type: ignore[union-attr]
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)
    with pytest.warns(StoreWarning, match="damaged"):
        features = extract_features(space, stimuli, store)
    assert space.extracted == ["one", "two", "three", "two"]
    np.testing.assert_array_equal(features["two"].values[0, :, 0], stimuli["two"].words["text"].str.len())


def test_progress_counts_words_and_tells_tokens_per_second(store: Store, stimuli: dict[str, Stimulus]) -> None:
    said: list[tuple[str, int, int, str]] = []

    def note(what: str, done: int, total: int, note: str = "") -> None:
        said.append((what, done, total, note))

    extract_features(Counting(), {"one": stimuli["one"]}, store)
    extract_features(Counting(), stimuli, store, note)
    assert {what for what, *_ in said} == {"extract length"}
    assert {total for _, _, total, _ in said} == {59}
    done = [done for _, done, *_ in said]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (20, 59)
    assert said[-1][3].endswith(" tokens/s")


def test_a_full_disk_is_a_clear_error_and_leaves_nothing(stimuli: dict[str, Stimulus], store: Store) -> None:
    extract_features(Counting(), {"one": stimuli["one"]}, store)
    code = f"""
import resource, signal, sys
sys.path.insert(0, {str(Path(__file__).parents[1] / "helpers")!r})
from pathlib import Path
from tiny_models import stimulus_of, story_words
from brainalign.errors import DataError
from brainalign.features import ToyModel
from brainalign.pipeline.extraction import extract_features
from brainalign.store import Store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    extract_features(ToyModel(), {{"s": stimulus_of(story_words(500))}}, Store(Path({str(store.folder)!r})))
except DataError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert "Cannot write" in done.stdout
    assert "BRAINALIGN_CACHE" in done.stdout
    kept = [path.name for path in store.folder.rglob("*") if path.is_file()]  # type: ignore[union-attr]
    assert sorted(kept) == ["record.json", "values.npy"], "what was stored before, and nothing else"


@pytest.mark.slow
def test_two_processes_that_extract_the_same_at_once_give_the_same_entry(tiny_llama: Path, tmp_path: Path) -> None:
    code = f"""
import sys, hashlib
sys.path.insert(0, {str(Path(__file__).parents[1] / "helpers")!r})
from pathlib import Path
from tiny_models import stimulus_of, story_words
from brainalign.features import LanguageModel
from brainalign.pipeline.extraction import extract_features
from brainalign.store import Store
stimuli = {{str(n): stimulus_of(story_words(n), str(n)) for n in range(100, 160, 10)}}
features = extract_features(LanguageModel({str(tiny_llama)!r}), stimuli, Store(Path({str(tmp_path / "shared")!r})))
print(hashlib.sha256(b"".join(f.values.tobytes() for f in features.values())).hexdigest())
"""
    command = [sys.executable, "-c", code]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    printed = {child.communicate(timeout=300)[0].strip() for child in children}
    assert [child.returncode for child in children] == [0, 0, 0]
    assert len(printed) == 1
    assert len(list((tmp_path / "shared").rglob("record.json"))) == 6
    assert len(list((tmp_path / "shared").rglob("values.npy"))) == 6, "nothing of the slower writers is left"


@pytest.mark.slow
def test_a_killed_extraction_goes_on_from_what_it_had_stored(tiny_llama: Path, tmp_path: Path) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1] / "helpers")!r})
from pathlib import Path
from tiny_models import stimulus_of, story_words
from brainalign.features import LanguageModel
from brainalign.pipeline.extraction import extract_features
from brainalign.store import Store
stimuli = {{str(n): stimulus_of(story_words(n), str(n)) for n in range(300, 500, 10)}}
def note(what, done, total, note=""):
    print(done, flush=True)
extract_features(LanguageModel({str(tiny_llama)!r}), stimuli, Store(Path({str(tmp_path / "store")!r})), note)
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        while int(child.stdout.readline()) < 1000:  # some stimuli are done, and more are to come
            continue
        os.kill(child.pid, signal.SIGKILL)
    stored = len(list((tmp_path / "store").rglob("record.json")))
    assert 0 < stored < 20
    rest = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    first = int(rest.stdout.splitlines()[0])
    assert first == 300, "the first stimulus is read, not computed"
    assert len(list((tmp_path / "store").rglob("record.json"))) == 20


def test_a_store_that_cannot_be_written_to_is_a_clear_error(stimuli: dict[str, Stimulus], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="Cannot write"):
        extract_features(Counting(), stimuli, Store(tmp_path / "file" / "store"))
