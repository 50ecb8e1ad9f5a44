"""Time to read and to write a stored story: 13 layers x 2,000 words x 768 float32, 80 MB.

    python tests/benchmarks/store.py [--layers 13] [--words 2000] [--dimensions 768] [--rounds 9] [--folder DIR]

Reading is `Store.get`, which verifies every byte, and then the first touch of one layer, or of all, through the memory
map; beside it np.load of the same file into memory, which verifies nothing. The file is in the system's page cache, as
it is for what was just written; from a cold disk, both take as long as the disk. The aim is 50 ms. Writing ends when
all is on the disk (fsync); beside it np.save with an fsync. What the disk does decides it, and the spread is large.
"""

from __future__ import annotations

import argparse
import tempfile
from itertools import count
from pathlib import Path

import numpy as np
from _measuring import Timed, alternate

from brainalign.files import digest_of, fsync_path
from brainalign.store import Store
from brainalign.types import Floats

AIM_S = 0.050
BLOCK = 250


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--layers", type=int, default=13)
    options.add_argument("--words", type=int, default=2000)
    options.add_argument("--dimensions", type=int, default=768)
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--folder", type=Path, default=None, help="where the entries are written for the while")
    chosen = options.parse_args()
    shape = (chosen.layers, chosen.words, chosen.dimensions)
    values = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    print(f"{shape[0]} layers x {shape[1]} words x {shape[2]} float32, {values.nbytes / 1e6:.0f} MB; medians of rounds")
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        _show(_write(Path(folder), values, chosen.rounds))
        read = _read(Path(folder), values, chosen.rounds)
        _show(read)
    kept = read["get, touch one layer"].median_s <= AIM_S
    print(f"Verified and memory-mapped in at most {1000 * AIM_S:.0f} ms: {'yes' if kept else 'no'}.")


def _write(folder: Path, values: Floats, rounds: int) -> dict[str, Timed]:
    store, keys = Store(folder / "written"), (digest_of({"number": number}) for number in count())

    def stream() -> None:
        with store.writer(next(keys)) as writer:
            filled = writer.allocate("values", values.shape, values.dtype)
            for start in range(0, values.shape[1], BLOCK):
                filled[:, start : start + BLOCK] = values[:, start : start + BLOCK]
            writer.commit({}, {})

    def save() -> None:
        np.save(folder / "plain.npy", values)
        fsync_path(folder / "plain.npy")

    ways = {"put": lambda: store.put(next(keys), {"values": values}, {}), "writer, in blocks": stream}
    return alternate({**ways, "np.save and fsync": save}, rounds)


def _read(folder: Path, values: Floats, rounds: int) -> dict[str, Timed]:
    store, key = Store(folder / "read"), digest_of({"what": "a story"})
    store.put(key, {"values": values}, {})
    [path] = folder.rglob("read/*/*/*/values.npy")

    def touch(layers: slice) -> float:
        entry = store.get(key)
        assert entry is not None
        # One number of each page, so that the mapping is measured and not the adding up.
        return float(entry.arrays["values"][layers].reshape(-1)[:: 4096 // values.itemsize].sum())

    ways = {
        "get": lambda: store.get(key),
        "get, touch one layer": lambda: touch(slice(4, 5)),
        "get, touch all layers": lambda: touch(slice(None)),
        "np.load of the same file": lambda: np.load(path),
    }
    return alternate(ways, rounds)


def _show(timed: dict[str, Timed]) -> None:
    for name, times in timed.items():
        low, high = min(times.seconds), max(times.seconds)
        print(f"{name:<26} {1000 * times.median_s:8.1f} ms  ({1000 * low:.1f} to {1000 * high:.1f})")


if __name__ == "__main__":
    main()
