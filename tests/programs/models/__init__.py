"""Programs by name, each a function that makes one: as researchers write them, in plain JAX, Linen, NNX and Equinox."""

from functools import cache

from . import (
    bert_like,
    encoder_decoder,
    lm1b_like,
    mixed_precision,
    nanodo_like,
    no_trunk,
    plain_loop,
    plain_scan,
    resnet,
)
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
    nanodo_like.nanodo,
    lm1b_like.lm1b_pre,
    lm1b_like.lm1b_post,
    lm1b_like.lm1b_dropout,
    bert_like.bert,
    mixed_precision.bfloat16,
    resnet.resnet,
    resnet.resnet_stages,
    encoder_decoder.encoder_decoder,
    no_trunk.perceptron,
    no_trunk.densenet,
    no_trunk.unet,
)
PROGRAMS = {make.__name__: cache(make) for make in MAKERS}
