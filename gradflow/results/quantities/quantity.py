"""One row of the table of quantities: all that is said of a number, but for the reading that yields it (`sources`)."""

from dataclasses import dataclass
from typing import Literal

Mean = Literal["geometric", "arithmetic"]
GEOMETRIC: Mean = "geometric"
ARITHMETIC: Mean = "arithmetic"


@dataclass(frozen=True)
class Quantity:
    r"""One row of the table.

    Parameters
    ----------
    name : the variable in a result
    long_name : what it means, in the field's words
    formula : in one line of text
    latex : the same in LaTeX, without the dollars; \ell is the place, g_\ell the cotangent there
    units : "norm" where only ratios mean something
    dims : dimensions behind those of step and seed
    mean : over seeds; of the logarithm where it is geometric
    reading : what yields it, a name in `sources.SOURCES`
    figure : the function in `plot` that shows it; None where there is none
    predicted : whether the theory predicts it before a weight is drawn
    """

    name: str
    long_name: str
    formula: str
    latex: str
    units: str
    dims: tuple[str, ...] = ()
    mean: Mean = GEOMETRIC
    reading: str = "backward"
    figure: str | None = "profile"
    predicted: bool = False


@dataclass(frozen=True)
class Error:
    """How a standard error is come by: its formula as text, and in LaTeX."""

    formula: str
    latex: str

    def of(self, own: Quantity, reading: str | None = None) -> Quantity:
        """The row of the standard error of a quantity; by default the same reading yields both."""
        return Quantity(
            f"{own.name}_sem",
            f"standard error of the {own.long_name}",
            self.formula,
            self.latex,
            own.units,
            own.dims,
            ARITHMETIC,
            reading or own.reading,
            figure=None,
        )


def with_error(own: Quantity, error: Error) -> tuple[Quantity, Quantity]:
    """A quantity and its standard error."""
    return own, error.of(own)
