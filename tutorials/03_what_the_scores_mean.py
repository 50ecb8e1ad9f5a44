# %% [markdown]
# # What the scores mean
#
# A layer predicts with r = .18. Is that above chance, more than simpler things predict, near the best possible? Is the
# best layer known, and does looking ahead add anything? The data here are simulated, so that the answers are known:
# each region follows one layer, and one region follows none.
#
# The same as a recipe: sections `ceiling:`, `tests:`, `partition:`, `forecast:` and so on.

# %%
import brainalign as ba
from brainalign.features import ToyModel
from brainalign.questions import Partition, Tests

options = {"n_subjects": 5, "n_runs": 4, "n_words": 300, "n_layers": 3, "dimension": 12}
brains = ba.load_dataset("simulated", options=options)
model = ToyModel(n_layers=3, dimension=12)

# %% [markdown]
# Every question is a stage with settings of its own. They are answered in this order, and what is found about a subject
# is kept: asking again reads it.

# %%
questions = [Tests(permutations=200), Partition(["ToyModel @ 2", "baseline"], n_iter=20)]
scores = ba.score_layers(brains, model, questions=questions)

# %% [markdown]
# The layers' means over subjects, with two kinds of p. Wilcoxon over subjects takes them for independent; the other
# gives all of them the same surrogate of the stimulus's course in each draw, since they share what is chance about it.

# %%
scores[["group_mean_gain", "group_p_wilcoxon_gain", "group_p_stimulus_gain"]].to_dataframe()

# %% [markdown]
# Region by region: q values of the last layer in the first subject (Benjamini-Hochberg over regions). The region that
# follows no layer has none below .05.

# %%
first = scores.isel(layer=-1, target=scores["subject"].values == "01")
first[["q_gain", "planted_layer"]].set_coords("planted_layer").set_index(target="target_name")["q_gain"].to_dataframe()

# %% [markdown]
# What layer 2 explains that the simple properties of words do not, and what they explain alike.

# %%
scores[["partition_low", "partition_high"]].to_dataframe()

# %% [markdown]
# Without a linear fit: unbiased CKA, whose p is from circular shifts that all subjects share.

# %%
ba.compare(brains, model, measure="cka", settings=ba.questions.Compare(permutations=100)).value.to_pandas()

# %%
ba.report.layer_profile(scores)
