"""Whether what is read of a word depends on the words after it: found by changing them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from brainalign.features.passes import TokenisedText
from brainalign.types import Floats

__all__ = ["leaking_layer"]


def leaking_layer(
    read: Callable[[TokenisedText], Floats], text: TokenisedText, n_vocabulary: int, tolerance: float
) -> int | None:
    """Change the second half of a text, and find the first layer in which words of the first half change with it.

    Parameters
    ----------
    read : callable
        Gives the vectors of a text's words, shape (layer, word, dimension).
    text : TokenisedText
        Its words in the order in which they are read. Those whose last token belongs to the second half too, as
        happens in languages written without blanks, are not looked at.
    n_vocabulary : int
        How many tokens there are to choose others from.
    tolerance : float
        A share of each layer's root mean square.

    Returns
    -------
    int or None
        None where no word knows of later ones.

    Examples
    --------
    >>> text = TokenisedText([3, 4, 5, 6], [np.array([i]) for i in range(4)], np.arange(4), None)
    >>> leaking_layer(lambda text: np.cumsum(text.ids)[None, :, None], text, 10, 1e-4) is None
    True
    >>> leaking_layer(lambda text: np.full((1, 4, 1), np.sum(text.ids)), text, 10, 1e-4)
    0
    """
    cut = int(text.tokens_of_words[len(text.tokens_of_words) // 2][0])
    before = [word for word, tokens in enumerate(text.tokens_of_words) if tokens[-1] < cut]
    if not before:
        return None
    as_it_is, changed = (read(version)[:, before] for version in (text, text.changed_from(cut, n_vocabulary)))
    size = np.sqrt(np.square(as_it_is, dtype=np.float64).mean(axis=(1, 2), keepdims=True))
    leaks = (np.abs(changed - as_it_is) > tolerance * size).any(axis=(1, 2))
    return int(leaks.argmax()) if leaks.any() else None
