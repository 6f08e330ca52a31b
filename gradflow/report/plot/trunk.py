"""The trunk of a program as a picture: the path upwards, the branches beside it, each box with its line of code."""

from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyBboxPatch, Rectangle

from ...results.arguments import of_class, whole
from ...results.diagnosis import Diagnosis, Repeated, Step, SublayerDiagnosis, repeated
from .canvas import COLOURS, PARTS, axes, faded, figure, inches, legend, styled

ROW = 0.2  # inches of a box and the space above it
BOX = 0.14
PATH, BRANCH, WIDE = 0.72, 1.56, 0.52  # inches: the path, the middle of a branch, half a box
MARKED = COLOURS[1]


@styled
def trunk(report: Diagnosis, *, number: int = 1, width: str | float = "icml-column", ax=None) -> Axes:
    """Draws a trunk of a program from the bottom up: norms, branches, sums and the readout, those with a finding in orange.

    Sublayers that come again at the same lines are drawn once, beside how often they come. `number` chooses one of several
    trunks.
    """
    of_class("report", report, Diagnosis)
    if report.no_trunk:
        raise ValueError(f"there is no trunk to draw: {report.no_trunk}")
    number = whole("number", number, most=len(report.steps))
    groups = repeated(report.steps[number - 1])
    rows = {one.depth: one for one in report.sublayers if one.trunk == number - 1}
    height = ROW * (2 + sum(_rows(step, rows) for group in groups for step in group.steps))
    if ax is None:
        _, ax = figure(width, height)
    ax = axes(ax)
    ax.set_xlim(0, inches(width))
    ax.set_ylim(0, height)
    ax.set_axis_off()
    _draw(ax, groups, rows, height)
    ax.set_label(f"The residual stream from the bottom up, with lines of code. {len(rows)} residual sublayers.")
    return ax


def _draw(ax: Axes, groups: list[Repeated], rows: dict[int, SublayerDiagnosis], height: float) -> None:
    ax.plot([PATH, PATH], [ROW / 2, height - ROW / 2], color="0.3", lw=1.0, zorder=0)
    ax.text(PATH, ROW / 4, "$x_0$", ha="center", va="center")
    y = ROW
    for group in groups:
        start = y
        for step in group.steps:
            y = _step(ax, step, rows, y)
        if group.times > 1:
            ax.add_patch(
                Rectangle((0.17, start - 0.02), ax.get_xlim()[1] - 0.19, y - start, color="0.95", zorder=-2, lw=0)
            )
            ax.text(0.15, (start + y) / 2, f"{group.times} ×", ha="right", va="center", rotation=90)


def _rows(step: Step, rows: dict[int, SublayerDiagnosis]) -> int:
    """Returns how many boxes stand one above the other, and the sum."""
    if step.kind != "sublayer":
        return 1
    of = rows[step.depths[0]]
    return len(of.norms_in) + len(of.norms_branch) + 2 + (of.write != "1")


def _step(ax: Axes, step: Step, rows: dict[int, SublayerDiagnosis], y: float) -> float:
    """Draws a step, and returns where the next one begins."""
    line = str(step.line)
    if step.kind != "sublayer":
        kind = "norm" if step.kind == "norm" else "net"
        _box(ax, PATH, y, step.text, PARTS[kind], line, step.marked, at=PATH + WIDE + 0.08)
        return y + ROW
    of = rows[step.depths[0]]
    ax.plot([PATH, BRANCH, BRANCH], [y - 0.03, y - 0.03, y], color="0.3", lw=0.8, zorder=0)
    for name in of.norms_in:
        y = _above(ax, y, name, PARTS["norm"], "", step.marked)
    y = _above(ax, y, of.kind, PARTS["net"], line, step.marked)
    for name in of.norms_branch:
        y = _above(ax, y, name, PARTS["norm"], "", step.marked)
    if of.write != "1":
        y = _above(ax, y, f"× {of.write}", PARTS["fork"], "", step.marked)
    middle = y + BOX / 2
    ax.plot([BRANCH, BRANCH, PATH], [y - (ROW - BOX), middle, middle], color="0.3", lw=0.8, zorder=0)
    ax.add_patch(
        Circle((PATH, middle), 0.06, fc="white", ec=MARKED if step.marked else PARTS["fork"], lw=1.0, zorder=2)
    )
    ax.text(PATH, middle, "+", ha="center", va="center", fontsize=7, zorder=3)
    if of.skip != "1":
        ax.text(PATH - 0.08, middle, fill(legend(of.skip), 8), ha="right", va="center", fontsize=6)
    return y + ROW


def _above(ax: Axes, y: float, text: str, colour: str, line: str, marked: bool) -> float:
    """Draws a box of a branch, and returns where the next one begins."""
    _box(ax, BRANCH, y, text, colour, line, marked, at=BRANCH + WIDE + 0.08)
    ax.plot([BRANCH, BRANCH], [y + BOX, y + ROW], color="0.3", lw=0.8, zorder=0)
    return y + ROW


def _box(ax: Axes, x: float, y: float, text: str, colour: str, line: str, marked: bool, at: float) -> None:
    edge = MARKED if marked else colour
    style = "round,pad=0,rounding_size=0.03"
    face = faded(colour, 0.15)
    ax.add_patch(FancyBboxPatch((x - WIDE, y), 2 * WIDE, BOX, boxstyle=style, fc=face, ec=edge, lw=1.0, zorder=1))
    size = 6 if len(text) <= 22 else 5
    ax.text(x, y + BOX / 2, legend(text), ha="center", va="center", fontsize=size, zorder=3)
    if line:
        ax.text(at, y + BOX / 2, legend(line), ha="left", va="center", fontsize=6, color=MARKED if marked else "0.3")
