"""A recipe: a YAML file that names a dataset, features, and what to change of the defaults.

A key of a recipe is a parameter of a class, under the same name: the class's signature is what a recipe is checked
against, so that no option is written down twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeVar

import platformdirs
from sklearn.base import BaseEstimator

from brainalign.encoding import Splits
from brainalign.errors import BrainalignError, RecipeError, nearest
from brainalign.features import SOUND_ENVELOPE, Baseline, Named
from brainalign.manifests import Manifest, read_manifest
from brainalign.questions import Question
from brainalign.registry import ALIGNMENTS, DATASETS, ENCODERS, EXECUTORS, FEATURES, QUESTIONS, find
from brainalign.safe_yaml import read_yaml
from brainalign.settings import SettingError, check_keys, checked_settings
from brainalign.types import Aligner, Extractor

__all__ = [
    "ALIGNMENT_OF",
    "Recipe",
    "alignment_of",
    "apply_change",
    "build",
    "check_alignment",
    "executor_of",
    "executor_settings",
    "list_recipes",
    "load_recipe",
    "parse_recipe",
    "resolved",
    "settings_of",
    "site_file",
    "site_settings",
]

T = TypeVar("T")

TOP_KEYS = (
    "title",
    "description",
    "dataset",
    "features",
    "baseline",
    "alignment",
    "encoder",
    "splits",
    *QUESTIONS,
    "executor",
    "strict",
    "fallback",
)
# How recordings of each modality that have a time axis meet features where a recipe does not name another way.
ALIGNMENT_OF: Mapping[str, str] = {"fmri": "hemodynamic", "meg": "epochs", "eeg": "epochs", "ecog": "epochs"}


@dataclass(frozen=True)
class Recipe:
    """A checked recipe.

    Parameters
    ----------
    title : str
        Heads the report.
    description : str
        A sentence for ``brainalign recipes``.
    dataset : str
        Name of the dataset.
    subjects : tuple of str or "all"
    dataset_options : mapping
        The loader's other settings.
    features : tuple of Extractor
    baseline : tuple of str or "auto"
        What every layer is compared with; "auto" takes all that the dataset allows.
    alignment : Aligner
        By default the modality's: volumes for fMRI, word-locked latencies for MEG, EEG and ECoG; items where the
        dataset's rows are.
    encoder : scikit-learn estimator
    splits : Splits
    questions : tuple of Question
        What is to be found out about the scores, in the order of `brainalign.registry.QUESTIONS`.
    executor : mapping
        Where and how the work is done, ``kind`` and the settings of that kind; no part of what is computed, and so not
        of `resolved`.
    strict : bool
        Whether what is to be read with care (a finding whose code begins with W and a number) is an error.
    fallback : str or None
        A shipped recipe to run instead where the dataset or the model cannot be reached.
    folder : Path or None
        Of the recipe's file; relative paths in it count from there.
    """

    title: str
    description: str
    dataset: str
    subjects: tuple[str, ...] | Literal["all"]
    dataset_options: Mapping[str, Any]
    features: tuple[Extractor, ...]
    baseline: tuple[str, ...] | Literal["auto"]
    alignment: Aligner
    encoder: BaseEstimator
    splits: Splits
    questions: tuple[Question, ...]
    executor: Mapping[str, Any]
    strict: bool
    fallback: str | None
    folder: Path | None


def list_recipes() -> list[str]:
    """Names of the recipes that come with brainalign."""
    return sorted(path.stem for path in _shipped().glob("*.yaml"))


def _shipped() -> Path:
    return Path(str(files("brainalign"))) / "recipes"


def load_recipe(name_or_path: str, changes: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe.

    Parameters
    ----------
    name_or_path : str
        A YAML file, or the name of a shipped recipe.
    changes : sequence of str
        ``key=value`` each, the key dotted (``encoder.selection=r``, ``features.0.context=128``), the value YAML.

    Raises
    ------
    RecipeError
        If there is no such recipe, or it asks for what does not exist; the message names file, line and key.

    Examples
    --------
    >>> load_recipe("simulated").dataset
    'simulated'
    """
    path = Path(name_or_path)
    if name_or_path in list_recipes() and not _is_file(path):
        path = _shipped() / f"{name_or_path}.yaml"
    elif not _is_file(path):
        if _holds(path, Path.is_dir):
            names = ", ".join(list_recipes())
            raise RecipeError(f"'{name_or_path}' is a folder; name a recipe in it, or one of those shipped: {names}.")
        what = "file" if path.suffix in (".yaml", ".yml") or len(path.parts) > 1 else "recipe"
        raise RecipeError(f"There is no {what} '{name_or_path}'. Among recipes: {nearest(path.stem, list_recipes())}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read as text: {error}") from error
    lines: dict[str, int] = {}
    try:
        content, lines = read_yaml(text)
        for change in changes:
            apply_change(content, change)
        return parse_recipe(content, folder=path.parent)
    except SettingError as error:
        line = _line_of(error.key, lines)
        raise RecipeError(f"{path}{f':{line}' if line else ''}: {error}") from error.__cause__
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from error.__cause__


