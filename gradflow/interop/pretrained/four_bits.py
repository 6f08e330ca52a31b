"""Numbers of 4 bits (MXFP4) as gpt-oss's files have them: two in a byte, and one scale for every 32.

    x_i = 2^(s − 127) v_i,    v of sign, two bits of exponent, one of mantissa: 0, ½, 1, 1½, 2, 3, 4, 6 and their negatives

(Open Compute Project 2023, OCP Microscaling Formats MX v1.0, sections 5.3.3 and 5.4.1.) A matrix of experts [E, in, out] lies as
blocks [E, out, in/32, 16] and scales [E, out, in/32], of the name with these words behind it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .files import Stored

BLOCKS, SCALES = "_blocks", "_scales"
BYTE = "U8"
POSITIVE = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
NUMBERS = np.array([*POSITIVE, *(-number for number in POSITIVE)], np.float32)


@dataclass(frozen=True)
class Packed:
    """Matrices of experts [E, in, out], widened to float32 as a whole, whichever part of them `tensor[slices]` is."""

    blocks: Stored
    scales: Stored

    dtype: ClassVar[str] = "F32"

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        experts, rows, groups, size = self.blocks.shape
        return (experts, 2 * groups * size, rows)

    def __getitem__(self, index) -> np.ndarray:
        packed = self.blocks[:]
        pairs = np.stack([packed & 15, packed >> 4], axis=-1)  # the first of two is the lower half of a byte
        exponents = self.scales[:].astype(np.int32) - 127
        groups = np.ldexp(NUMBERS[pairs].reshape(*exponents.shape, -1), exponents[..., None])
        return groups.reshape(*exponents.shape[:2], -1).swapaxes(1, 2)[index]


def unpacked(tensors: Mapping[str, Stored]) -> Mapping[str, Stored]:
    """Returns the tensors, with one for every two that are blocks and their scales; others as they are."""
    found = dict(tensors)
    for name, blocks in tensors.items():
        stem = name.removesuffix(BLOCKS)
        scales = tensors.get(f"{stem}{SCALES}")
        if stem != name and scales is not None and belong(blocks, scales):
            found[stem] = Packed(found.pop(name), found.pop(f"{stem}{SCALES}"))
    return found


def belong(blocks: Stored, scales: Stored) -> bool:
    """Returns whether these are blocks and their scales."""
    bytes_alone = blocks.dtype == scales.dtype == BYTE
    return bytes_alone and len(blocks.shape) == 4 and blocks.shape[:3] == scales.shape and blocks.shape[3] == 16
