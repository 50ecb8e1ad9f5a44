"""What is said of the machine: which hosts answer, each asked once."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest

from brainalign.pipeline import machine


def test_each_host_is_asked_once_however_many_sets_lie_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {
        "a": {"archive": "https://one.org/a/{path}"},
        "b": {"archive": "https://one.org/b/{path}"},
        "c": {"archive": "https://two.org/{path}"},
        "d": {"archive": "wheel:toy==1.0/{path}"},
        "e": {},
    }
    asked: Counter[str] = Counter()

    def answers(url: str | None, timeout_s: float) -> bool:
        asked[url or "none"] += 1
        return "one" in (url or "")

    monkeypatch.setattr(machine, "list_manifests", lambda: list(sources))
    monkeypatch.setattr(machine, "read_manifest", lambda name: SimpleNamespace(sources=sources[name]))
    monkeypatch.setattr(machine, "_answers", answers)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://hub.org")
    found = machine.reachable()
    assert found == {"data set a": True, "data set b": True, "data set c": False, "model hub": False}
    assert set(asked.values()) == {1}
    assert set(asked) == {"https://one.org/", "https://two.org/", "https://hub.org", "none"}
