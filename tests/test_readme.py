"""What README shows can be done as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from brainalign.config import parse_recipe, site_settings
from brainalign.safe_yaml import read_yaml

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
# The one that is no recipe says for a site how work is done there.
BLOCKS = re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)
RECIPES = [text for text in BLOCKS if not text.startswith("executor:")]
SITES = [text for text in BLOCKS if text.startswith("executor:")]


@pytest.mark.parametrize("text", RECIPES, ids=range(len(RECIPES)))
@pytest.mark.parametrize("commented_out", [False, True], ids=["as it is", "with what is commented out"])
def test_every_recipe_in_readme_is_one(text: str, commented_out: bool, tmp_path: Path) -> None:
    if commented_out:
        text = re.sub(r"(?m)^( *)# (\w+:)", r"\1\2", text)
    parse_recipe(read_yaml(text)[0], folder=tmp_path)


def test_the_site_s_file_in_readme_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = SITES
    (tmp_path / "site.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setenv("BRAINALIGN_SITE", str(tmp_path / "site.yaml"))
    kinds = {name: settings for name, settings in site_settings().items() if name != "executor"}
    assert set(kinds) == {"slurm", "local"}
    for kind, settings in kinds.items():
        recipe = parse_recipe(
            {"dataset": {"name": "simulated"}, "features": [{"kind": "toy_model"}], "executor": {"kind": kind}}
        )
        assert {name: recipe.executor[name] for name in settings} == settings


def test_there_are_recipes_and_the_picture_is_there() -> None:
    assert len(RECIPES) >= 2
    picture = re.search(r"!\[[^]]*\]\(([^)]+)\)", README)
    assert picture is not None
    assert (Path(__file__).parents[1] / picture[1]).is_file()
