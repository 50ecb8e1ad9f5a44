# %% [markdown]
# # From a laptop to a cluster
#
# A recipe that runs on a laptop runs on a cluster as it is. This tutorial runs a small study here, stops it, goes on,
# and says what changes on a cluster: nothing but the section `executor`. The responses are made by the computer, so
# that nothing is downloaded.

# %%
from pathlib import Path

import brainalign as ba
from brainalign import pipeline
from brainalign.config import load_recipe

Path("study.yaml").write_text("""
title: A small study
dataset: {name: simulated, n_subjects: 4, n_runs: 3, n_words: 300}
features:
  - {kind: toy_model, n_layers: 4, name: trained}
  - {kind: toy_model, n_layers: 4, seed: 1, name: another}
baseline: [word_rate, word_length]
tests: {permutations: 20}
""")
recipe = load_recipe("study.yaml")

# %% [markdown]
# ## What there is to do
#
# A study is cut into units: features of each stimulus, fits of some subjects to a feature space, answers about a
# subject; tests, which take longest, about a subject and a feature space. What a unit gives lies in brainalign's cache
# under a digest of all that it depends on, and a unit is done when it is there. In a shell, with hours, memory and
# disk: `brainalign run study.yaml --out study --dry-run`.

# %%
planned = pipeline.plan_of(recipe, "study", n_jobs=2)
{stage: len(planned.plan.of(stage)) for stage in ("extract", "fit", "answer")}

# %% [markdown]
# ## Stopped, and gone on with
#
# Here the run is stopped at the first fit, as Ctrl-C would. `brainalign status study` says how far it is; the same
# command, or `brainalign retry study`, goes on from what is finished.


# %%
def stop_at_fits(what, done, total, note=""):
    if what == "fit":
        raise KeyboardInterrupt


try:
    pipeline.run(recipe, "study", progress=stop_at_fits)
except KeyboardInterrupt:
    print("stopped")
[(stage.stage, stage.done, stage.units) for stage in pipeline.status("study").stages]

# %%
outcome = pipeline.run(recipe, "study")
pipeline.status("study").state

# %% [markdown]
# The scores are the same bit for bit as those of a run that was never stopped, and as those of any number of processes
# of as many threads each.

# %%
ba.report.layer_profile(outcome.scores)

# %% [markdown]
# Each unit has a log in `study/work/logs`, with times; `study/run.json` says which machines and versions made it.
#
# ## On a cluster with Slurm
#
# On the login node, once: an environment that the compute nodes see too, the cache on a disk that all share, and the
# site's file, which says for all recipes how jobs are asked for.
#
# ```sh
# python -m venv ~/brainalign && . ~/brainalign/bin/activate
# pip install 'brainalign[slurm]'
# export BRAINALIGN_CACHE=/scratch/$USER/brainalign          # into ~/.bashrc
# mkdir -p ~/.config/brainalign && cat > ~/.config/brainalign/site.yaml <<END
# slurm:
#   account: mylab
#   partition: cpu
#   time_min: 240
#   setup: ["module load python"]
#   stages: {extract: {partition: gpu, gpus: 1}}
# END
# ```
#
# Then, for each study:
#
# ```sh
# brainalign fetch narratives                                # login nodes have a network, compute nodes often none
# brainalign run study.yaml --out study --dry-run            # how much is it?
# brainalign run study.yaml --out study --executor slurm     # submits and returns; log out, if you like
# brainalign status study                                    # done, running, failed, waiting, time left
# ```
#
# Units go to job arrays, so many of them to a job that it lasts about half an hour; each stage waits for the one
# before, and the last job puts `scores.nc` and the report together. What was preempted, hit its time limit or lost its
# node goes on from what is finished; what ran out of memory or time is asked for again with twice as much, up to
# `retries` times. What only you can mend (a damaged file, a subject without words) is told by `status` with the last
# line of its log; mend it, and `brainalign retry study`. `brainalign cancel study` takes the jobs out of the queue.
#
# Where jobs may not submit jobs, `wait: true` lets the command stay and do it (in `tmux`, say). PBS, LSF and SGE go by
# Dask:
#
# ```yaml
# executor:
#   kind: dask
#   jobqueue: {cluster: PBSCluster, cores: 4, memory: 16GB, walltime: "04:00:00"}
#   n_workers: 20
# ```
#
# ## What a large study costs
#
# 345 subjects who heard two or three of 27 stories, as in Narratives; 40 models of 33 layers x 2,048; 400 parcels;
# tests with 1,000 surrogates of every layer. By the planner (`python tests/benchmarks/paper_study.py`), at the 16
# GFLOP/s that it expects of a core like this one for such work:
#
# | stage | units | 10^15 operations | core hours | hours on 100 cores | memory of a unit | disk |
# |---|---|---|---|---|---|---|
# | extract | 1,080 | 34 | 580 | 5.8 | 9.9 GB | 958 GB |
# | fit | 13,800 | 420 | 7,200 | 72 | 1.3 GB | 29 GB |
# | answer (tests) | 13,800 | 5,500 | 94,000 | 940 | 1.3 GB | 12 GB |
#
# So the scores take days. 1,000 surrogates of each of 1,320 layers take six weeks, in units of about seven hours
# (`time_min` must allow that): take 100 surrogates first, or the layers that matter. That is with
# `group_targets: false` in `tests`; to test the group's parcels one by one too, all null scores are kept, 1.5 TB. A
# model that is added later leaves all this as it is. Of a small study done beside it, half of the units were foretold
# from the other half to take 1.07 times what they took, and .82 times from this machine's products alone.
