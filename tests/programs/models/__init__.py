"""Programs by name, each a function that makes one: as researchers write them, in plain JAX, Linen, NNX and Equinox."""

from functools import cache

from . import plain_loop, plain_scan
from .program import Line, Program, fresh, marked_lines

MAKERS = (
    plain_loop.plain_loop,
    plain_loop.plain_remat,
    plain_loop.plain_jit,
    plain_loop.plain_custom_vjp,
    plain_scan.scan_attention_alone,
    plain_scan.scan_blocks,
    plain_scan.scan_remat,
    plain_scan.scan_two_blocks,
    plain_scan.scan_same_layer,
    plain_scan.scan_fori,
)
PROGRAMS = {make.__name__: cache(make) for make in MAKERS}
