"""MOUS: sentences and lists of words that were read, or heard and aligned by the user."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ctf_recordings import write_ctf
from miniatures import LAYERS, check_planted_layers, planted_signal, write_textgrid

from brainalign.datasets import load_dataset
from brainalign.errors import DataError, RecipeError, UnreachableError
from brainalign.types import Stimulus

RATE_HZ, LENGTH_S = 200.0, 240.0
SENTENCES = [
    "Het aangename gezelschap vierde het heuglijke feit.",
    "De oude man las een krant in de tuin.",
    "Morgen gaat zij met de trein naar Utrecht.",
    "Niemand wist wat hij zeggen moest.",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two who read and one who listened, with events as the makers' conversion merges them with the log."""
    root = tmp_path_factory.mktemp("mous")
    for subject, task in (("V1001", "visual"), ("V1006", "visual"), ("A2002", "auditory")):
        stem = root / f"sub-{subject}" / "meg" / f"sub-{subject}_task-{task}"
        folder = Path(f"{stem}_meg.ds")
        folder.mkdir(parents=True)
        rows, words = _read_rows() if task == "visual" else _heard_rows()
        _write_events(Path(f"{stem}_events.tsv"), rows)
        own = words[words["condition"] == "sentence"]
        signal = planted_signal(Stimulus("all", own), own["onset"].to_numpy(), RATE_HZ, round(LENGTH_S * RATE_HZ))
        write_ctf(folder, signal.T * 1e-12, RATE_HZ)
    (root / "stimuli").mkdir()
    texts = [f"{number} {text}" for number, text in enumerate(SENTENCES, start=11)]
    (root / "stimuli" / "stimuli.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def alignments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("aligned")
    for number, text in enumerate(SENTENCES, start=11):
        intervals = [(onset, end, word) for word, onset, end in _spoken(text)]
        # The second word of each was not found by the aligner.
        write_textgrid(folder / f"EQ_Ramp_Int2_Int1LPF{number:03d}.TextGrid", {"words": intervals[:1] + intervals[2:]})
    return folder


def _spoken(text: str) -> list[tuple[str, float, float]]:
    """Each word of a sound, small and bare, with its onset and end."""
    return [(word.strip(".").lower(), 0.2 + 0.4 * i, 0.5 + 0.4 * i) for i, word in enumerate(text.split())]


def _read_rows() -> tuple[list[tuple[float, object, str, str]], pd.DataFrame]:
    """Events of three blocks of sentences and three of lists; the words among them."""
    rows: list[tuple[float, object, str, str]] = [(0.0, "n/a", "trial", "1"), (float("nan"), "n/a", "Response", "1")]
    words, now_s, sentence = [], 5.0, 0
    random = np.random.default_rng(3)
    for block in range(10):
        condition = "sentence" if block % 2 == 0 else "word_list"
        rows.append((now_s, 1.5, "Picture", "10 ZINNEN" if condition == "sentence" else "10 WOORDEN"))
        now_s += 2.0
        for text in SENTENCES:
            rows += [(now_s, 0.5, "Picture", "20 FIX"), (now_s, "n/a", "UPPT001", "20")]
            now_s += 0.6
            for word in text.split() if condition == "sentence" else random.permutation(text.split()):
                rows += [(now_s, 0.3, "Picture", f"6 {word}"), (now_s, "n/a", "UPPT001", "6")]
                words.append((now_s, 0.3, word, sentence, condition))
                rows.append((now_s + 0.35, 0.1, "Picture", "blank"))
                now_s += round(float(random.uniform(0.4, 0.6)), 3)
            sentence += 1
        rows.append((now_s, 1.0, "Picture", "40 QUESTION"))
        now_s += 1.2
    return rows, pd.DataFrame(words, columns=["onset", "duration", "text", "sentence", "condition"])


def _heard_rows() -> tuple[list[tuple[float, object, str, str]], pd.DataFrame]:
    rows: list[tuple[float, object, str, str]] = []
    words, now_s = [], 5.0
    for block in range(10):
        condition = "sentence" if block % 2 == 0 else "word_list"
        rows.append((now_s, 1.5, "Picture", "10 ZINNEN" if condition == "sentence" else "10 WOORDEN"))
        now_s += 2.0
        for number, text in enumerate(SENTENCES, start=11):
            rows += [
                (now_s, "n/a", "Sound", f"2 Start File {number}.wav"),
                (now_s + 0.1, "n/a", "Nothing", "3 Audio onset"),
            ]
            words += [(now_s + 0.1 + onset, end - onset, word, 0, condition) for word, onset, end in _spoken(text)]
            now_s += 4.5
            rows.append((now_s - 0.3, "n/a", "Nothing", "4 End of file"))
    return rows, pd.DataFrame(words, columns=["onset", "duration", "text", "sentence", "condition"])


def _write_events(path: Path, rows: list[tuple[float, object, str, str]]) -> None:
    lines = ["onset\tduration\tsample\ttype\tvalue"]
    for onset, duration, kind, value in rows:
        told = "n/a" if np.isnan(onset) else f"{onset:.4f}"
        lines.append(f"{told}\t{duration}\tn/a\t{kind}\t{value}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_without_a_folder_it_says_how_the_data_are_got() -> None:
    with pytest.raises(UnreachableError, match=r"DSC_3011020[\s\S]*`root`"):
        assert load_dataset("mous").subjects


@pytest.mark.parametrize("conditions", [["sentence"], ["word_list"], ["sentence", "word_list"]])
def test_what_was_read_is_each_picture_that_is_a_word(root: Path, conditions: list[str]) -> None:
    data = load_dataset("mous", root=root, options={"conditions": conditions})
    assert data.subjects == ("V1001",)
    [stimulus] = data.stimuli.values()
    planted = _read_rows()[1]
    planted = planted[planted["condition"].isin(conditions)]
    assert stimulus.language == "nl"
    assert stimulus.words["text"].tolist() == planted["text"].tolist()
    np.testing.assert_allclose(stimulus.words["onset"], planted["onset"], atol=1e-3)
    np.testing.assert_array_equal(np.diff(stimulus.words["sentence"]) > 0, np.diff(planted["sentence"]) > 0)


def test_what_was_heard_has_the_text_and_the_times_of_the_users_alignment(root: Path, alignments: Path) -> None:
    options = {"task": "auditory", "alignments": alignments}
    data = load_dataset("mous", root=root, options=options)
    [stimulus] = data.stimuli.values()
    planted = _heard_rows()[1]
    planted = planted[planted["condition"] == "sentence"]
    found = stimulus.words["timed"].to_numpy()
    assert stimulus.words["text"].tolist()[:7] == SENTENCES[0].split()
    assert stimulus.words["text"].str.lower().str.strip(".").tolist() == planted["text"].tolist()
    np.testing.assert_allclose(stimulus.words["onset"][found], planted["onset"][found], atol=1e-3)
    assert np.count_nonzero(~found) == 5 * len(SENTENCES)
    assert [finding.code for finding in stimulus.findings] == ["untimed-words"]
    assert len(data.recordings()) == 1


def test_listening_needs_an_alignment(root: Path) -> None:
    with pytest.raises(RecipeError, match="name the folder of TextGrids"):
        load_dataset("mous", root=root, options={"task": "auditory"}).recordings()


def test_a_sound_without_its_alignment_is_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ends in 11; found none"):
        load_dataset("mous", root=root, options={"task": "auditory", "alignments": tmp_path}).recordings()


def test_the_planted_layers_are_found(root: Path) -> None:
    check_planted_layers(load_dataset("mous", root=root), LAYERS)


def test_subjects_that_others_leave_out_are_left_out_unless_they_are_named(root: Path) -> None:
    data = load_dataset("mous", root=root)
    assert {finding.where for finding in data.findings} == {f"subject V{n}" for n in (1006, 1014, 1090, 1115)}
    named = load_dataset("mous", root=root, subjects=["V1006"])
    assert named.subjects == ("V1006",)
    assert [str(finding)[:37] for finding in named.findings] == ["subject V1006: taken, as it was named"]


@pytest.mark.parametrize("options", [{"conditions": ["sentences"]}, {"task": "visually"}])
def test_settings_that_cannot_be_are_errors(root: Path, options: dict[str, object]) -> None:
    with pytest.raises(RecipeError):
        load_dataset("mous", root=root, options=options)


def test_events_without_words_are_an_error_that_names_the_file(root: Path, tmp_path: Path) -> None:
    for path in (root / "sub-V1001").rglob("*"):
        if path.is_file():
            place = tmp_path / path.relative_to(root)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())
    events = next(tmp_path.rglob("*_events.tsv"))
    events.write_text(events.read_text().replace("ZINNEN", "BLOK").replace("WOORDEN", "BLOK"))
    with pytest.raises(DataError, match=r"events\.tsv: no words of sentence"):
        load_dataset("mous", root=tmp_path).recordings()
