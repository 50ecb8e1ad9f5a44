"""How fast the ridge engine is: `python tests/benchmarks/ridge.py [--quick] [--only a,b] [--rounds N] [--json FILE]`.

Prints one row per measurement, each a ratio of times taken in this process in alternation (ours, theirs, ours ...):
the median over rounds, with the lowest and highest. Both sides use all cores, so nothing else should run on the
machine: a busy one slows decompositions a hundredfold. All of it takes about half an hour; `--quick` only tries, on
small problems whose figures mean nothing, that everything works, in about a minute.

(a) fMRI, nested: 2 layers, 5 outer x 4 inner runs, 13 penalties, float32, against himalaya's RidgeCV, the faster of
    its numpy and torch backends, and likewise its KernelRidgeCV. Both fit an intercept, which makes it the very same
    problem. And ours as it is by default, which standardises columns on the training samples besides.
(b) The same with 10 runs; himalaya's loop is timed on 2 of the 10 outer folds, and multiplied.
(c) Word-locked: subjects x channels x latencies as one problem, against MNE's SlidingEstimator around scikit-learn's
    RidgeCV(alpha_per_target=True), the faster of one process and one per core. Theirs is a loop over subjects and
    folds that share nothing: one of each is timed, and multiplied.
(d) The share of the machine's float32 matrix-product rate at which (a) does the operations that its plan counts;
    the plan counts one in float64 as two.
(e) Peak memory of (a), each side in a process of its own: the rise above what the data and imports take.
(f) Growth of our time: the exponent log2(t2 / t1) when targets, samples, features, layers or folds are doubled.

What the features and responses are stands in `_problems.py`. Exits with 1 where our numbers are not the opponents'.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import xarray as xr
from _measuring import Row, Timed, alternate, describe_machine, peak_rise_mb, product_rate, ratios
from _opponents import Estimates, himalaya_scores, pack, sliding_scores
from _problems import FmriSize, Problem, WordLockedSize, fmri_problem, word_locked_problem

from brainalign.encoding import ContiguousBlocks, LeaveOneRunOut, Responses, RidgeEncoder, cross_val_scores
from brainalign.encoding.designs import Matrix
from brainalign.encoding.splits import nested_folds

FMRI_ALPHAS = tuple(np.logspace(1, 7, 13).tolist())
WORD_ALPHAS = tuple(np.logspace(-1, 6, 20).tolist())
R_TOLERANCE = 1e-3  # of float32
SAME_ALPHAS = 0.99  # of targets and folds; the others are ties but for rounding


@dataclass(frozen=True)
class Sizes:
    """Of all problems; `fmri_words` is how many words the volumes cover, None for all."""

    fmri: FmriSize
    fmri_words: int | None
    words: WordLockedSize
    growth: FmriSize
    product: int
    rounds: int = 3


FULL = Sizes(fmri=FmriSize(), fmri_words=None, words=WordLockedSize(), growth=FmriSize(n_units=150), product=4000)
QUICK = Sizes(
    fmri=FmriSize(n_volumes=300, n_units=20, n_targets=200),
    fmri_words=400,
    words=WordLockedSize(n_words=400, n_units=40, n_subjects=2, n_channels=5, n_latencies=6),
    growth=FmriSize(n_volumes=200, n_units=10, n_targets=100),
    product=1000,
)


def main() -> None:
    options = _options()
    if options.peak_memory:
        print(_peak_rise_of(*options.peak_memory))
        return
    sizes = replace(QUICK if options.quick else FULL, rounds=options.rounds)
    machine = describe_machine()
    print(*(f"{name}: {value}" for name, value in machine.items()), sep="\n", end="\n\n")
    _warm_up()
    rows = []
    for line in options.only:
        for row in LINES[line](sizes):
            print(row, flush=True)
            rows.append(row)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "rows": [asdict(row) for row in rows]}, indent=1))
    if any(row.measured.get("same_numbers") is False for row in rows):
        sys.exit("Our numbers are not the opponents': see the rows that say DIFFERENT.")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small problems, about a minute")
    parser.add_argument("--rounds", type=int, default=3, help="how often each side is timed, in alternation")
    parser.add_argument("--only", type=_lines, default=list(LINES), metavar="a,b,...", help="these lines only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows and all times to this file as well")
    # What line (e) starts in a process of its own.
    parser.add_argument("--peak-memory", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def _lines(text: str) -> list[str]:
    unknown = set(text.split(",")) - set(LINES)
    if unknown:
        raise argparse.ArgumentTypeError(f"no line {', '.join(sorted(unknown))}; there are {', '.join(LINES)}")
    return text.split(",")


def _warm_up() -> None:
    """Import all that is imported late, and start the threads, outside of what is measured."""
    problem = _small_problem()
    for solve in SOLVERS.values():
        solve(problem)


def _small_problem() -> Problem:
    x, y = np.random.default_rng(0).standard_normal((2, 90, 20), dtype=np.float32)
    return Problem({"small": x}, y, np.arange(90) // 30)


# (a) and (b)


def ours(problem: Problem, standardise: bool = False) -> xr.Dataset:
    """Leave one run out, inside and outside; without `standardise` columns are only centred, as himalaya does."""
    return cross_val_scores(
        problem.features,
        problem.responses,
        groups=problem.groups,
        encoder=fmri_encoder(standardise),
        splitter=LeaveOneRunOut(),
    )


def fmri_encoder(standardise: bool = False) -> RidgeEncoder:
    return RidgeEncoder(alphas=FMRI_ALPHAS, inner_splits=LeaveOneRunOut(), standardise=standardise)


OURS: dict[str, Callable[[Problem], xr.Dataset]] = {
    "ours": ours,
    "ours standardised": partial(ours, standardise=True),
}
HIMALAYA: dict[str, Callable[..., Estimates]] = {
    "numpy": partial(himalaya_scores, alphas=FMRI_ALPHAS, backend="numpy"),
    "torch": partial(himalaya_scores, alphas=FMRI_ALPHAS, backend="torch"),
    "kernel numpy": partial(himalaya_scores, alphas=FMRI_ALPHAS, backend="numpy", kind="KernelRidgeCV"),
    "kernel torch": partial(himalaya_scores, alphas=FMRI_ALPHAS, backend="torch", kind="KernelRidgeCV"),
}
SOLVERS = OURS | HIMALAYA


def fmri(sizes: Sizes, line: str = "a", n_runs: int = 5, n_folds: int = 5) -> Iterator[Row]:
    """Theirs, a loop over outer folds that share nothing, is timed on `n_folds` of them."""
    size = replace(sizes.fmri, n_runs=n_runs)
    problem = fmri_problem(size, sizes.fmri_words)
    theirs = {name: partial(solve, problem, n_folds=n_folds) for name, solve in HIMALAYA.items()}
    timed = alternate({name: partial(solve, problem) for name, solve in OURS.items()} | theirs, sizes.rounds)
    scores = timed["ours"].result
    best = _fastest(timed, "numpy", "torch")
    best_kernel = _fastest(timed, "kernel numpy", "kernel torch")
    against = partial(_speed_row, line, timed, scale=n_runs / n_folds)
    part = "" if n_folds == n_runs else f"; theirs on {n_folds} of {n_runs} outer folds, times {n_runs / n_folds:g}"
    yield against(f"himalaya RidgeCV ({best}) / ours", best, "ours", f"{size}; {_r_range(scores)}{part}")
    yield against(f"himalaya RidgeCV ({best}) / ours with its defaults", best, "ours standardised")
    yield against(f"himalaya KernelRidgeCV ({best_kernel.removeprefix('kernel ')}) / ours", best_kernel, "ours")
    for name in HIMALAYA:
        what = f"same penalties as himalaya ({name})"
        yield _agreement_row(line, what, scores.isel(fold=slice(n_folds)), timed[name].result)


def _fastest(timed: dict[str, Timed], *names: str) -> str:
    return min(names, key=lambda name: timed[name].median_s)


def _speed_row(
    line: str, timed: dict[str, Timed], what: str, theirs: str, ours: str, note: str = "", scale: float = 1.0
) -> Row:
    rounds = ratios(timed[theirs], timed[ours], scale)
    times = f"{scale * timed[theirs].median_s:.2f} s / {timed[ours].median_s:.2f} s"
    measured = {"scale": scale, "seconds": {name: one.seconds for name, one in timed.items()}}
    return Row(
        line, what, float(np.median(rounds)), min(rounds), max(rounds), f"{times}; {note}".rstrip("; "), measured
    )


def _agreement_row(line: str, what: str, ours: xr.Dataset | Estimates, theirs: Estimates) -> Row:
    """The share of targets and folds with the same penalty, and among those the greatest difference in r."""
    same = np.isclose(np.asarray(ours.alpha), theirs.alpha, rtol=1e-3)
    apart = np.abs(np.asarray(ours.r) - theirs.r)
    worst = float(apart[same].max(initial=0.0))
    share = float(same.mean())
    # A NaN in one of the two only is a difference as well: it fails the comparison.
    agree = share >= SAME_ALPHAS and worst <= R_TOLERANCE
    note = f"{'the same' if agree else 'DIFFERENT'}: r within {worst:.1e} there, {float(apart.max()):.1e} everywhere"
    return Row(line, what, share, share, share, note, {"same_numbers": agree})


def _r_range(scores: xr.Dataset) -> str:
    low, middle, high = np.percentile(scores.r.mean("fold"), [5, 50, 95])
    return f"held-out r {low:.2f}, {middle:.2f}, {high:.2f} (5th, 50th, 95th percentile)"


# (c)


def word_locked(sizes: Sizes) -> Iterator[Row]:
    """Ours in float32; theirs in float64, as RidgeCV has it, on one subject and fold: it is a loop over these."""
    size = sizes.words
    problem = word_locked_problem(size)
    splitter = ContiguousBlocks(5)
    folds = list(splitter.split(problem.responses))
    scale = size.n_subjects * len(folds)
    shape = (size.n_words, size.n_subjects, size.n_channels, size.n_latencies)
    (features,) = problem.features.values()
    responses = problem.responses.reshape(shape)
    packed = pack(features, responses[:, 0])

    def theirs(n_jobs: int) -> Estimates:
        return sliding_scores(packed, *folds[-1], WORD_ALPHAS, size.n_units, n_jobs)

    def stacked(inner_splits: int | Literal["loo"]) -> xr.Dataset:
        encoder = RidgeEncoder(alphas=WORD_ALPHAS, inner_splits=inner_splits)
        return cross_val_scores(problem.features, problem.responses, encoder=encoder, splitter=splitter)

    timed = alternate(
        {
            "ours": partial(stacked, "loo"),
            "ours blocked": partial(stacked, 4),
            "one process": partial(theirs, 1),
            "one process per core": partial(theirs, -1),
        },
        sizes.rounds,
    )
    best = _fastest(timed, "one process", "one process per core")
    note = f"{size}, {len(WORD_ALPHAS)} penalties, {len(folds)} blocks; theirs is 1/{scale} timed, times {scale}"
    against = partial(_speed_row, "c", timed, scale=scale)
    yield against(f"SlidingEstimator ({best}) / ours, leave-one-out inside", best, "ours", note)
    yield against(f"SlidingEstimator ({best}) / ours, blocks inside", best, "ours blocked")
    ours_there = timed["ours"].result.isel(feature_space=0, fold=-1)
    same_targets = Estimates(*(ours_there[name].values.reshape(shape[1:])[0] for name in ("r", "alpha")))
    yield _agreement_row("c", "same penalties as scikit-learn", same_targets, timed[best].result)


# (d)


def machine_share(sizes: Sizes) -> Iterator[Row]:
    problem = fmri_problem(sizes.fmri, sizes.fmri_words)
    rates = product_rate(sizes.product)
    rate = max(rates.values())
    note = "float32 product rate " + ", ".join(f"{name} {value / 1e9:.0f} GFLOP/s" for name, value in rates.items())
    (seconds,) = (timed.seconds for timed in alternate({"ours": partial(ours, problem)}, sizes.rounds).values())
    operations = counted_operations(problem)
    shares = [operations / (one * rate) for one in seconds]
    yield Row(
        "d",
        "share of the machine's product rate, (a)",
        float(np.median(shares)),
        min(shares),
        max(shares),
        f"{operations / 1e9:.0f} GFLOP counted; {note}",
        {"rates": rates, "seconds": seconds},
    )


def counted_operations(problem: Problem) -> float:
    """The floating-point operations that the plans of `ours` count for all layers."""
    responses = Responses(problem.responses)
    folds = nested_folds(LeaveOneRunOut(), LeaveOneRunOut(), responses.n_samples, problem.groups)
    plans = [fmri_encoder().explain(Matrix(x), responses, folds)[0] for x in problem.features.values()]
    return sum(plan.operations[plan.route] for plan in plans)


# (e)


def peak_memory(sizes: Sizes) -> Iterator[Row]:
    problem = fmri_problem(sizes.fmri, sizes.fmri_words)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "problem.npz"
        np.savez(path, responses=problem.responses, groups=problem.groups, **problem.features)
        rises = {
            name: [_in_own_process(name, path) for _ in range(sizes.rounds)] for name in ("ours", "numpy", "torch")
        }
    best = min(("numpy", "torch"), key=lambda backend: np.median(rises[backend]))
    rounds = np.array(rises[best]) / np.array(rises["ours"])
    note = ", ".join(f"{name} {np.median(rise):.0f} MB" for name, rise in rises.items())
    data = sum(array.nbytes for array in (problem.responses, *problem.features.values()))
    yield Row(
        "e",
        f"peak memory, himalaya RidgeCV ({best}) / ours, (a)",
        float(np.median(rounds)),
        rounds.min(),
        rounds.max(),
        f"{note}, above data of {data / 1e6:.0f} MB",
        {"megabytes": rises},
    )


def _in_own_process(solver: str, path: Path) -> float:
    command = [sys.executable, __file__, "--peak-memory", solver, str(path)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def _peak_rise_of(solver: str, path: str) -> float:
    solve = SOLVERS[solver]
    with np.load(path) as arrays:
        features = {name: arrays[name] for name in arrays if name.startswith("layer")}
        problem = Problem(features, arrays["responses"], arrays["groups"])
    solve(_small_problem())
    return peak_rise_mb(partial(solve, problem))


# (f)


def growth(sizes: Sizes) -> Iterator[Row]:
    base = sizes.growth
    doubled = {
        "targets": replace(base, n_targets=2 * base.n_targets),
        "samples": replace(base, n_volumes=2 * base.n_volumes),
        "features": replace(base, n_units=2 * base.n_units),
        "layers": replace(base, n_layers=2 * base.n_layers),
        "folds, outer and inner": replace(base, n_runs=2 * base.n_runs),
    }
    once = fmri_problem(base, sizes.fmri_words)
    for what, size in doubled.items():
        twice = fmri_problem(size, sizes.fmri_words)
        timed = alternate({"once": partial(ours, once), "twice": partial(ours, twice)}, sizes.rounds)
        exponents = [math.log2(ratio) for ratio in ratios(timed["twice"], timed["once"])]
        exponent = math.log2(timed["twice"].median_s / timed["once"].median_s)
        times = f"{timed['once'].median_s:.2f} s to {timed['twice'].median_s:.2f} s"
        note = f"{times}; from {base}" if what == "targets" else times
        yield Row(
            "f",
            f"exponent of doubling {what}",
            exponent,
            min(exponents),
            max(exponents),
            note,
            {"seconds": {name: one.seconds for name, one in timed.items()}},
        )


LINES: dict[str, Callable[[Sizes], Iterator[Row]]] = {
    "a": fmri,
    "b": partial(fmri, line="b", n_runs=10, n_folds=2),
    "c": word_locked,
    "d": machine_share,
    "e": peak_memory,
    "f": growth,
}

if __name__ == "__main__":
    main()
