"""From a recipe to its study and the plan of its units."""

from __future__ import annotations

import os

from brainalign.config import Recipe, load_recipe
from brainalign.datasets import load_dataset
from brainalign.pipeline.study import Study
from brainalign.pipeline.work_folder import WorkFolder
from brainalign.types import Dataset

__all__ = ["dataset_of", "study_in", "study_of"]


def dataset_of(recipe: Recipe) -> Dataset:
    """The dataset that a recipe names, with the subjects it chooses."""
    subjects = None if recipe.subjects == "all" else recipe.subjects
    return load_dataset(recipe.dataset, subjects=subjects, options=recipe.dataset_options)


def study_of(recipe: Recipe, data: Dataset | None = None) -> Study:
    """The study that a recipe describes; files are fetched where they are not here."""
    data = dataset_of(recipe) if data is None else data
    return Study.of(
        data, recipe.features, recipe.baseline, recipe.alignment, recipe.encoder, recipe.splits, recipe.questions
    )


def study_in(work: WorkFolder) -> Study:
    """The study of the recipe that lies beside a folder's results."""
    return study_of(load_recipe(os.fspath(work.folder / "recipe.yaml")))
