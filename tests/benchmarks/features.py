"""How fast features are extracted: beside one pass per word, beside the bare forward pass, by window and batch.

    python tests/benchmarks/features.py [--only a,b,c,e] [--rounds 3] [--words 400]

The model has GPT-2's shape (12 blocks x 768) and random weights, the demo's tokeniser, and the words of the Alice data
set. (a) One pass per word is what toolkits do that call the model for each word with its whole context: batches of 32
contexts, padded on the left. Every fourth batch is timed, and the sum taken times the share of padded tokens. (b) The
bare forward pass runs over the same windows and throws the states away. (e) Memory that is not a file's, above what
the process has with the model loaded, while features go to the store.

Reading what is stored is measured by tests/benchmarks/store.py.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from _measuring import Row, alternate, describe_machine, ratios
from _problems import MODEL

import brainalign as ba
from brainalign.features import loading, pretrained
from brainalign.features.model_files import locate
from brainalign.features.passes import batches, tokenised, tokens_per_pass
from brainalign.pipeline.extraction import extract_features
from brainalign.store import Store

BATCH = 32
TIMED_EVERY = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="a,b,c,e", metavar="a,b,...", help="these lines only")
    parser.add_argument("--rounds", type=int, default=3, help="how often each side is timed, in alternation")
    parser.add_argument("--words", type=int, default=400, help="of lines (a) and (b)")
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print(_peak_rise_mb(options.peak[0], int(options.peak[1])))
        return
    print(*(f"{name}: {value}" for name, value in describe_machine().items()), sep="\n", end="\n\n")
    with tempfile.TemporaryDirectory() as folder:
        model = _save_model(Path(folder) / "gpt2-shape")
        for line in options.only.split(","):
            for row in LINES[line](model, options.words, options.rounds):
                print(row, flush=True)


def _save_model(folder: Path) -> str:
    import torch
    from transformers import GPT2Config, GPT2Model, PreTrainedTokenizerFast

    files = locate(MODEL)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(files.folder, gguf_file=files.gguf, local_files_only=True)
    torch.manual_seed(0)
    GPT2Model(GPT2Config(vocab_size=len(tokenizer))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def _story(n_words: int) -> ba.Stimulus:
    """The words of Alice, again and again if more are asked for."""
    stimulus = next(iter(ba.load_dataset("alice").stimuli.values()))
    words = stimulus.words.iloc[np.arange(n_words) % len(stimulus.words)].reset_index(drop=True)
    return ba.Stimulus("alice", words.assign(onset=0.3 * np.arange(n_words), duration=0.2))


def _load(model: str) -> pretrained.Pretrained:
    files = locate(model)
    return loading.load(files, None, "cpu")


# (a)


def per_word(model: str, n_words: int, rounds: int) -> Iterator[Row]:
    stimulus, loaded = _story(n_words), _load(model)
    text = tokenised(loaded, stimulus)
    contexts = [[*loaded.before, *text.ids[: int(tokens[-1]) + 1]] for tokens in text.tokens_of_words]
    groups = [contexts[i : i + BATCH] for i in range(0, len(contexts), BATCH)]
    timed_groups = groups[TIMED_EVERY // 2 :: TIMED_EVERY]
    scale = _padded_tokens(groups) / _padded_tokens(timed_groups)
    lm = ba.LanguageModel(model, context="full")
    lm.extract(stimulus)
    timed = alternate(
        {"ours": lambda: lm.extract(stimulus), "one pass per word": partial(_passes_per_word, loaded, timed_groups)},
        rounds,
    )
    rounds_of = ratios(timed["one pass per word"], timed["ours"], scale)
    apart = _greatest_difference(timed["ours"].result, text, timed["one pass per word"].result, loaded)
    theirs_s, ours_s = scale * timed["one pass per word"].median_s, timed["ours"].median_s
    yield Row(
        "a",
        f"one pass per word / ours, {n_words} words, full context",
        float(np.median(rounds_of)),
        min(rounds_of),
        max(rounds_of),
        f"{theirs_s:.0f} s / {ours_s:.2f} s ({theirs_s / n_words:.3f} / {ours_s / n_words:.4f} s a word); "
        f"states within {apart:.1e}",
    )


def _padded_tokens(groups: Sequence[Sequence[Sequence[int]]]) -> int:
    return sum(len(group) * max(map(len, group)) for group in groups)


def _passes_per_word(loaded: pretrained.Pretrained, groups: Sequence[Sequence[Sequence[int]]]) -> dict[int, np.ndarray]:
    """Each context's last token's states, (layer, dimension), by the length of the context."""
    import torch

    states = {}
    for group in groups:
        longest = max(map(len, group))
        ids = torch.tensor([[0] * (longest - len(context)) + list(context) for context in group])
        mask = torch.tensor([[0] * (longest - len(context)) + [1] * len(context) for context in group])
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        with torch.inference_mode():
            output = loaded.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                output_hidden_states=True,
                use_cache=False,
            )
        last = torch.stack([state[:, -1] for state in output.hidden_states], dim=1).numpy()
        states |= {len(context): row for context, row in zip(group, last, strict=True)}
    return states


def _greatest_difference(
    features: ba.Features, text: object, states: dict[int, np.ndarray], loaded: pretrained.Pretrained
) -> float:
    """Over the words of one token, whose vector is their last token's."""
    n_before = len(loaded.before)
    of_word = {int(tokens[-1]) + 1 + n_before: i for i, tokens in enumerate(text.tokens_of_words) if len(tokens) == 1}  # type: ignore[attr-defined]
    return max(
        float(np.abs(features.values[:, of_word[length]] - state).max())
        for length, state in states.items()
        if length in of_word
    )


