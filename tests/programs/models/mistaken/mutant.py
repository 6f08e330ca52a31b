"""A mutant: a right pre-norm decoder with one mistake as researchers make it, in all layers or in one of three.

The mistaken line ends in the comment `# mistake`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from ..program import Line, Program, marked_lines

DEPTH, ONE = 3, 1

MISTAKES = {
    "norm_on_path": "N x + F(N x): the norm's output has taken the place of the stream, in both sublayers",
    "no_add": "F(N x): the feed-forward's output is not added",
    "norm_after_branch": "x + N(F x): the norm is on the branch's output, not on its input, in both sublayers",
    "double_norm": "x + F(N(N x)): attention has a norm of its own, behind that of the block",
    "sum_from_norm": "N x + F(N x): the feed-forward's output is added to its own input",
    "shared_norm": "x + F(N x): both sublayers have the norm of the first",
    "heads_for_tokens": "heads stand where attention expects tokens: a token sees itself alone",
    "unscaled_scores": "scores are not divided by the root of the head's width",
    "no_final_norm": "the readout reads the stream without a norm",
    "no_causal_mask": "every token sees those after it",
    "added_twice": "2 x + F(N x): attention adds its input to its output, and so does the block",
    "eps_outside": "norms divide by √v + ε, and not by √(v + ε)",
    "post_for_pre": "N(x + F x): the norm is on the sum, in both sublayers",
}


@dataclass(frozen=True)
class Mutant:
    """A program that was meant to be pre-norm, its mistake by name, and the one layer that has it, if not all.

    A layer is a block of attention and feed-forward, counted from 0. The program's `wiring` is the one that was meant.
    """

    program: Program
    mistake: str
    only_layer: int | None

    @property
    def lines(self) -> list[Line]:
        """The lines that are mistaken."""
        return marked_lines(*self.program.source, mark="mistake")


def in_depth(right, wrong, only_layer: int | None) -> tuple:
    """Returns the blocks of a stack from the bottom up: wrong in all layers, or in one."""
    return tuple(wrong if only_layer in (None, depth) else right for depth in range(DEPTH))


def code_of(blocks: tuple) -> tuple:
    """Returns the functions or classes that these blocks are of, each once."""
    return tuple(dict.fromkeys(block.func if isinstance(block, partial) else block for block in blocks))


class Composed(NamedTuple):
    """A decoder as it is put together: its blocks, the function or class around them, and what is known of the program."""

    blocks: tuple
    decoder: Any
    known: dict


def composed(
    mistake: str, only_layer: int | None, right, wrong: Mapping[str, tuple], decoders: tuple, also=()
) -> Composed:
    """Returns the decoder with a mistake, or with none.

    `right` is the block without one; `wrong` has for each mistake its block, and the code inside with the mistaken line;
    `decoders` are that with a final norm and that without; `also` is more code that makes the stream.
    """
    block, *within = wrong.get(mistake, (right,))
    blocks = in_depth(right, block, only_layer)
    decoder = decoders[mistake == "no_final_norm"]
    source = tuple(dict.fromkeys((*also, decoder, *code_of(blocks), *within)))
    known = {"wiring": "pre", "layers": 2 * DEPTH, "source": source, "causal": mistake != "no_causal_mask"}
    return Composed(blocks, decoder, known)


def mutants_of(framework: str, made: Callable[[str, str, int | None], Program]) -> dict[str, Callable[[], Mutant]]:
    """Returns functions that make each mutant, by name; `made` makes the program of `(name, mistake, only_layer)`."""

    def maker(name, mistake, only_layer):
        return lambda: Mutant(made(name, mistake, only_layer), mistake, only_layer)

    found = {}
    for mistake in MISTAKES:
        found[f"{framework}/{mistake}"] = maker(f"{framework}/{mistake}", mistake, None)
        if mistake != "no_final_norm":
            name = f"{framework}/{mistake}/layer_{ONE}"
            found[name] = maker(name, mistake, ONE)
    return found
