"""What README shows can be done as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from brainalign.config import parse_recipe
from brainalign.safe_yaml import read_yaml

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
RECIPES = re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("text", RECIPES, ids=range(len(RECIPES)))
@pytest.mark.parametrize("commented_out", [False, True], ids=["as it is", "with what is commented out"])
def test_every_recipe_in_readme_is_one(text: str, commented_out: bool, tmp_path: Path) -> None:
    if commented_out:
        text = re.sub(r"(?m)^( *)# (\w+:)", r"\1\2", text)
    parse_recipe(read_yaml(text)[0], folder=tmp_path)


def test_there_are_recipes_and_the_picture_is_there() -> None:
    assert len(RECIPES) >= 2
    picture = re.search(r"!\[[^]]*\]\(([^)]+)\)", README)
    assert picture is not None
    assert (Path(__file__).parents[1] / picture[1]).is_file()
