"""Rows of what is shown beside the signal: similarity, experts, attention, massive activations, layer removal, rounding."""

from .passes import OF_EXAMPLES
from .quantity import ARITHMETIC, Quantity, with_error

_SIMILARITY = (
    Quantity(
        "stream_cosine",
        "cosine between positions of the stream",
        "mean over tokens of ⟨x_l, x_m⟩/(‖x_l‖‖x_m‖), then over examples",
        r"\frac{1}{T} \sum_t \frac{\langle x_{\ell, t}, x_{m, t} \rangle}{\|x_{\ell, t}\| \|x_{m, t}\|}",
        "1",
        ("depth", "other_depth"),
        ARITHMETIC,
        "similarity",
        "similarity",
    ),
    Quantity(
        "stream_angle",
        "angular distance between positions of the stream",
        "mean over tokens of arccos(⟨x_l, x_m⟩/(‖x_l‖‖x_m‖))/π, then over examples (Gromov et al. 2024, section 3)",
        r"\frac{1}{T} \sum_t \frac{1}{\pi} \arccos"
        r"\frac{\langle x_{\ell, t}, x_{m, t} \rangle}{\|x_{\ell, t}\| \|x_{m, t}\|}",
        "half turns",
        ("depth", "other_depth"),
        ARITHMETIC,
        "similarity",
        "similarity",
    ),
)

_EXPERTS = (
    Quantity(
        "expert_load",
        "load of each expert",
        "share of a sublayer's choices that fall on the expert; they sum to 1; NaN: no experts",
        r"f_e = \frac{c_e}{\sum_{e'} c_{e'}}",
        "1",
        ("sublayer", "expert"),
        ARITHMETIC,
        "expert_load",
    ),
    Quantity(
        "load_violation",
        "violation of a balanced load",
        "max load / mean load − 1 over experts (Wang et al. 2024 (Loss-Free Balancing), from secondary sources)",
        r"\frac{\max_e f_e}{\overline{f}} - 1",
        "1",
        ("sublayer",),
        ARITHMETIC,
        "expert_load",
    ),
    Quantity(
        "gate_entropy",
        "entropy of a token's gates",
        "−Σ_e p_e log p_e, p = g/Σg over the chosen experts, mean over tokens; log k where all k weigh the same",
        r"-\frac{1}{T} \sum_t \sum_e p_{t, e} \log p_{t, e}, \; p_{t, e} = \frac{g_{t, e}}{\sum_{e'} g_{t, e'}}",
        "nat",
        ("sublayer",),
        ARITHMETIC,
        "expert_load",
    ),
)


def _by_head(name: str, words: str, formula: str, latex: str, unit: str = "1") -> Quantity:
    """Returns a row of attention in every head of every sublayer that has heads."""
    return Quantity(name, words, formula, latex, unit, ("sublayer", "head"), ARITHMETIC, "attention", "heads")


_ATTENTION = (
    _by_head(
        "attention_entropy",
        "entropy of attention",
        "−Σ_s p_ts log p_ts, mean over queries t and examples; p the softmax over the keys s that t sees; NaN: no such head",
        r"-\frac{1}{T} \sum_t \sum_s p_{ts} \log p_{ts}, \;"
        r" p_{ts} = \mathrm{softmax}_s\left(q_t^\top k_s / \sqrt{h}\right)",
        unit="nat",
    ),
    _by_head(
        "attention_entropy_share",
        "entropy of attention, share of the largest possible",
        "mean over queries t that see n_t ≥ 2 keys of H_t/log n_t; 1: uniform over what is seen, 0: all on one key",
        r"\frac{1}{|\{t : n_t \geq 2\}|} \sum_{t : n_t \geq 2} \frac{H_t}{\log n_t}, \;"
        r" H_t = -\sum_s p_{ts} \log p_{ts}",
    ),
    _by_head(
        "attention_first_token",
        "attention on the first token",
        "mean over all queries t and examples of p_t0, the first's own 1 included (Gu et al. 2024): a sink",
        r"\frac{1}{T} \sum_t p_{t0}",
    ),
    _by_head(
        "attention_largest_logit",
        "largest logit of attention",
        "max over examples, queries t and keys s that t sees of q_t·k_s/√h, in front of a soft cap "
        "(Kimi Team 2025 (Kimi K2), section 2.1)",
        r"\max_{t, s} \frac{q_t^\top k_s}{\sqrt{h}}",
    ),
)