def _is_file(path: Path) -> bool:
    return _holds(path, Path.is_file)


def _holds(path: Path, what: Callable[[Path], bool]) -> bool:
    """Whether there is such a file or folder; there is none under a name that none can have."""
    try:
        return what(path)
    except (OSError, ValueError):
        return False


def _line_of(key: str, lines: Mapping[str, int]) -> int | None:
    """The line of a dotted key, or of what it stands in where the key itself is missing."""
    while key and key not in lines:
        key = key.rpartition(".")[0]
    return lines.get(key)


def parse_recipe(content: Mapping[str, Any], folder: Path | None = None) -> Recipe:
    """Check a recipe given as nested mappings; see `Recipe` and the classes in brainalign.registry.

    Raises
    ------
    RecipeError
        If a key is unknown or missing, or a value cannot be what it should be.

    Examples
    --------
    >>> recipe = parse_recipe({"dataset": {"name": "simulated"}, "features": [{"kind": "toy_model", "n_layers": 3}]})
    >>> recipe.features[0].n_layers
    3
    """
    content = _mapping(content, "")
    check_keys(content, TOP_KEYS, "")
    for key in ("dataset", "features"):
        if not content.get(key):
            raise SettingError(key, "missing; a recipe needs a dataset and features.")
    dataset = _mapping(content["dataset"], "dataset")
    manifest, options = _dataset(dataset, folder)
    modality = options.get("modality") or manifest.modality[0]
    if not isinstance(content["features"], list):
        raise SettingError("features", "must be a list; begin each entry with '- kind: ...'.")
    baseline = _names(content.get("baseline", "auto"), "auto", "baseline")
    if baseline != "auto":
        with _about("baseline"):
            Baseline(tuple(name for name in baseline if name != SOUND_ENVELOPE))
    alignment = _stage(
        {"kind": alignment_of(modality, manifest.rows), **_section(content, "alignment")},
        ALIGNMENTS,
        "alignment",
        "kind of alignment",
    )
    with _about("alignment.kind"):
        check_alignment(alignment, manifest.rows, manifest.name)
    encoder = {"kind": "ridge", **_section(content, "encoder")}
    return Recipe(
        title=_text(content, "title") or f"{manifest.name}: scores by layer",
        description=_text(content, "description"),
        dataset=manifest.name,
        subjects=_subjects(dataset),
        dataset_options=options,
        features=tuple(
            _stage(entry, FEATURES, f"features.{i}", "kind of features", folder)
            for i, entry in enumerate(content["features"])
        ),
        baseline=baseline,
        alignment=alignment,
        encoder=_encoder(encoder),
        splits=build(Splits, _section(content, "splits"), "splits"),
        questions=_questions(content),
        executor=_executor(content),
        strict=_flag(content, "strict"),
        fallback=_fallback(content.get("fallback")),
        folder=folder,
    )


