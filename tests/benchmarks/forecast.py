"""How fast forecasts are: `python tests/benchmarks/forecast.py [--quick] [--rounds N] [--json FILE]`.

Prints one row: the time of a fit for each distance by itself over that of all distances together, in this process in
alternation (together, apart, together ...): the median over rounds, with the lowest and highest. Both sides use all
cores, so nothing else should run on the machine. It takes some minutes; `--quick` only tries that everything works.

Features, windows and responses have the shape of real ones: 1,000 samples of 5 stories, 768 dimensions whose spectrum
falls off as that of a language model's layers does, windows of 20 components at 20 distances, 400 targets. Apart, the
baseline path of `cross_validate` is called once for each distance. Exits with 1 where the two differ by more than 1e-8.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from _measuring import Row, alternate, describe_machine, ratios

from brainalign.encoding import FoldScores, LeaveOneRunOut, RidgeEncoder, cross_validate
from brainalign.encoding.beside import cross_validate_beside
from brainalign.types import Floats

TOLERANCE = 1e-8


@dataclass(frozen=True)
class Size:
    n_samples: int = 1000
    n_features: int = 768
    n_columns: int = 20
    n_distances: int = 20
    n_targets: int = 400
    n_runs: int = 5

    def __str__(self) -> str:
        return (
            f"n {self.n_samples}, p {self.n_features}, {self.n_distances} windows of {self.n_columns} columns, "
            f"{self.n_targets} targets, {self.n_runs} outer x {self.n_runs - 1} inner runs"
        )


QUICK = Size(n_samples=200, n_features=60, n_columns=5, n_distances=4, n_targets=30)


@dataclass(frozen=True)
class Problem:
    features: Floats
    windows: list[Floats]
    responses: Floats
    groups: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small problem, some seconds")
    parser.add_argument("--rounds", type=int, default=3, help="how often each side is timed, in alternation")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the row and all times to this file as well")
    options = parser.parse_args()
    size, machine = QUICK if options.quick else Size(), describe_machine()
    print(*(f"{name}: {value}" for name, value in machine.items()), sep="\n", end="\n\n")
    together(simulated(QUICK))
    row = compare(size, options.rounds)
    print(row)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "rows": [asdict(row)]}, indent=1))
    if not row.measured["same_numbers"]:
        sys.exit("The two do not give the same numbers.")


def compare(size: Size, rounds: int) -> Row:
    problem = simulated(size)
    timed = alternate({"together": partial(together, problem), "apart": partial(apart, problem)}, rounds)
    times = ratios(timed["apart"], timed["together"])
    pairs = zip(timed["together"].result, timed["apart"].result, strict=True)
    same = all(np.allclose(ours.r, theirs.r, rtol=0, atol=TOLERANCE) for ours, theirs in pairs)
    seconds = {name: one.seconds for name, one in timed.items()}
    note = f"{timed['together'].median_s:.2f} s together, {timed['apart'].median_s:.2f} s apart; {size}"
    measured = {"seconds": seconds, "same_numbers": same}
    return Row("a", "forecast, fits apart / together", float(np.median(times)), min(times), max(times), note, measured)


def together(problem: Problem) -> list[FoldScores]:
    alone, joints = cross_validate_beside(
        encoder(), problem.features, problem.responses, problem.groups, LeaveOneRunOut(), problem.windows
    )
    return [alone, *joints]


def apart(problem: Problem) -> list[FoldScores]:
    found: list[FoldScores] = []
    for window in problem.windows:
        alone, joint = cross_validate(
            encoder(), problem.features, problem.responses, problem.groups, LeaveOneRunOut(), window
        )
        assert joint is not None
        found += [joint] if found else [alone, joint]
    return found


def encoder() -> RidgeEncoder:
    return RidgeEncoder(inner_splits=LeaveOneRunOut())


def simulated(size: Size, seed: int = 0) -> Problem:
    rng = np.random.default_rng(seed)
    spectrum = 1 / np.sqrt(1 + np.arange(size.n_features))
    turn = np.linalg.qr(rng.normal(size=(size.n_features, size.n_features)))[0]
    features = (rng.normal(size=(size.n_samples, size.n_features)) * spectrum) @ turn
    windows = [rng.normal(size=(size.n_samples, size.n_columns)) for _ in range(size.n_distances)]
    signal = features @ rng.normal(size=(size.n_features, size.n_targets)) + windows[0] @ rng.normal(
        size=(size.n_columns, size.n_targets)
    ) / np.sqrt(size.n_columns)
    responses = signal / signal.std(axis=0) + 2 * rng.normal(size=signal.shape)
    groups = np.arange(size.n_samples) * size.n_runs // size.n_samples
    return Problem(features.astype(np.float32), windows, responses.astype(np.float32), groups)


if __name__ == "__main__":
    main()
