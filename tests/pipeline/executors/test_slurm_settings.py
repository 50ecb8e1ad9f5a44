"""Settings of jobs of Slurm: what cannot be is told when the recipe is read, not by a job hours later."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from brainalign.config import executor_of, executor_settings, parse_recipe
from brainalign.errors import RecipeError
from brainalign.pipeline.executors import Slurm

RECIPE = {"title": "A study", "dataset": {"name": "simulated"}, "features": [{"kind": "toy_model"}]}


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"time_min": 0}, "time_min must be above zero, not 0"),
        ({"memory_gb": -1}, "memory_gb must be above zero"),
        ({"gpus": -1}, "gpus cannot be negative"),
        ({"retries": -1}, "retries cannot be negative"),
        ({"partition": "a\n#SBATCH --array=0-9"}, "several lines"),
        ({"setup": ["module load cuda\nrm -r x"]}, "several lines"),
        ({"extra": {"array": "0-9"}}, "extra: 'array' is not to be given here"),
        ({"extra": {"cpus_per_task": 3}}, "extra: 'cpus_per_task' is not to be given here"),
        ({"extra": {"--mail-type": "END"}}, "without dashes before it"),
        ({"stages": {"fits": {}}}, "there is no stage 'fits'; there are extract, fit, answer, finish"),
        ({"stages": {"fit": {"account": "lab"}}}, "stages.fit: 'account' is not of a stage"),
        ({"stages": {"fit": {"cpus": "many"}}}, r"stages\.fit\.cpus.*many"),
        ({"stages": {"fit": {"cpus": 0}}}, "cpus must be above zero"),
        ({"partitoin": "gpu"}, "unknown key. Did you mean 'partition'"),
    ],
)
def test_a_setting_that_cannot_be_is_told(settings: Mapping[str, Any], complaint: str) -> None:
    with pytest.raises(RecipeError, match=complaint) as told:
        parse_recipe({**RECIPE, "executor": {"kind": "slurm", **settings}})
    assert len(str(told.value).splitlines()) <= 3


def test_settings_come_back_from_a_plan_file() -> None:
    slurm = Slurm(
        partition="cpu",
        time_min=90,
        setup=("module load cuda",),
        extra={"mail_type": "END", "exclusive": True},
        stages={"extract": {"partition": "gpu", "gpus": 2, "memory_gb": 32}},
    )
    again = executor_of(json.loads(json.dumps(executor_settings(slurm))))
    assert again == slurm
    assert (again.of_stage("extract").gpus, again.of_stage("fit").gpus) == (2, 0)
    assert again.of_stage("extract").time_min == 90