def alignment_of(modality: str, rows: str) -> str:
    """The kind of alignment of recordings whose rows are moments ("time") or "items".

    Examples
    --------
    >>> alignment_of("eeg", "time"), alignment_of("eeg", "items")
    ('epochs', 'items')
    """
    return "items" if rows == "items" else ALIGNMENT_OF[modality]


def check_alignment(alignment: Aligner, rows: str, dataset: str) -> None:
    """Raise a RecipeError if an alignment is for other rows than the dataset's; one without ``rows`` is for time."""
    if getattr(alignment, "rows", "time") == rows:
        return
    what = {"time": "moments of a recording", "items": "items (words or sentences) without a time axis"}[rows]
    raise RecipeError(
        f"{type(alignment).__name__} cannot align '{dataset}', whose responses are to {what}: "
        + ("take the kind 'items', or leave it out." if rows == "items" else "leave the kind out for the modality's.")
    )


def build(cls: type[T], settings: Mapping[str, Any], where: str) -> T:
    """An instance of `cls` from settings checked against its signature.

    Parameters
    ----------
    cls : type
        A stage: a dataclass, or a scikit-learn estimator with annotated parameters.
    settings : mapping
        Its parameters, as YAML gives them.
    where : str
        The dotted key they stand under, for messages.

    Raises
    ------
    RecipeError
        If a parameter is unknown, missing, or of the wrong type.

    Examples
    --------
    >>> build(Splits, {"outer": "blocks", "n_splits": 4}, "splits")
    Splits(outer='blocks', n_splits=4, gap_s=None)
    """
    checked = checked_settings(cls, settings, where)
    with _about(where):
        return cls(**checked)


def settings_of(stage: Any) -> dict[str, Any]:
    """All parameters of a stage, defaults included, as YAML and JSON can hold them.

    Examples
    --------
    >>> settings_of(Splits())
    {'outer': 'auto', 'n_splits': 5, 'gap_s': None}
    """
    if isinstance(stage, BaseEstimator):
        return _plain(stage.get_params(deep=False))
    return _plain({field.name: getattr(stage, field.name) for field in fields(stage)})


def resolved(recipe: Recipe) -> dict[str, Any]:
    """The recipe with every default written out, as nested mappings that `parse_recipe` takes."""
    return {
        "title": recipe.title,
        "description": recipe.description,
        "dataset": {"name": recipe.dataset, "subjects": _plain(recipe.subjects), **_plain(recipe.dataset_options)},
        "features": [_resolved_features(stage) for stage in recipe.features],
        "baseline": _plain(recipe.baseline),
        "alignment": {"kind": _kind_of(recipe.alignment, ALIGNMENTS), **settings_of(recipe.alignment)},
        "encoder": {"kind": _kind_of(recipe.encoder, ENCODERS), **settings_of(recipe.encoder)},
        "splits": settings_of(recipe.splits),
        **{question.section: settings_of(question) for question in recipe.questions},
        "strict": recipe.strict,
        "fallback": recipe.fallback,
    }


def _resolved_features(stage: Extractor) -> dict[str, Any]:
    if isinstance(stage, Named):
        return {**_resolved_features(stage.space), "name": stage.name}
    return {"kind": _kind_of(stage, FEATURES), **settings_of(stage)}


def _kind_of(stage: Any, table: Mapping[str, str]) -> str:
    name = f"{type(stage).__module__}:{type(stage).__qualname__}"
    return next(kind for kind, place in table.items() if place == name)


