"""Every tutorial runs from top to bottom as a notebook, in few lines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TUTORIALS = sorted((Path(__file__).parents[1] / "tutorials").glob("[0-9]*.py"))


def code_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


@pytest.mark.slow
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs_as_a_notebook(
    path: Path, shared: Path, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import jupytext
    from nbclient import NotebookClient

    monkeypatch.setenv("BRAINALIGN_MIRROR", str(shared / "datasets"))
    # The demo's model takes half a minute to load; the tutorial's own lines are what is tested here.
    text = re.sub(r'"wheel:[^"]+"', repr(str(tiny_llama)), path.read_text(encoding="utf-8"))
    notebook = jupytext.reads(text, fmt="py:percent")
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell["outputs"]]
    assert any("image/png" in output.get("data", {}) for output in outputs), "no figure was shown"
    assert not any(output["output_type"] == "error" for output in outputs)


def test_the_first_tutorial_takes_at_most_15_lines_of_code() -> None:
    assert len(code_lines(TUTORIALS[0].read_text(encoding="utf-8"))) <= 15
