"""How tools write the keys of gradient norms, and which keys of a record are norms of parameters.

Each was looked up in the source of the tool; how sure we are of it stands beside it. A logger may put something in front of all
its keys, the `lead`: `train/`, or `my run - ` in a table exported from a chart of Weights & Biases (of that we have no source).

    grad/norm/PATH, grad/norm/total           levanter. Sure: stanford-crfm/levanter, src/levanter/callbacks/watch.py, and
                                              marin-community/marin, lib/levanter/src/levanter/analysis/tree_stats.py.
                                              In the first the total is the sum of the norms, in the second the norm of all.
    grad_2.0_norm/PATH, grad_2.0_norm_total   PyTorch Lightning. Sure: Lightning-AI/pytorch-lightning,
                                              src/lightning/pytorch/utilities/grads.py. Older code has `grad_2.0_norm_PATH`,
                                              rounded to 3 or 4 decimals.
    l2_norm/grad/PATH, l2_norm/grad/global    Megatron-Bridge. Sure: NVIDIA-NeMo/Megatron-Bridge, `report_l2_norm_grad` in
                                              src/megatron/bridge/training/utils/train_utils.py; of several chunks of a
                                              model its total counts the first ones again. Composer, too: mosaicml/composer,
                                              composer/callbacks/optimizer_monitor.py.
    grads/PATH_rms, grads/all/rms             nanodo, words of PATH joined by `_`. Sure: google-deepmind/nanodo,
                                              nanodo/metrics.py. An rms: the norm is √N times it, N from `n_params/PATH`,
                                              which nanodo logs at step 0.
    grad/PATH.norm, total_grad_norm           OLMo. Sure of the first: allenai/OLMo, olmo/optim.py.
    grad-norm                                 Megatron-LM. Sure: NVIDIA/Megatron-LM, megatron/training/training.py. It logs no
                                              norm of one parameter; hooks of one's own do, by the names of PyTorch,
                                              `module.decoder.layers.10.self_attention.linear_qkv.weight`: bare paths.
    gradients/PATH, grad_norm/PATH, …         loops of one's own, by habit. `wandb.watch` writes `gradients/PATH` as well, as
                                              histograms, which hold no norm. Sure: wandb/wandb,
                                              wandb/integration/torch/wandb_torch.py.
    PATH                                      bare paths of parameters, as Flax flattens them or PyTorch names them.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

from ...results.arguments import shown
from .paths import parts

TOTALS = "total|global|all"
ROOM = 140  # characters of a list of keys
_STATISTICS = "mean|max|min|std|median|clipped"


@dataclass(frozen=True)
class Writer:
    """A way to write keys: its `name`, the `pattern` of a key behind the lead, and the paths that mean the total."""

    name: str
    pattern: str
    total: str = TOTALS
    is_rms: bool = False

    def match(self, key: str) -> "Key | None":
        """Returns what the key says; None for a key of another writer."""
        found = re.fullmatch(rf"(?P<lead>|.*?[/ ]){self.pattern}", key)
        if found is None:
            return None
        is_total = re.fullmatch(self.total, found["path"]) is not None
        return Key(self, found["lead"], key[: found.start("path")], found["path"], is_total)


@dataclass(frozen=True)
class Key:
    """What a key says: who wrote it, the lead, all in front of the path, the path, and whether it is of all parameters."""

    writer: Writer
    lead: str
    prefix: str
    path: str
    is_total: bool


LEVANTER = Writer("levanter", r"grads?/norms?/(?P<path>.+)")
LIGHTNING = Writer("PyTorch Lightning", r"grad_2(?:\.0)?_norm[/_](?P<path>.+)")
BRIDGE = Writer("Megatron-Bridge or Composer", r"l2_norm/grad/(?P<path>.+)")
NANODO = Writer("nanodo", r"grads/(?P<path>.+)[_/]rms", is_rms=True)
OLMO = Writer("OLMo", r"grad/(?P<path>.+)\.norm")
LOOP = Writer(
    "a loop of one's own",
    rf"(?:gradients?|grads?[_-]norms?|gradients?[_-]norms?)/(?P<path>(?!(?:{_STATISTICS})$).+)",
)
BARE = Writer("bare paths", r"(?P<path>.+)")
WRITERS = (LEVANTER, LIGHTNING, BRIDGE, NANODO, OLMO, LOOP)

TOTAL = re.compile(r"(?:.*[/ ])?(?:(?:total|global)_)?(?:grad|gradient)[_-]norm(?:[_-](?:total|global))?")
SIZE = "n_params/"  # nanodo's, in front of a path
# Norms of something else: parameters, updates, moments; and norms that are not the 2-norm.
OTHERS = re.compile(
    r"(?:.*[/ ])?(?:(?:params?|updates?|opt_state.*)/(?:norms?|hist)/.+|l2_norm/(?!grad/).+"
    r"|(?:params|updates)/.+_(?:rms|std|mean)|(?:param|exp_avg\w*|parameters)/.+|(?:weight|param|parameter|update|activation)s?[_-]norms?/.+)"
)
OTHER_NORM = re.compile(r"(?:.*[/ ])?grad_(?!2(?:\.0)?_norm)[\w.]+_norm[/_].+")  # Lightning's, of another norm_type
BESIDE = re.compile(r".*(?:__MIN|__MAX|\._type|\.bins|\.values| vs samples|_epoch)")  # what is written beside a column


@dataclass(frozen=True)
class Choice:
    """Which keys are norms of parameters, `{key: path}`, and which are totals; who wrote them, and behind what."""

    writer: Writer
    prefix: str
    paths: Mapping[str, str]
    totals: tuple[str, ...]

    @property
    def is_bare(self) -> bool:
        """Whether the paths are all keys that there are, also those of no norm."""
        return self.writer is BARE and not self.prefix


def chosen(keys: Iterable[str], prefix: str | None) -> Choice:
    """Returns which keys are norms; with a `prefix`, those that begin with it. Their shards are taken off before.

    Errors: ValueError where two tools wrote norms, or one tool those of two models.
    """
    plain = {}
    for key in keys:
        name = parts(key).key
        if not any(pattern.fullmatch(name) for pattern in (BESIDE, OTHERS, OTHER_NORM)):
            plain[key] = name
    if prefix is not None:
        return _behind(prefix, plain)
    groups: dict[tuple[Writer, str], dict[str, Key]] = {}
    totals = []
    for key, name in plain.items():
        read = _read(name)
        if TOTAL.fullmatch(name) or (read is not None and read.is_total):
            totals.append(key)
        elif read is not None:
            groups.setdefault((read.writer, read.lead), {})[key] = read
    if not groups:
        bare = {key: name for key, name in plain.items() if key not in totals}
        return Choice(BARE, "", bare, tuple(totals))
    found = _only(groups)
    first = next(iter(found.values()))
    return Choice(first.writer, first.prefix, {key: read.path for key, read in found.items()}, tuple(totals))


def _read(key: str) -> Key | None:
    """Returns what a key says by the first writer that writes so."""
    for writer in WRITERS:
        found = writer.match(key)
        if found is not None:
            return found
    return None


def _behind(prefix: str, plain: Mapping[str, str]) -> Choice:
    """Returns the choice of the keys behind a prefix, from keys by themselves and without their shards."""
    paths, totals = {}, []
    for key, name in plain.items():
        path = name.removeprefix(prefix)
        begins = name.startswith(prefix) and path
        if TOTAL.fullmatch(name) or (begins and re.fullmatch(TOTALS, path)):
            totals.append(key)
        elif begins:
            paths[key] = path
    if not paths:
        raise ValueError(f"no key of a number begins with prefix={shown(prefix)}; keys: {some(plain)}")
    return Choice(BARE, prefix, paths, tuple(totals))


def _only(groups: Mapping[tuple[Writer, str], Mapping[str, Key]]) -> Mapping[str, Key]:
    """Returns the one group of norms that there is."""
    first, *others = groups.values()
    if not others:
        return first
    one, other = next(iter(first.values())), next(iter(others[0].values()))
    if one.writer is other.writer:
        raise ValueError(
            f"the record holds two models, behind {shown(one.prefix)} and {shown(other.prefix)}: read each by its own "
            f"prefix, prefix={shown(one.prefix)}"
        )
    raise ValueError(
        f"the record holds norms as {one.writer.name} writes them and as {other.writer.name}: name those that are meant, "
        f"prefix={shown(one.prefix)} or {shown(other.prefix)}"
    )


def some(keys: Iterable[str]) -> str:
    """Returns the first keys, as many as a line has room for."""
    listed = ", ".join(map(shown, islice(keys, 4))) or "none"
    return listed if len(listed) <= ROOM else f"{listed[:ROOM]}…"