def _plain(value: Any) -> Any:
    """Mappings, lists and scalars that YAML and JSON can hold."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return _plain({field.name: getattr(value, field.name) for field in fields(value)})
    return str(value) if isinstance(value, Path) else value


def _dataset(settings: Mapping[str, Any], folder: Path | None) -> tuple[Manifest, dict[str, Any]]:
    """The manifest named and the loader's options, checked."""
    if not isinstance(settings.get("name"), str):
        raise SettingError("dataset", "needs a name; `brainalign list` shows the datasets.")
    with _about("dataset.name"):
        manifest = read_manifest(settings["name"])
    options = {key: value for key, value in settings.items() if key not in ("name", "subjects")}
    if manifest.facts.get("root") == "recipe" and folder is not None:
        options["root"] = _root_in(folder, options.get("root"))
    return manifest, checked_settings(
        find(manifest.loader, DATASETS, "loader"), options, "dataset", ("name", "subjects")
    )


def _stage(entry: Any, table: Mapping[str, str], where: str, what: str, folder: Path | None = None) -> Any:
    settings = dict(_mapping(entry, where))
    if "kind" not in settings:
        raise SettingError(where, f"needs a kind. {nearest('', table)}")
    with _about(f"{where}.kind"):
        cls = find(str(settings.pop("kind")), table, what)
    name = settings.pop("name", None) if table is FEATURES and not _has_field(cls, "name") else None
    if folder is not None and _has_field(cls, "root"):
        settings["root"] = _root_in(folder, settings.get("root"))
    stage = build(cls, settings, where)
    if name is None:
        return stage
    with _about(f"{where}.name"):
        return Named(str(name), stage)


def _has_field(cls: type, name: str) -> bool:
    return is_dataclass(cls) and name in {field.name for field in fields(cls)}


def _root_in(folder: Path, root: Any) -> str:
    """What a stage's relative paths count from: absolute, so that the recipe beside the results runs from anywhere."""
    return str((folder / str(root or ".")).resolve())


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise SettingError(where, f"must be 'key: value' pairs, not {repr(value)[:60]}.")
    return value


