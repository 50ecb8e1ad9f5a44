"""What the attention and the feed-forward network of each block of a transformer give: the outputs of their last
products, before any norm, scale or residual.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from brainalign.errors import RecipeError

if TYPE_CHECKING:
    import torch

__all__ = ["BlockOutput", "blocks_of", "recorded"]

BlockOutput = Literal["attention", "mlp"]

# Where families keep the two in a block, the first that is there. Where a module also adds what it was given (BERT's,
# Bloom's, MPT's ...), its last product is named instead; T5's layers are numbered.
PLACES: dict[BlockOutput, tuple[str, ...]] = {
    "attention": (
        "attention.output.dense",
        "attention.attn.o",
        "layer.0.SelfAttention",
        "self_attention.dense",
        "attn.out_proj",
        "self_attn",
        "attn",
        "self_attention",
        "attention",
    ),
    "mlp": (
        "output.dense",
        "layer.2.DenseReluDense",
        "layer.1.DenseReluDense",
        "mlp.dense_4h_to_h",
        "ffn.down_proj",
        "mlp",
        "ffn",
        "feed_forward",
        "fc2",
    ),
}


def blocks_of(network: torch.nn.Module, n_blocks: int) -> Sequence[torch.nn.Module]:
    """The blocks of a network, from the input up; empty if they cannot be told.

    Examples
    --------
    >>> import torch
    >>> network = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([torch.nn.Identity() for _ in range(3)])})
    >>> len(blocks_of(network, 3))
    3
    """
    import torch

    lists = (module for module in network.modules() if isinstance(module, torch.nn.ModuleList))
    return next((list(modules) for modules in lists if len(modules) == n_blocks), [])


@contextmanager
def recorded(blocks: Sequence[torch.nn.Module], which: BlockOutput, model: str) -> Iterator[dict[int, torch.Tensor]]:
    """Record what one part of every block gives while the block of this `with` runs the network.

    Yields
    ------
    dict of int -> tensor
        Number of the block -> output of the last pass, (window, token, dimension) or (window x token, dimension).

    Raises
    ------
    RecipeError
        If the blocks of this family cannot be told, or have no such part.
    """
    if not blocks:
        raise RecipeError(
            f"Model '{model}': its blocks cannot be told from its modules; leave {which} out of `outputs`."
        )
    outputs: dict[int, torch.Tensor] = {}

    def keep(number: int):
        def hook(module: torch.nn.Module, given: object, output: object) -> None:
            # Attention gives its weights and its cache as well. A copy, since some families go on adding in place.
            given_out: Any = output[0] if isinstance(output, (tuple, list)) else output
            outputs[number] = given_out.clone()

        return hook

    hooks = [_part(block, which, model).register_forward_hook(keep(number)) for number, block in enumerate(blocks)]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def _part(block: torch.nn.Module, which: BlockOutput, model: str) -> torch.nn.Module:
    for place in PLACES[which]:
        try:
            return block.get_submodule(place)
        except AttributeError:
            continue
    raise RecipeError(
        f"Model '{model}': its blocks ({type(block).__name__}) have no {which} output of their own; "
        "leave it out of `outputs`."
    )