def _of_activations(name: str, words: str, formula: str, latex: str, *dims: str, figure: str = "massive") -> Quantity:
    """Returns a row of massive activations at every position of the stream; indices have an arithmetic mean."""
    return Quantity(name, words, formula, latex, "1", ("depth", *dims), reading="activations", figure=figure)


_RATIO = r"r_{tf} = \frac{|x_{\ell, t f}|}{\mathrm{median}\,|x_\ell|}"
_ACTIVATIONS = (
    _of_activations(
        "largest_activation",
        "largest entry of the stream",
        "max |x_l| over examples, tokens, features",
        r"\max_{t, f} |x_{\ell, t f}|",
        figure="profile",
    ),
    _of_activations(
        "massive_activation",
        "largest entry of the stream / median",
        "max r, r = |x_l|/median |x_l| of the same example, over examples, tokens, features; massive: above 1000 "
        "(Sun et al. 2024)",
        rf"\max_{{t, f}} r_{{tf}}, \; {_RATIO}",
        figure="profile",
    ),
    _of_activations(
        "massive_activation_by_token",
        "largest entry of a token / median",
        "max r over examples and features",
        rf"\max_f r_{{tf}}, \; {_RATIO}",
        "token",
    ),
    _of_activations(
        "massive_activation_by_feature",
        "largest entry of a feature / median",
        "max r over examples and tokens",
        rf"\max_t r_{{tf}}, \; {_RATIO}",
        "feature",
    ),
    Quantity(
        "massive_token",
        "token of the largest entry",
        "argmax over tokens of r, from 0; −1: not finite",
        rf"\mathrm{{argmax}}_t \max_f r_{{tf}}, \; {_RATIO}",
        "index",
        ("depth",),
        ARITHMETIC,
        "activations",
        "massive",
    ),
    Quantity(
        "massive_feature",
        "feature of the largest entry",
        "argmax over features of r, from 0; −1: not finite",
        rf"\mathrm{{argmax}}_f \max_t r_{{tf}}, \; {_RATIO}",
        "index",
        ("depth",),
        ARITHMETIC,
        "activations",
        "massive",
    ),
)

_REMOVAL = (
    *with_error(
        Quantity(
            "sublayer_removal",
            "loss without a sublayer",
            "loss of the model in which x' = N_out(A x) of that sublayer (its branch at zero), minus the whole loss",
            r"\mathcal{L}\left[x_\ell = N_{\mathrm{out}}(A x_{\ell - 1})\right] - \mathcal{L}",
            "nat",
            ("sublayer",),
            ARITHMETIC,
            "layer_removal",
            "removal",
        ),
        OF_EXAMPLES,
    ),
    *with_error(
        Quantity(
            "block_removal",
            "loss without a block",
            "loss of the model in which x' = N_out(A x) of every sublayer of that block, minus the whole loss",
            r"\mathcal{L}\left[x_\ell = N_{\mathrm{out}}(A x_{\ell - 1}), \, \ell \in b\right] - \mathcal{L}",
            "nat",
            ("block",),
            ARITHMETIC,
            "layer_removal",
            "removal",
        ),
        OF_EXAMPLES,
    ),
)

_ROUNDING = (
    Quantity(
        "rounding_error",
        "error of rounding",
        "‖r − r₆₄‖/‖r₆₄‖ over what is read at a position; r₆₄ the same weights and batch in float64; of a sublayer: behind it",
        r"\frac{\|r - r_{64}\|}{\|r_{64}\|}",
        "1",
        ("precision", "rounded", "depth"),
        reading="rounding",
        figure="precision",
    ),
    Quantity(
        "lost_share",
        "share of numbers lost to rounding",
        "share that is not zero in float64 (scores: of keys that are seen) and below the smallest normal number; sum: terms of a "
        "branch that leave the skip as it is",
        r"\frac{|\{i : x_i \approx 0, \, x^{64}_i \neq 0\}|}{|\{i : x^{64}_i \neq 0\}|}",
        "1",
        ("precision", "lost", "depth"),
        ARITHMETIC,
        "rounding",
        "precision",
    ),
)

ROWS = (*_SIMILARITY, *_EXPERTS, *_ATTENTION, *_ACTIVATIONS, *_REMOVAL, *_ROUNDING)
