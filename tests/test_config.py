"""A recipe is what its classes take, with every default; what is wrong in it is told with file, line and key."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from brainalign.alignment import Epochs, Hemodynamic
from brainalign.config import (
    ALIGNMENT_OF,
    build,
    list_recipes,
    load_recipe,
    parse_recipe,
    resolved,
    settings_of,
)
from brainalign.datasets import load_dataset
from brainalign.encoding import RidgeEncoder, Splits
from brainalign.errors import RecipeError
from brainalign.features import LanguageModel, ToyModel
from brainalign.pipeline.results import yaml_text
from brainalign.registry import QUESTIONS, find
from brainalign.safe_yaml import read_yaml

MINIMAL = {"dataset": {"name": "simulated"}, "features": [{"kind": "toy_model"}]}
TEXT = "dataset: {name: simulated}\nfeatures:\n- kind: toy_model\n"
ARRAYS = {
    "name": "arrays",
    "modality": "meg",
    "words": {"01": "words.csv", "no": "b.csv"},
    "responses": [{"subject": "01", "stimulus": "no", "path": "a.npy", "rate_hz": 100, "t0_s": -1.5}],
}
TEMPLATE = {**ARRAYS, "responses": {"path": "{subject}.npy", "subjects": ["01", "1e3"], "tr_s": 2}, "modality": "fmri"}


def parsed(**changes: object):
    return parse_recipe({**MINIMAL, **changes})


@pytest.fixture
def recipe_file(tmp_path: Path):
    """Write a recipe; gives its path as the command line would."""

    def write(content: str | bytes, name: str = "mine.yaml") -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write


def message_of(*arguments: object) -> str:
    """What `load_recipe` says when it refuses: at most three lines."""
    with pytest.raises(RecipeError) as raised:
        load_recipe(*arguments)
    message = str(raised.value)
    assert 1 <= len(message.splitlines()) <= 3
    assert "Traceback" not in message
    return message


# What can be loaded


@pytest.mark.parametrize("name", list_recipes())
def test_every_shipped_recipe_loads_and_says_what_it_is(name):
    recipe = load_recipe(name)
    assert recipe.title
    assert recipe.description
    assert recipe.fallback is None or recipe.fallback in list_recipes()


def test_a_minimal_recipe_is_all_defaults():
    recipe = parse_recipe(MINIMAL)
    assert recipe.features == (ToyModel(),)
    assert recipe.alignment == Hemodynamic()
    assert recipe.splits == Splits()
    assert recipe.encoder.get_params() == RidgeEncoder().get_params()
    assert (recipe.subjects, recipe.baseline, recipe.fallback, recipe.folder) == ("all", "auto", None, None)
    assert recipe.title == "simulated: scores by layer"


@pytest.mark.parametrize("section", ["alignment", "encoder", "splits"])
def test_an_empty_section_is_the_defaults(section, recipe_file):
    for empty in ("", "{}", "null", "~"):
        recipe = load_recipe(recipe_file(f"{TEXT}{section}: {empty}\n"))
        assert resolved(recipe)[section] == resolved(parse_recipe(MINIMAL))[section]


@pytest.mark.parametrize("modality", ALIGNMENT_OF)
def test_the_modality_decides_the_alignment(modality):
    recipe = parsed(dataset={**ARRAYS, "modality": modality})
    assert isinstance(recipe.alignment, Hemodynamic if modality == "fmri" else Epochs)


def test_a_dataset_of_one_modality_needs_not_name_it():
    assert isinstance(parsed(dataset={"name": "alice"}).alignment, Hemodynamic)
    assert isinstance(parsed(dataset={"name": "simulated", "modality": "meg"}).alignment, Epochs)


def test_the_alignment_of_another_modality_can_be_named():
    assert isinstance(parsed(alignment={"kind": "epochs"}).alignment, Epochs)


def test_subjects_stay_text(recipe_file):
    path = recipe_file(TEXT.replace("{name: simulated}", "{name: simulated, subjects: [01, 02]}"))
    assert load_recipe(path).subjects == ("01", "02")


def test_lists_in_the_encoder_are_taken(recipe_file):
    recipe = load_recipe(recipe_file(TEXT + "encoder: {alphas: [1, 1e3, 2.5e-1], selection: r}\n"))
    assert recipe.encoder.alphas == [1.0, 1000.0, 0.25]
    assert recipe.encoder.selection == "r"
    rng = np.random.default_rng(0)
    fitted = recipe.encoder.fit(rng.normal(size=(60, 3)), rng.normal(size=(60, 2)))
    assert set(fitted.alpha_) <= {1.0, 1000.0, 0.25}


def test_paths_of_ones_own_data_count_from_the_recipes_folder(recipe_file, tmp_path, monkeypatch):
    folder = tmp_path / "study"
    path = recipe_file(
        "dataset:\n  name: arrays\n  modality: fmri\n  words: {story: words.csv}\n"
        "  responses: [{subject: 01, path: a.npy, tr_s: 2}]\nfeatures: [{kind: toy_model}]\n",
        "study/mine.yaml",
    )
    (folder / "words.csv").write_text("onset,duration,text\n0.5,0.4,Once\n0.9,0.6,upon\n")
    np.save(folder / "a.npy", np.zeros((10, 3)))
    monkeypatch.chdir("/")
    recipe = load_recipe(path)
    assert recipe.folder == folder
    data = load_dataset(recipe.dataset, options=recipe.dataset_options)
    assert data.recordings()[0].response().shape == (10, 3)


def test_a_folder_named_in_the_recipe_goes_before_the_recipes_own(recipe_file, tmp_path):
    path = recipe_file(yaml.safe_dump({**MINIMAL, "dataset": {**ARRAYS, "root": "/elsewhere"}}))
    assert load_recipe(path).dataset_options["root"] == Path("/elsewhere")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_byte_order_mark_and_windows_line_ends_do_not_matter(recipe_file, encoding):
    path = recipe_file((TEXT + "title: Möbius 日本\n").replace("\n", "\r\n").encode(encoding))
    assert load_recipe(path).title == "Möbius 日本"


@pytest.mark.parametrize("name", ["a b.yaml", "日本.yml", "noextension", "-x.yaml"])
def test_a_recipe_may_have_any_name(recipe_file, name):
    assert load_recipe(recipe_file(TEXT, name)).dataset == "simulated"


def test_a_file_goes_before_a_shipped_recipe_and_a_folder_does_not(recipe_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "simulated").mkdir()
    assert load_recipe("simulated").title == "Simulated fMRI with planted layers"
    recipe_file(TEXT + "title: my own", "demo")
    assert load_recipe("demo").title == "my own"


# What is wrong with a file


@pytest.mark.parametrize("name", ["missing.yaml", "folder/missing", "simulatd", "", ".", "/", "..", "a\0b", "x" * 300])
def test_a_recipe_that_is_not_there_is_named_with_those_there_are(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = message_of(name)
    assert name in message
    assert all(shipped in message for shipped in list_recipes())


def test_a_misspelt_shipped_recipe_gets_the_nearest():
    assert "Did you mean 'simulated-meg'?" in message_of("simulated-meeg")


@pytest.mark.parametrize(
    "content",
    [
        *(TEXT.encode(encoding) for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32")),
        *(
            b"\x00",
            b"\x93NUMPY\x01\x00v\x00{'descr'",
            b"\x89PNG\r\n\x1a\n",
            b"PK\x03\x04\x14\x00\x00\x00",
            bytes(range(256)),
        ),
        (TEXT + "title: M\u00fcller").encode("latin-1"),
    ],
    ids=lambda content: repr(content[:8]),
)
def test_a_file_that_is_no_text_is_refused_by_its_name(recipe_file, content):
    path = recipe_file(content)
    assert message_of(path).startswith(path)


@pytest.mark.parametrize(
    "content", ["", "\n", "# nothing\n", "null", "~", "42", "text", "[dataset, features]", "- a\n- b\n", "[]", "true"]
)
def test_a_file_without_keys_is_refused(recipe_file, content):
    message = message_of(recipe_file(content))
    assert "key: value" in message or "empty" in message


@pytest.mark.parametrize(
    "content", ["[" * 3000, "a: [", "a: 1\na: 2", "a: *b", "a: !!python/name:os.system", "a\tb\n: :"]
)
def test_what_is_not_plain_yaml_is_refused(recipe_file, content):
    path = recipe_file(content)
    assert message_of(path).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("text", "line", "parts"),
    [
        ("titel: x\n", 4, ["titel: unknown key", "Did you mean 'title'?"]),
        ("encoder:\n  kind: ridge\n  alpha: 1\n", 6, ["encoder.alpha: unknown key", "Did you mean 'alphas'?"]),
        ("alignment: {high_pass: 1}\n", 4, ["alignment.high_pass: unknown key", "'high_pass_s'"]),
        ("splits:\n  outr: run\n", 5, ["splits.outr: unknown key", "'outer'"]),
        ("splits:\n  1: run\n", 5, ["splits.1: unknown key"]),
        ("splits: {outer: weeks}\n", 4, ["splits.outer", "'auto', 'run' or 'blocks'", "'weeks'"]),
        ("splits: {n_splits: 1}\n", 4, ["splits", "at least 2"]),
        ("splits: {n_splits: 2.5}\n", 4, ["splits.n_splits", "2.5"]),
        ("splits:\n  gap_s: no\n", 5, ["splits.gap_s", "'no'"]),
        ("splits: [1]\n", 4, ["splits: must be 'key: value' pairs"]),
        ("encoder: ridge\n", 4, ["encoder: must be 'key: value' pairs", "'ridge'"]),
        ("encoder: {kind: rigde}\n", 4, ["encoder.kind: Unknown kind of encoder 'rigde'", "'ridge'"]),
        ("encoder: {alphas: 5}\n", 4, ["encoder.alphas", "'5'"]),
        ("encoder: {selection: mse}\n", 4, ["encoder.selection", "'r2' or 'r'"]),
        ("alignment: {kind: hemodynamics}\n", 4, ["alignment.kind", "Did you mean 'hemodynamic'?"]),
        ("alignment:\n  trim_s:\n  - 1\n", 5, ["alignment.trim_s", "missing"]),
        ("alignment: {trim_s: [-1, 2]}\n", 4, ["alignment", "cannot be negative"]),
        ("alignment: {resampling: linear}\n", 4, ["alignment.resampling", "'linear'"]),
        ("alignment: {delays: [1, 2.5]}\n", 4, ["alignment.delays.1", "2.5"]),
        ("baseline:\n- word_rate\n- word_lenght\n", 4, ["baseline: Unknown baseline 'word_lenght'", "'word_length'"]),
        ("baseline: word_rate\n", 4, ["baseline: must be 'auto' or a list of names"]),
        ("baseline: [word_rate, word_rate]\n", 4, ["baseline", "once"]),
        ("fallback: simulatd\n", 4, ["fallback", "Did you mean 'simulated'?"]),
        ("fallback: 5\n", 4, ["fallback"]),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_file_line_and_key(recipe_file, text, line, parts):
    path = recipe_file(TEXT + text)
    message = message_of(path)
    assert message.startswith(f"{path}:{line}: ")
    for part in parts:
        assert part in message


SIMULATED = "dataset: {name: simulated}\n"
TOY = "features: [{kind: toy_model}]\n"


@pytest.mark.parametrize(
    ("text", "line", "parts"),
    [
        (TOY, None, ["dataset: missing"]),
        (SIMULATED, None, ["features: missing"]),
        (SIMULATED + "features: []\n", 2, ["features: missing"]),
        ("dataset:\n" + TOY, 1, ["dataset: missing"]),
        ("dataset: simulated\n" + TOY, 1, ["dataset: must be 'key: value' pairs"]),
        ("dataset: {subjects: all}\n" + TOY, 1, ["dataset: needs a name", "brainalign list"]),
        ("dataset: {name: 5}\n" + TOY, 1, ["dataset: needs a name"]),
        ("dataset:\n  name: alcie\n" + TOY, 2, ["dataset.name", "Did you mean 'alice'?"]),
        ("dataset:\n  name: alice\n  radius: 6\n" + TOY, 3, ["dataset.radius", "'radius_mm'"]),
        ("dataset:\n  name: alice\n  radius_mm: 7\n" + TOY, 3, ["dataset.radius_mm", "6 or 10"]),
        ("dataset: {name: alice, subjects: s18}\n" + TOY, 1, ["dataset.subjects: must be 'all'"]),
        ("dataset: {name: alice, subjects: [[s18]]}\n" + TOY, 1, ["dataset.subjects"]),
        ("dataset: {name: alice, subjects: []}\n" + TOY, 1, ["dataset.subjects"]),
        ("dataset: {name: alice, subjects: [s18, s18]}\n" + TOY, 1, ["dataset.subjects", "s18"]),
        (SIMULATED + "features: {kind: toy_model}\n", 2, ["features: must be a list", "- kind:"]),
        (SIMULATED + "features: toy_model\n", 2, ["features: must be a list"]),
        (SIMULATED + "features: [toy_model]\n", 2, ["features.0: must be 'key: value' pairs"]),
        (SIMULATED + "features:\n- {}\n", 3, ["features.0: needs a kind", "toy_model"]),
        (SIMULATED + "features:\n- kind: toymodel\n", 3, ["features.0.kind", "Did you mean 'toy_model'?"]),
        (SIMULATED + "features:\n- kind: null\n", 3, ["features.0.kind", "Known:"]),
        (SIMULATED + "features:\n- kind: [a]\n", 3, ["features.0.kind", "Known:"]),
        (TEXT + "- kind: toy_model\n  n_layer: 2\n", 5, ["features.1.n_layer: unknown key", "'n_layers'"]),
        (TEXT + "- kind: toy_model\n  n_layers: many\n", 5, ["features.1.n_layers", "'many'"]),
        (TEXT + "- kind: toy_model\n  dimension: 0\n", 4, ["features.1", "dimension >= 1"]),
        (TEXT + "- kind: language_model\n", 4, ["features.1.model: missing"]),
        (TEXT + "- {kind: language_model, model: 5}\n", 4, ["features.1.model"]),
        (TEXT + "- {kind: language_model, model: m, layers: most}\n", 4, ["features.1.layers", "'all'"]),
        (TEXT + "- {kind: language_model, model: m, pooling: max}\n", 4, ["features.1.pooling", "'mean'"]),
        (TEXT + "- {kind: language_model, model: m, context: 0}\n", 4, ["features.1", "context"]),
        (TEXT + "- {kind: language_model, model: m, untrained: maybe}\n", 4, ["features.1.untrained: "]),
    ],
)  # fmt: skip
def test_a_mistake_in_dataset_or_features_is_told_with_file_line_and_key(recipe_file, text, line, parts):
    path = recipe_file(text)
    message = message_of(path)
    assert message.startswith(f"{path}:{line}: " if line else f"{path}: ")
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("responses", "line", "parts"),
    [
        ("[{subject: 01, path: a.npy, tr: 2}]", 5, ["dataset.responses.0.tr: unknown key"]),
        ("[{subject: 01, tr_s: 2}]", 5, ["dataset.responses.0.path: missing"]),
        (
            "\n  - {subject: 01, path: a, tr_s: 2}\n  - {subject: 1, path: a, tr_s: 2}",
            7,
            ["dataset.responses.1.subject"],
        ),
        ("[{subject: 01, path: a.npy, tr_s: 2, offset_s: nan}]", 5, ["dataset.responses.0.offset_s"]),
        ("{path: a.npy, tr_s: 2}", 5, ["dataset.responses.subjects: missing"]),
        ("{path: a.npy, subjects: [01], tr: 2}", 5, ["dataset.responses.tr: unknown key"]),
        ("a.npy", 5, ["dataset.responses"]),
    ],
)
def test_a_mistake_in_ones_own_data_is_told_with_file_line_and_key(recipe_file, responses, line, parts):
    path = recipe_file(
        "features: [{kind: toy_model}]\ndataset:\n  name: arrays\n  modality: fmri\n"
        f"  responses: {responses}\n  words: a.csv\n"
    )
    message = message_of(path)
    assert message.startswith(f"{path}:{line}: ")
    for part in parts:
        assert part in message


@pytest.mark.parametrize("key", ["", "Story", "bool"])
def test_a_wrong_path_of_words_is_named_by_its_stimulus(key):
    with pytest.raises(RecipeError, match=rf"^dataset\.words\.{key}: "):
        parsed(dataset={**ARRAYS, "words": {key: 5}})


@pytest.mark.parametrize("section", ["alignment", "encoder", "splits"])
@pytest.mark.parametrize("value", [False, 0, "", []])
def test_a_section_that_is_no_mapping_is_not_taken_for_an_empty_one(section, value):
    with pytest.raises(RecipeError, match=f"^{section}: must be 'key: value' pairs"):
        parsed(**{section: value})


@pytest.mark.parametrize("key", ["title", "description"])
@pytest.mark.parametrize("value", [{"a": 1}, ["a"]])
def test_a_title_is_text(key, value):
    with pytest.raises(RecipeError, match=f"^{key}: "):
        parsed(**{key: value})


@pytest.mark.parametrize(
    "encoder",
    [
        *({"alphas": []}, {"alphas": [-1]}, {"alphas": [0]}, {"alphas": ["nan"]}, {"baseline_alphas": [0]}),
        *({"n_components": 0}, {"inner_splits": 0}, {"inner_splits": 1}, {"inner_splits": "many"}, {"gap": -5}),
    ],
    ids=str,
)
def test_an_encoder_that_no_fit_would_accept_is_refused_before_anything_is_computed(encoder):
    (name,) = encoder
    with pytest.raises(RecipeError, match=rf"^encoder.*{name}"):
        parsed(encoder=encoder)


@pytest.mark.parametrize(
    "changes",
    [
        {"alignment": {"high_pass_s": "nan"}},
        {"alignment": {"trim_s": ["nan", 0]}},
        {"splits": {"gap_s": "nan"}},
        {"dataset": {"name": "simulated", "explained_variance": float("nan")}},
        {"dataset": {"name": "simulated", "modality": "meg"}, "alignment": {"tmax_s": "inf"}},
    ],
    ids=str,
)
def test_nan_and_infinity_are_no_settings(changes):
    with pytest.raises(RecipeError, match="finite"):
        parsed(**changes)


@pytest.mark.parametrize("content", [None, 42, "text", ["dataset", "features"], [], True])
def test_a_recipe_that_is_no_mapping_is_refused(content):
    with pytest.raises(RecipeError, match="key: value"):
        parse_recipe(content)


# Changes from the command line


@pytest.mark.parametrize(
    ("change", "where", "value"),
    [
        ("title=New", ["title"], "New"),
        ("title=a=b", ["title"], "a=b"),
        ("title='a: b'", ["title"], "a: b"),
        ("encoder.selection=r", ["encoder", "selection"], "r"),
        ("encoder.alphas=[1, 1e2]", ["encoder", "alphas"], [1.0, 100.0]),
        ("encoder={selection: r}", ["encoder", "selection"], "r"),
        ("features.0.n_layers=2", ["features", 0, "n_layers"], 2),
        ("features.0={kind: toy_model, seed: 5}", ["features", 0, "seed"], 5),
        ("features=[{kind: toy_model, dimension: 7}]", ["features", 0, "dimension"], 7),
        ("dataset.subjects=[01]", ["dataset", "subjects"], ["01"]),
        ("alignment.high_pass_s=null", ["alignment", "high_pass_s"], None),
        ("alignment.confounds=false", ["alignment", "confounds"], False),
        ("baseline.0=word_length", ["baseline"], ["word_length"]),
        ("splits.gap_s=1e1", ["splits", "gap_s"], 10.0),
    ],
)
def test_a_change_takes_the_place_of_what_the_file_says(recipe_file, change, where, value):
    found = resolved(load_recipe(recipe_file(TEXT + "title: Old\nbaseline: [word_rate]\n"), [change]))
    for key in where:
        found = found[key]
    assert found == value


def test_changes_are_made_in_order():
    changes = ["features.0.seed=1", "features.0.seed=2", "encoder.alphas=[1, 2]", "encoder.alphas.1=5"]
    recipe = load_recipe("simulated", changes)
    assert recipe.features == (ToyModel(seed=2),)
    assert recipe.encoder.alphas == [1.0, 5.0]


def test_a_shipped_recipe_is_the_same_after_it_was_changed():
    load_recipe("simulated", ["features.0.seed=1"])
    assert load_recipe("simulated").features == (ToyModel(),)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ("title", "write key=value"),
        ("=x", "write key=value"),
        ("", "write key=value"),
        ("title=[", "--set 'title=['"),
        ("title=", "--set 'title='"),
        ("title=\0", "--set"),
        ("title=!!python/name:os.system", "--set"),
        ("features.1.seed=1", "has no entry '1'; it has 1, from 0 on"),
        ("features.-1.seed=1", "has no entry '-1'"),
        ("features.first.seed=1", "has no entry 'first'"),
        ("features.²=1", "has no entry '²'"),
        ("features.1={kind: toy_model}", "has no entry '1'"),
        ("features..seed=1", "has no entry ''"),
        ("dataset.name.x=1", "dataset.name is a value and has no 'x'"),
        ("encoder.alpha=1", "encoder.alpha: unknown key"),
        ("encoder.selection=mse", "encoder.selection"),
        ("titel=x", "Did you mean 'title'?"),
        ("dataset=null", "dataset: missing"),
    ],
)
def test_a_change_that_cannot_be_made_is_refused(recipe_file, change, part):
    assert part in message_of(recipe_file(TEXT), [change])


# Written out and read again


FULL = [
    MINIMAL,
    {
        **MINIMAL,
        "title": "no",
        "description": "on: 12:30, 010",
        "dataset": {"name": "simulated", "modality": "meg", "subjects": ["01", "03"], "seed": 3},
        "features": [
            {"kind": "toy_model", "n_layers": 3},
            {"kind": "language_model", "model": "gpt2", "layers": [0, 3], "untrained": True},
            {"kind": "language_model", "model": "gpt2", "untrained": 7},
        ],
        "baseline": [],
        "alignment": {"tmin_s": -0.1, "band_hz": [None, 10], "clip": None},
        "encoder": {"alphas": [1, 1e-7, 1e16], "n_components": 4, "inner_splits": 3},
        "splits": {"outer": "blocks", "gap_s": 0},
        "fallback": "simulated",
    },
    {**MINIMAL, "alignment": {"resampling": "lanczos", "delays": [1, 2], "high_pass_s": None}},
    {**MINIMAL, "dataset": {"name": "alice", "radius_mm": 10, "regions": ["LATL"]}},
    {**MINIMAL, "dataset": ARRAYS},
    {**MINIMAL, "dataset": TEMPLATE},
    {**MINIMAL, "dataset": {**TEMPLATE, "words": "one.csv", "columns": {"onset": "start"}, "language": "no"}},
]  # fmt: skip
FULL_IDS = ["minimal", "full", "fir", "alice", "arrays", "template", "one stimulus"]


@pytest.mark.parametrize("folder", [None, Path("/data/my study")], ids=["library", "file"])
@pytest.mark.parametrize("content", FULL, ids=FULL_IDS)
def test_a_recipe_written_out_is_the_same_recipe(content, folder):
    recipe = parse_recipe(content, folder)
    again = parse_recipe(resolved(recipe), folder)
    assert resolved(again) == resolved(recipe)
    assert again.features == recipe.features
    assert again.alignment == recipe.alignment
    assert again.dataset_options == recipe.dataset_options


@pytest.mark.parametrize("content", FULL, ids=FULL_IDS)
def test_a_recipe_written_out_as_yaml_is_the_same_recipe_from_any_folder(content, recipe_file):
    recipe = parse_recipe(content, Path("/data/my study"))
    again = load_recipe(recipe_file(yaml_text(resolved(recipe)), "elsewhere/recipe.yaml"))
    assert resolved(again) == resolved(recipe)


@pytest.mark.parametrize("content", FULL, ids=FULL_IDS)
def test_every_default_is_written_out(content):
    written = resolved(parse_recipe(content))
    assert list(written["splits"]) == ["outer", "n_splits", "gap_s"]
    assert {"kind", *RidgeEncoder().get_params()} == set(written["encoder"])
    assert all(None is not written[key] for key in written if key != "fallback")


# Names that people use, and that YAML of one version or another takes for something else.
ODD = ["01", "1e3", "5E7", "1.5e3", "+.5", "12:30", "no", "null", "~", "0x1f", "1_0", ".inf", "<<", "=", "true", "-"]
ODD += ["a: b", "a #b", "'", '"', "a\nb", "a\x85b", "\u2028", " a ", "\0", "日本", "{a}", "*a", "!a", "%a"]
NAMES = (
    st.sampled_from(ODD)
    | st.from_regex(r"[-+.\deE_:x]{1,6}", fullmatch=True)
    | st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
)


@pytest.mark.parametrize("name", ODD)
def test_odd_titles_and_names_of_subjects_survive_being_written_out(name, recipe_file):
    recipe = parsed(title=name, dataset={"name": "alice", "subjects": [name]})
    again = load_recipe(recipe_file(yaml_text(resolved(recipe))))
    assert (again.title, again.subjects) == (name, (name,))


@settings(deadline=None)
@given(title=NAMES, subjects=st.lists(NAMES, min_size=1, max_size=3, unique=True))
def test_any_title_and_names_of_subjects_survive_being_written_out(title, subjects):
    recipe = parsed(title=title, dataset={"name": "alice", "subjects": subjects})
    written = read_yaml(yaml_text(resolved(recipe)))[0]
    assert written["title"] == recipe.title == title
    assert parse_recipe(written).subjects == tuple(subjects)


def test_settings_of_a_stage_are_plain_and_complete():
    model = LanguageModel("gpt2", layers=(0, 1))
    assert settings_of(model)["layers"] == [0, 1]
    assert build(LanguageModel, settings_of(model), "here") == model
    encoder = RidgeEncoder(alphas=(1.0, 2.0))
    assert settings_of(encoder)["alphas"] == [1.0, 2.0]
    assert set(settings_of(encoder)) == set(encoder.get_params())
    rebuilt = build(RidgeEncoder, settings_of(encoder), "here")
    assert settings_of(rebuilt) == settings_of(encoder)


def test_a_recipe_cannot_be_changed_by_those_who_read_it():
    with pytest.raises(AttributeError):
        parse_recipe(MINIMAL).title = "x"


def test_what_is_parsed_is_left_as_it_was():
    content = {
        "dataset": {"name": "simulated", "seed": 1},
        "features": [{"kind": "toy_model"}],
        "encoder": {"kind": "ridge"},
    }
    before = repr(content)
    parse_recipe(content, Path("/data"))
    assert repr(content) == before


def test_list_of_recipes_is_sorted_and_holds_the_demo():
    assert list_recipes() == sorted(list_recipes())
    assert {"demo", "simulated", "simulated-meg"} <= set(list_recipes())
    assert not any(re.search(r"\W", name.replace("-", "")) for name in list_recipes())


@pytest.mark.parametrize("section", QUESTIONS)
def test_the_settings_of_a_question_can_be_written_in_yaml(section: str) -> None:
    """No name of a setting is a word that YAML takes for something else, such as null or no."""
    names = list(inspect.signature(find(section, QUESTIONS, "section")).parameters)
    content, _ = read_yaml("".join(f"{name}: 1\n" for name in names))
    assert list(content) == names
