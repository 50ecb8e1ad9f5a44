"""What disks do to files: each changes the bytes that are given, at random."""

from __future__ import annotations

import random


def flip_a_bit(content: bytearray, rng: random.Random) -> None:
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def cut(content: bytearray, rng: random.Random) -> None:
    del content[rng.randrange(len(content)) :]


def zero_a_block(content: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(content))
    stop = min(len(content), start + rng.choice([1, 16, 512, 4096]))
    content[start:stop] = bytes(stop - start)


def zero_the_tail(content: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(content))
    content[start:] = bytes(len(content) - start)


def append(content: bytearray, rng: random.Random) -> None:
    content += rng.randbytes(rng.choice([1, 7, 4096]))


def repeat_a_block(content: bytearray, rng: random.Random) -> None:
    start, stop = sorted(rng.randrange(len(content)) for _ in range(2))
    target = rng.randrange(len(content) - (stop - start))
    content[target : target + stop - start] = content[start:stop]


FAULTS = [flip_a_bit, cut, zero_a_block, zero_the_tail, append, repeat_a_block]