def _section(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A section that may be left out, or empty."""
    return {} if content.get(key) is None else _mapping(content[key], key)


def _questions(content: Mapping[str, Any]) -> tuple[Question, ...]:
    """The sections that ask something of the scores; one that is there but empty asks with the defaults."""
    asked = [name for name in QUESTIONS if name in content and content[name] is not False]
    return tuple(build(find(name, QUESTIONS, "section"), _section(content, name), name) for name in asked)


def _executor(content: Mapping[str, Any]) -> dict[str, Any]:
    """Where the work is done, checked: what the recipe says, and below it what this site's file says of that kind."""
    asked = _section(content, "executor")
    site = site_settings()
    kind = str(asked.get("kind", site.get("executor", "local")))
    with _about("executor.kind"):
        cls = find(kind, EXECUTORS, "kind of executor")
    settings = {**site.get(kind, {}), **{key: value for key, value in asked.items() if key != "kind"}}
    return executor_settings(build(cls, settings, "executor"))


def executor_of(settings: Mapping[str, Any]) -> Any:
    """The executor that checked settings with their ``kind`` describe; see `Recipe.executor`."""
    given = {name: value for name, value in settings.items() if name != "kind"}
    return build(find(str(settings["kind"]), EXECUTORS, "kind of executor"), given, "executor")


def executor_settings(executor: Any) -> dict[str, Any]:
    """What `executor_of` makes the executor of again."""
    return {"kind": _kind_of(executor, EXECUTORS), **settings_of(executor)}


def site_file() -> Path:
    """The file that says how work is done at this site, for all recipes: ``BRAINALIGN_SITE``, or the user's own."""
    named = os.environ.get("BRAINALIGN_SITE")
    return Path(named).expanduser() if named else Path(platformdirs.user_config_dir("brainalign")) / "site.yaml"


def site_settings() -> dict[str, Any]:
    """What the site's file says: ``executor``, a kind, and under each kind's name its settings; nothing without one.

    Raises
    ------
    RecipeError
        If it cannot be read, or has other keys.
    """
    path = site_file()
    if not _is_file(path):
        if "BRAINALIGN_SITE" in os.environ:
            raise RecipeError(f"BRAINALIGN_SITE names {path}, which is no file.")
        return {}
    try:
        content, _ = read_yaml(path.read_text(encoding="utf-8-sig"))
        check_keys(_mapping(content or {}, ""), ("executor", *EXECUTORS), "")
    except (OSError, UnicodeDecodeError, RecipeError) as error:
        raise RecipeError(f"{path}: {error}") from error
    return {key: value if key == "executor" else dict(_section(content, key)) for key, value in (content or {}).items()}


def _flag(content: Mapping[str, Any], key: str) -> bool:
    value = content.get(key, False)
    if not isinstance(value, bool):
        raise SettingError(key, f"must be true or false, not {repr(value)[:60]}.")
    return value


def _text(content: Mapping[str, Any], key: str) -> str:
    value = content.get(key)
    if isinstance(value, (list, Mapping)):
        raise SettingError(key, f"must be text, not {repr(value)[:60]}.")
    return "" if value is None else str(value)


def _encoder(settings: Mapping[str, Any]) -> BaseEstimator:
    """The encoder, its settings checked now rather than hours later when it is first fitted."""
    encoder = _stage(settings, ENCODERS, "encoder", "kind of encoder")
    with _about("encoder"):
        encoder.check_settings()
    return encoder


def _subjects(dataset: Mapping[str, Any]) -> tuple[str, ...] | Literal["all"]:
    subjects = _names(dataset.get("subjects", "all"), "all", "dataset.subjects")
    if not subjects:
        raise SettingError("dataset.subjects", "names no subject; leave it out for all.")
    return subjects


def _fallback(name: Any) -> str | None:
    if name is None or name in list_recipes() or (isinstance(name, str) and _is_file(Path(name))):
        return name
    raise SettingError("fallback", f"there is no recipe '{name}'. {nearest(str(name), list_recipes())}")


def _names(value: Any, word: str, where: str) -> Any:
    """A tuple of names, or the one `word` that stands for a default."""
    if value == word:
        return word
    if not isinstance(value, list) or not all(isinstance(name, (str, int)) for name in value):
        raise SettingError(where, f"must be '{word}' or a list of names, not {repr(value)[:60]}.")
    names = tuple(str(name) for name in value)
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise SettingError(where, f"'{twice[0]}' must stand there once only.")
    return names


@contextmanager
def _about(key: str) -> Iterator[None]:
    """Say which key of the recipe an error is about."""
    try:
        yield
    except SettingError:
        raise
    except (BrainalignError, ValueError, TypeError) as error:
        raise SettingError(key, str(error)) from error


def apply_change(content: Any, change: str) -> None:
    """Put one ``key=value`` into nested settings, the key dotted, the value YAML.

    Examples
    --------
    >>> settings = {}
    >>> apply_change(settings, "signals.rate_hz=50")
    >>> settings
    {'signals': {'rate_hz': 50}}
    """
    key, sign, text = change.partition("=")
    if not sign or not key:
        raise RecipeError(f"--set {change!r}: write key=value, the key dotted as in encoder.selection=r.")
    try:
        value, _ = read_yaml(text)
    except RecipeError as error:
        raise RecipeError(f"--set {change!r}: {error}") from error
    *path, last = key.split(".")
    place = content
    for depth, part in enumerate(path):
        place = place.setdefault(part, {}) if isinstance(place, dict) else _entry(place, part, change, path[:depth])
    if isinstance(place, dict):
        place[last] = value
    else:
        _entry(place, last, change, path)
        place[int(last)] = value


def _entry(place: Any, part: str, change: str, path: Sequence[str]) -> Any:
    """The entry `part` of a list that stands under `path`."""
    where = ".".join(path)
    if not isinstance(place, list):
        raise RecipeError(f"--set {change!r}: {where} is a value and has no '{part}'.")
    if not part.isdecimal() or int(part) >= len(place):
        raise RecipeError(f"--set {change!r}: {where} has no entry '{part}'; it has {len(place)}, from 0 on.")
    return place[int(part)]