# (b)


def bare(model: str, n_words: int, rounds: int) -> Iterator[Row]:
    for n, context in ((n_words, "full"), (5 * n_words, 128)):
        stimulus, loaded = _story(n), _load(model)
        lm = ba.LanguageModel(model, context=context)  # type: ignore[arg-type]
        text = tokenised(loaded, stimulus)
        windows = text.windows(lm._reading(loaded))
        n_tokens = tokens_per_pass(loaded, [768] * 13, None)
        inputs = [[[*loaded.before, *text.of(window)] for window in batch] for batch in batches(windows, n_tokens)]
        timed = alternate({"ours": partial(lm.extract, stimulus), "bare": partial(_forward, loaded, inputs)}, rounds)
        over = ratios(timed["ours"], timed["bare"])
        note = f"{timed['ours'].median_s:.2f} s / {timed['bare'].median_s:.2f} s, {sum(map(len, windows))} tokens read"
        what = f"ours / bare forward pass, {n} words, context {context}"
        yield Row("b", what, float(np.median(over)), min(over), max(over), note)


def _forward(loaded: pretrained.Pretrained, inputs: Sequence[Sequence[Sequence[int]]]) -> None:
    import torch

    with torch.inference_mode():
        for ids in inputs:
            loaded.model(input_ids=torch.tensor(ids), output_hidden_states=True, use_cache=False)


# (c)


def speeds(model: str, n_words: int, rounds: int) -> Iterator[Row]:
    loaded = _load(model)
    ids = tokenised(loaded, _story(2000)).ids
    for length in (32, 128, 512, 1000):
        for n_windows in sorted({1, max(1, 1024 // length), max(1, 4096 // length)}):
            windows = [ids[i * 7 : i * 7 + length] for i in range(n_windows)]
            (timed,) = alternate({"states": partial(loaded.states, windows)}, rounds).values()
            rates = [n_windows * length / seconds for seconds in timed.seconds]
            what = f"tokens per second, {n_windows} windows of {length}"
            yield Row("c", what, float(np.median(rates)), min(rates), max(rates))


# (e)


def memory(model: str, n_words: int, rounds: int) -> Iterator[Row]:
    for n in (2000, 4000, 8000, 16000):
        command = [sys.executable, __file__, "--peak", model, str(n)]
        rise = float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        yield Row(
            "e", f"MB above the loaded model, {n} words", rise, rise, rise, f"{13 * n * 768 * 4 / 1e6:.0f} MB stored"
        )


def _peak_rise_mb(model: str, n_words: int) -> float:
    _load(model)
    lm = ba.LanguageModel(model, context=128, memory_limit=2e8)
    lm.extract(_story(300))
    with tempfile.TemporaryDirectory() as folder:
        return _anonymous_rise_mb(lambda: extract_features(lm, {"s": _story(n_words)}, Store(Path(folder))))


def _anonymous_rise_mb(function: Callable[[], object]) -> float:
    """How far memory that is not a file's rises while a function runs (Linux), looked at every 5 ms."""
    before, peak, done = _anonymous_mb(), 0.0, threading.Event()

    def look() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, _anonymous_mb())
            time.sleep(0.005)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        function()
    finally:
        done.set()
        watcher.join()
    return peak - before


def _anonymous_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1e3


LINES: dict[str, Callable[[str, int, int], Iterator[Row]]] = {"a": per_word, "b": bare, "c": speeds, "e": memory}

if __name__ == "__main__":
    main()
