"""Where a study's numbers come from: code, machines, seeds, models, and whether a second run gives the same bytes."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import brainalign
from brainalign.errors import listed
from brainalign.pipeline.answers import asked_apart, key_of_answer
from brainalign.pipeline.extraction import key_of_features
from brainalign.pipeline.machine import brainalign_version, describe_machine, made_here, versions
from brainalign.pipeline.study import Study
from brainalign.store import Store
from brainalign.store_layout import DAMAGE, content_of, place_of, record_of

__all__ = ["code_version", "made_by", "provenance", "seeds_of"]

# What two results must share for the same numbers to come out, to the last bit; hosts of one sort are one.
SORT = ("cpu", "gpu", "blas", "threads", "versions")
# So long git may take to say what is checked out.
GIT_S = 10.0


def provenance(study: Study, recipe: Mapping[str, Any], store: Store) -> dict[str, Any]:
    """What ``run.json`` says of where the numbers come from.

    Parameters
    ----------
    study : Study
        Whose units are done.
    recipe : mapping
        With every default written out.
    store : Store
        Where its results are.
    """
    made = made_by(study, store)
    return {
        "code": code_version(),
        "versions": versions(),
        "machine": describe_machine(),
        "seeds": seeds_of(recipe),
        "models": study.fingerprints,
        "threads": sorted({sort["threads"] for sort in made["sorts"]}),
        "made_by": made,
    }


def made_by(study: Study, store: Store) -> dict[str, Any]:
    """What made a study's stored results, and whether a second run here would give the same bytes.

    Returns
    -------
    dict
        ``sorts``: each sort of machine, threads and versions, with how many results it made, on which hosts, and the
        seconds that they took together, most results first. ``unknown``: results that say nothing of it. ``again``: in
        words, whether a second run gives the same bytes.
    """
    found = [_made(store, key) for key in _keys(study)]
    known = [made for made in found if made is not None]
    counts = Counter(_sort_of(made) for made in known)
    sorts = [_told(sort, [made for made in known if _sort_of(made) == sort]) for sort, _ in counts.most_common()]
    unknown = len(found) - len(known)
    return {"sorts": sorts, "unknown": unknown, "again": _again(sorts, unknown, made_here(0.0), _mixed_threads(known))}


def seeds_of(recipe: Any, where: str = "") -> dict[str, int]:
    """Every seed of a recipe, by its dotted key.

    Examples
    --------
    >>> seeds_of({"features": [{"kind": "toy_model", "seed": 3}], "tests": {"seed": 0, "permutations": 100}})
    {'features.0.seed': 3, 'tests.seed': 0}
    """
    if isinstance(recipe, Mapping):
        parts = {f"{where}{key}": value for key, value in recipe.items()}
    elif isinstance(recipe, list | tuple):
        parts = {f"{where}{number}": value for number, value in enumerate(recipe)}
    else:
        return {}
    found: dict[str, int] = {}
    for key, value in parts.items():
        is_seed = key.rpartition(".")[2] == "seed" and value is not None
        found |= {key: value} if is_seed else seeds_of(value, f"{key}.")
    return found


def code_version(package: Path = Path(brainalign.__file__).parent) -> dict[str, Any]:
    """The version of brainalign and, where it runs from a git checkout, the commit and whether files differ from it.

    Examples
    --------
    >>> code_version()["version"]
    '...'
    """
    version = {"version": brainalign_version()}
    if not (package.parent / ".git").exists():
        return version
    commit = _git(package.parent, "rev-parse", "HEAD")
    changed = _git(package.parent, "status", "--porcelain", "--", package.name, "data_manifests")
    if commit is None or changed is None:
        return version
    return {**version, "commit": commit, "clean": not changed}


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says; None where it is not there, or does not want to."""
    try:
        said = subprocess.run(
            ["git", "-C", str(folder), "--no-optional-locks", *arguments],
            capture_output=True,
            text=True,
            timeout=GIT_S,
            check=True,
            # A hook that runs this has a repository of its own in mind.
            env={name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return said.stdout.strip()


def _keys(study: Study) -> Iterator[str]:
    """Of all results of a study."""
    for space in study.spaces:
        for stimulus in study.stimuli.values():
            yield key_of_features(space, stimulus, study.fingerprints[space.name])
    for of_subjects in study.keys_of_fits.values():
        yield from of_subjects.values()
    for question in study.questions:
        apart = product(study.subjects, asked_apart(study, question))
        yield from (key_of_answer(study, question, subject, space) for subject, space in apart)


def _made(store: Store, key: str) -> dict[str, Any] | None:
    """What made a result, from its record alone: its arrays, which may be large, were verified when they were read."""
    place = place_of(store.root, key)
    try:
        content = content_of(place / "record.json")
        if content is None:
            return None
        facts = record_of(place, content)["facts"]
        return {**facts["made"], "what": facts.get("what")} if "made" in facts else None
    except (OSError, *DAMAGE):
        return None


def _sort_of(made: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(made.get(name) for name in SORT)


def _told(sort: tuple[Any, ...], made: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    hosts = sorted({str(one["host"]) for one in made})
    seconds = round(sum(one["seconds"] for one in made), 1)
    return {**dict(zip(SORT, sort, strict=True)), "results": len(made), "hosts": hosts, "seconds": seconds}


def _mixed_threads(made: Sequence[Mapping[str, Any]]) -> list[int]:
    """Several numbers of threads of results of one kind, if there are; each kind may have its own."""
    found: dict[str, set[int]] = {}
    for one in made:
        found.setdefault(str(one["what"]), set()).add(one["threads"])
    return sorted(next((threads for threads in found.values() if len(threads) > 1), set()))


def _again(
    sorts: Sequence[Mapping[str, Any]], unknown: int, here: Mapping[str, Any], mixed_threads: Sequence[int]
) -> str:
    """Whether a second run here gives the same bytes, in words."""
    doubts = [*_doubts(sorts, here), *([f"{unknown} results do not say what made them"] if unknown else [])]
    if mixed_threads:
        doubts.append(f"results of one kind were made with {' and '.join(map(str, mixed_threads))} threads")
    if doubts:
        return f"That a second run here gives the same bytes cannot be promised: {'; '.join(doubts)}."
    return (
        "A second run on this machine gives the same bytes, with the same versions, as many processes and threads, and "
        "as long as memory suffices for the same solver and as much read at once."
    )


def _doubts(sorts: Sequence[Mapping[str, Any]], here: Mapping[str, Any]) -> Iterator[str]:
    machines = {(sort["cpu"], sort["gpu"], sort["blas"]) for sort in sorts}
    if len(machines) > 1:
        kinds = listed(sorted({str(sort["cpu"]) for sort in sorts}))
        yield f"results were made on {len(machines)} kinds of machine ({kinds})"
    elif machines - {(here["cpu"], here["gpu"], here["blas"])}:
        yield f"results were made on another kind of machine than this ({sorts[0]['cpu']})"
    made_with = {sort["versions"] for sort in sorts}
    if len(made_with) > 1:
        yield f"with {len(made_with)} sets of versions of packages"
    elif made_with - {here["versions"]}:
        yield "with other versions of packages than are installed here"
    if any(sort["gpu"] for sort in sorts):
        yield "they were made on machines with a GPU, which may add in another order each time"
