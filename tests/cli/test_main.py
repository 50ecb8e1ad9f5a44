"""The command: what it prints, what it leaves, and how it leaves when the user can mend it."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from brainalign_cli import main as command
from brainalign_cli.main import main

WORDS = "onset,duration,text\n" + "".join(f"{0.5 * k},0.3,word{k % 9}\n" for k in range(200))
RECIPE = """\
title: "{title}"
dataset:
  name: arrays
  modality: fmri
  words: {{one: one.csv, two: two.csv, three: three.csv}}
  responses: {{path: "{{subject}}_{{stimulus}}.npy", subjects: [s1], tr_s: 2.0}}
features:
  - {{kind: toy_model, n_layers: 2, dimension: 8}}
baseline: [word_rate, word_length]
"""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lab's folder: a recipe, three stories and one subject."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for story in ("one", "two", "three"):
        (tmp_path / f"{story}.csv").write_text(WORDS.replace("word5", story))
        np.save(tmp_path / f"s1_{story}.npy", random.normal(size=(55, 3)).astype(np.float32))
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(title="A pilot"))
    return tmp_path


def leave(*arguments: str) -> int:
    """Run the command; the code it leaves with."""
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    return exit_.value.code


def test_a_recipe_runs_and_says_where_its_report_is(study: Path, capsys: pytest.CaptureFixture) -> None:
    assert leave("run", "recipe.yaml", "--jobs", "1", "--quiet") == 0
    out = capsys.readouterr().out
    assert "Report: results/recipe/report.html" in out
    assert "Best layer (selected on these scores)" in out
    assert (study / "results" / "recipe" / "report.html").is_file()
    assert leave("run", "recipe.yaml", "--jobs", "1") == 0
    assert "Nothing was left to compute." in capsys.readouterr().out
    assert leave("status", "results/recipe") == 0
    assert "finished, A pilot" in capsys.readouterr().out
    assert leave("report", "results/recipe") == 0


def change(old: str, new: str) -> Callable[[Path], None]:
    def apply(study: Path) -> None:
        text = (study / "recipe.yaml").read_text()
        assert old in text
        (study / "recipe.yaml").write_text(text.replace(old, new))

    return apply


def write(name: str, text: str) -> Callable[[Path], None]:
    def apply(study: Path) -> None:
        (study / name).write_text(text)

    return apply


def both(first: Callable[[Path], None], second: Callable[[Path], None]) -> Callable[[Path], None]:
    def apply(study: Path) -> None:
        first(study)
        second(study)

    return apply


HEAD = "onset,duration,text\n"
THREE = "words: {one: one.csv, two: two.csv, three: three.csv}"
TEMPLATE = 'responses: {path: "{subject}_{stimulus}.npy", subjects: [s1], tr_s: 2.0}'
# What is done to the study, and what the message must say.
MENDABLE = {
    "a missing file": (lambda study: (study / "two.csv").unlink(), ["two.csv", "no such file"]),
    "a missing response": (
        change(TEMPLATE, "responses: [{subject: s1, stimulus: one, path: s9_one.npy, tr_s: 2.0}]"),
        ["s9_one.npy", "no such file"],
    ),
    "an unknown key": (change("baseline:", "baselin:"), ["recipe.yaml:9", "baselin", "Did you mean 'baseline'"]),
    "an unknown key of a stage": (change("n_layers", "n_layer"), ["recipe.yaml:8", "Did you mean 'n_layers'"]),
    "an unknown dataset": (change("name: arrays", "name: arrys"), ["recipe.yaml:3", "Did you mean 'arrays'"]),
    "an unknown kind": (change("toy_model", "toy_modl"), ["recipe.yaml:8", "Did you mean 'toy_model'"]),
    "an unknown model": (
        change("kind: toy_model, n_layers: 2, dimension: 8", "kind: language_model, model: ./no/such/model"),
        ["no/such/model"],
    ),
    "an unknown baseline": (change("word_length", "word_lenght"), ["Did you mean 'word_length'"]),
    "a wrong type": (change("n_layers: 2", "n_layers: two"), ["recipe.yaml:8", "features.0.n_layers", "'two'"]),
    "an empty table": (write("two.csv", HEAD), ["two.csv", "no rows"]),
    "an empty file": (write("two.csv", ""), ["two.csv"]),
    "unsorted onsets": (write("two.csv", HEAD + "1,0.1,a\n0.5,0.1,b\n"), ["two.csv", "line 3", "'b'", "sort"]),
    "negative onsets": (write("two.csv", HEAD + "-1,0.1,a\n0.5,0.1,b\n"), ["two.csv", "line 2", "negative"]),
    "a text without words": (write("two.csv", HEAD + "0,0.1,\n1,0.1, \n"), ["two.csv"]),
    "milliseconds": (write("two.csv", HEAD + "0,100,a\n9000,100,b\n60000,90,c\n"), ["milliseconds"]),
    "too few runs": (
        both(change(THREE, "words: {one: one.csv}"), change("baseline:", "splits: {outer: run}\nbaseline:")),
        ["only one run", "outer: blocks"],
    ),
    "too few samples": (
        both(change(THREE, "words: {one: one.csv}"), change("baseline:", "splits: {n_splits: 30}\nbaseline:")),
        ["too few", "n_splits"],
    ),
    "a pickled array": (
        lambda study: np.save(study / "s1_two.npy", np.array([{}, print], dtype=object), allow_pickle=True),
        ["s1_two.npy"],
    ),
    "a YAML tag": (change('"A pilot"', '!!python/object/apply:os.system ["touch pwned"]'), ["recipe.yaml"]),
    "not YAML": (write("recipe.yaml", "a: [1, 2\nb: }"), ["recipe.yaml", "line"]),
    "a key twice": (change("baseline:", "features: []\nbaseline:"), ["line 9", "second time"]),
}


@pytest.mark.parametrize(("spoil", "said"), MENDABLE.values(), ids=MENDABLE.keys())
def test_what_the_user_can_mend_is_said_in_three_lines(
    spoil: Callable[[Path], None], said: list[str], study: Path, capsys: pytest.CaptureFixture
) -> None:
    spoil(study)
    assert leave("run", "recipe.yaml", "--jobs", "1", "--quiet") == 2
    message = capsys.readouterr().err
    assert 1 <= len(message.strip().splitlines()) <= 3, message
    assert "Traceback" not in message
    for part in said:
        assert part in message
    assert not (study / "pwned").exists()
    assert not list(study.glob("results/**/scores.nc"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "no_such_recipe"), "no_such_recipe"),
        (("run", "dmo"), "Did you mean 'demo'"),
        (("run", "missing.yaml"), "missing.yaml"),
        (("run", "recipe.yaml", "--set", "features.7.context=1"), "features.7"),
        (("run", "recipe.yaml", "--set", "encoder.alfas=[1]"), "Did you mean 'alphas'"),
        (("run", "recipe.yaml", "--set", "nonsense"), "key=value"),
        (("run", "recipe.yaml", "--jobs", "0"), "--jobs"),
        (("run",), "RECIPE"),
        (("rum", "demo"), "rum"),
        (("fetch", "alise"), "Did you mean 'alice'"),
        (("fetch", "alice", "--subjects", "s99"), "s99"),
        (("report", "nowhere"), "nowhere"),
    ],
    ids=" ".join,
)
def test_a_wrong_call_leaves_with_2(
    arguments: tuple[str, ...], said: str, study: Path, capsys: pytest.CaptureFixture
) -> None:
    assert leave(*arguments) == 2
    message = capsys.readouterr().err
    assert said in message
    assert "Traceback" not in message


def test_a_defect_of_ours_leaves_with_1_and_its_traceback(
    study: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brainalign.manifests.list_manifests", lambda: 1 / 0)
    assert leave("list") == 1
    message = capsys.readouterr().err
    assert "ZeroDivisionError" in message
    assert "a defect of brainalign" in message


def test_an_interrupt_leaves_with_130(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("brainalign.manifests.list_manifests", interrupt)
    assert leave("list") == 130
    assert "goes on from what is finished" in capsys.readouterr().err


def test_list_recipes_and_doctor_answer(capsys: pytest.CaptureFixture) -> None:
    assert leave("list", "--verbose") == 0
    listed = capsys.readouterr().out
    assert "alice" in listed
    assert "CC BY 4.0" in listed
    assert leave("recipes") == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == {"demo", "simulated", "simulated-meg"}


def test_the_doctor_says_what_there_is_and_what_cannot_be_reached(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brainalign.pipeline.machine._answers", lambda url, _: url == "https://hub.invalid")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://hub.invalid")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert leave("doctor") == 0
    said = capsys.readouterr().out
    for word in ("cpus", "memory_gb", "gpu", "blas", "cache", "missing", "versions"):
        assert word in said
    assert "offline         data set alice cannot be reached from here" in said
    assert "online          model hub" in said


def test_a_dataset_is_fetched_from_a_mirror(
    shared: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    monkeypatch.setenv("BRAINALIGN_MIRROR", str(shared / "datasets"))
    assert leave("fetch", "alice", "--subjects", "s18,s22") == 0
    assert "2 subjects are here and verified" in capsys.readouterr().out
    assert (own_cache / "datasets/alice/alice_data_shared/6mm/s18-timecourses.txt").is_file()


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys\nfrom brainalign_cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'numpy', 'pandas', 'torch', 'xarray', 'scipy', 'sklearn', 'matplotlib', 'yaml', 'pydantic'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "Commands:" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_log_gets_lines_in_place_of_bars(study: Path, capsys: pytest.CaptureFixture) -> None:
    assert leave("run", "recipe.yaml", "--jobs", "1") == 0
    log = capsys.readouterr().err
    assert "%|" not in log
    assert {"extract ToyModel (0 of 200 done) ...", "fit (0 of 1 done) ..."} <= set(log.splitlines())


def test_quiet_is_quiet(study: Path, capsys: pytest.CaptureFixture) -> None:
    assert leave("run", "recipe.yaml", "--jobs", "1", "--quiet") == 0
    assert capsys.readouterr().err == ""


def test_a_warning_is_a_note_of_one_line(study: Path, own_cache: Path, capsys: pytest.CaptureFixture) -> None:
    assert leave("run", "recipe.yaml", "--jobs", "1", "--quiet") == 0
    stored = sorted(own_cache.glob("store/*/*/*/r.npy"))[0]
    stored.write_bytes(stored.read_bytes()[:-5])
    capsys.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert leave("run", "recipe.yaml", "--jobs", "1", "--quiet", "--out", "elsewhere") == 0
    [note] = capsys.readouterr().err.splitlines()
    assert note.startswith("note: The stored result")


def test_long_messages_are_cut_to_three_lines() -> None:
    assert command._at_most_three_lines("one\ntwo\n\nthree\nfour").splitlines() == ["one", "two", "four"]
