"""How fast surrogates are refitted: `python tests/benchmarks/permutations.py [--quick] [--rounds N] [--json FILE]`.

Prints one row per measurement, as `ridge.py` does, on the same features: fMRI, 1,000 volumes, 5 runs, 800 columns,
10,000 targets, one layer. Ours is the time of one surrogate (of `--surrogates` of them, what is made once included, as
`brainalign.analysis.inference.permutation.score_null` does it). Nothing else should run on the machine.

(a) Against fitting the surrogate anew with himalaya's RidgeCV, the faster of its backends: what a script does that puts
    the fit into a loop; penalties are chosen again each time.
(b) Against scikit-learn's Ridge at the penalties that the responses had chosen, fold by fold. It solves for each target
    anew where penalties differ: 200 targets are timed, and multiplied.
(c) What 1,000 surrogates of 13 such layers take, in minutes.

Exits with 1 where the refitted scores are not scikit-learn's.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
from _measuring import Row, Timed, alternate, describe_machine, ratios
from _opponents import himalaya_scores
from _problems import FmriSize, Problem, fmri_problem
from ridge import FMRI_ALPHAS
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from brainalign.analysis.inference.permutation import Penalties, score_null
from brainalign.analysis.inference.surrogates import CircularShift
from brainalign.encoding import LeaveOneRunOut, RidgeEncoder, cross_val_scores, pearson
from brainalign.types import Floats

FULL = FmriSize(n_volumes=1000, n_units=200, n_targets=10_000, n_layers=1)
QUICK = FmriSize(n_volumes=300, n_units=20, n_targets=300, n_layers=1)
TOLERANCE = 1e-4
N_TARGETS_OF_SCIKIT_LEARN = 200
N_LAYERS, N_SURROGATES = 13, 1000

Folds = list[tuple[np.ndarray, np.ndarray]]


def main() -> None:
    options = _options()
    size = QUICK if options.quick else FULL
    problem = fmri_problem(size, 400 if options.quick else None)
    machine = describe_machine()
    print(*(f"{name}: {value}" for name, value in machine.items()), sep="\n", end="\n\n")
    rows = list(_rows(problem, size, options.surrogates, options.rounds))
    print(*rows, sep="\n")
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "rows": [asdict(row) for row in rows]}, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small problem, whose figures mean nothing")
    parser.add_argument("--rounds", type=int, default=3, help="how often each side is timed, in alternation")
    parser.add_argument("--surrogates", type=int, default=50, help="how many ours fits in a round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows and all times to this file as well")
    return parser.parse_args()


def _rows(problem: Problem, size: FmriSize, n_surrogates: int, rounds: int) -> list[Row]:
    (features,) = problem.features.values()
    encoder = RidgeEncoder(alphas=FMRI_ALPHAS, inner_splits=LeaveOneRunOut())
    chosen = cross_val_scores(features, problem.responses, problem.groups, encoder, splitter=LeaveOneRunOut())
    alpha = chosen.alpha.values[0]
    folds = list(LeaveOneRunOut().split(features, groups=problem.groups))
    drawn = CircularShift(problem.groups.astype(str), n_surrogates, min_shift=10)
    changed = replace(problem, responses=drawn.apply(0, problem.responses))
    some = slice(0, N_TARGETS_OF_SCIKIT_LEARN)
    timed = alternate(
        {
            "ours": partial(_ours, features, problem.responses, folds, alpha, drawn),
            "numpy": partial(himalaya_scores, changed, FMRI_ALPHAS, "numpy"),
            "torch": partial(himalaya_scores, changed, FMRI_ALPHAS, "torch"),
            "scikit-learn": partial(_scikit_learn, features, changed.responses[:, some], folds, alpha[:, some]),
        },
        rounds,
    )
    apart = float(np.abs(timed["ours"].result[0, some] - timed["scikit-learn"].result).max())
    if apart > TOLERANCE:
        sys.exit(f"Ours differ from scikit-learn's by {apart:.1e}.")
    fastest = min(("numpy", "torch"), key=lambda name: timed[name].median_s)
    each = timed["ours"].median_s / n_surrogates
    minutes = each * N_LAYERS * N_SURROGATES / 60
    return [
        _row("a", f"himalaya RidgeCV ({fastest}), anew / ours", timed[fastest], timed["ours"], n_surrogates, str(size)),
        _row(
            "b",
            "scikit-learn Ridge, fixed penalties / ours",
            timed["scikit-learn"],
            timed["ours"],
            n_surrogates,
            f"the same scores within {apart:.1e}",
            scale=problem.responses.shape[1] / min(problem.responses.shape[1], N_TARGETS_OF_SCIKIT_LEARN),
        ),
        Row("c", f"minutes of {N_SURROGATES} surrogates x {N_LAYERS} layers", minutes, minutes, minutes),
    ]


def _row(line: str, what: str, theirs: Timed, ours: Timed, n_surrogates: int, note: str, scale: float = 1.0) -> Row:
    rounds = ratios(theirs, ours, n_surrogates * scale)
    times = f"{scale * theirs.median_s:.2f} s / {ours.median_s / n_surrogates:.3f} s"
    seconds = {"theirs": theirs.seconds, "ours": ours.seconds, "surrogates": n_surrogates}
    return Row(line, what, float(np.median(rounds)), min(rounds), max(rounds), f"{times}; {note}", {"seconds": seconds})


def _ours(features: Floats, responses: Floats, folds: Folds, alpha: Floats, drawn: CircularShift) -> Floats:
    return score_null(features, responses, folds, Penalties(alpha), drawn.apply, drawn.n_permutations, drawn.order)[1]


def _scikit_learn(features: Floats, responses: Floats, folds: Folds, alpha: Floats) -> Floats:
    """Mean r over folds at the same penalties, each fold fitted once for all targets."""
    scores = []
    for (train, test), of_fold in zip(folds, alpha, strict=True):
        scaler = StandardScaler().fit(features[train])
        model = Ridge(alpha=of_fold).fit(scaler.transform(features[train]), responses[train])
        scores.append(pearson(model.predict(scaler.transform(features[test])), responses[test]))
    return np.mean(scores, axis=0)


if __name__ == "__main__":
    main()
