"""What shorter numbers change of a model's readings, in sentences: how far off, where first past a bound, what is lost."""

from ...results.quantities import ARRAYS
from ..tables import precision
from ..tables.profiles import digits
from ..tables.steps import steps_of


def lines(name: str, node, steps=(None,), bound: float = precision.BOUND) -> list[str]:
    """Returns a sentence on one model for every step and precision; none where rounding was not read."""
    if "rounding_error" not in node:
        return []
    chosen = [step for step in steps if step is not None] or None
    passed = precision.passes({name: node}, bound, steps=chosen)
    lost = precision.lost({name: node}, steps=chosen)
    keys = [column for column in ("precision", "step") if column in passed]
    sentences = []
    for key, rows in passed.groupby(keys, sort=False):
        where = dict(zip(keys, key, strict=True))
        when = f" at step {where['step']}" if "step" in where else ""
        same = lost.loc[(lost[keys] == list(key)).all(axis=1)]
        told = f"{_errors(rows)}; {_first(rows, bound)}; {_lost(same)}"
        sentences.append(f"{name}: {where['precision']} against float64{when}: {told}")
    return sentences


def _errors(rows) -> str:
    """Returns how far the two arrays are off at the most."""
    parts = []
    for row in rows[rows["rounded"].isin(ARRAYS)].to_dict("records"):
        parts.append(f"{row['rounded']} off by at most {digits(row['largest'])} (position {row['at']:.0f})")
    return ", ".join(parts)


def _first(rows, bound: float) -> str:
    """Returns which readings pass the bound, each with the first position on its way."""
    past = rows.dropna(subset="first")
    if past.empty:
        return f"no reading passes {bound:g}"
    places = [f"{row['rounded']} at {row['first']:.0f}" for row in past.to_dict("records")]
    return f"first past {bound:g}: {', '.join(places)}"


def _lost(table) -> str:
    """Returns the largest share of numbers that is lost at each place; of none one word."""
    largest = table.groupby("lost", sort=False)["mean"].max()
    there = largest[largest > 0]
    if there.empty:
        return "nothing is lost"
    return f"lost: {', '.join(f'{share:.2%} in {place}' for place, share in there.items())}"


def of_tree(members, bound: float = precision.BOUND) -> list[str]:
    """Returns the sentences on all models, at all recorded steps."""
    sentences = []
    for name, node in members.items():
        sentences += lines(name, node, steps_of({name: node}) or (None,), bound)
    return sentences
