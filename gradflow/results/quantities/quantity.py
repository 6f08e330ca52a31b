"""One row of the table of quantities: the meaning, formula, unit and dimensions of a number."""

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
    """The formula of a standard error, as text and in LaTeX."""

    formula: str
    latex: str

    def of(self, quantity: Quantity, reading: str | None = None) -> Quantity:
        """Returns the row of the standard error of a quantity; by default the same reading yields both."""
        return Quantity(
            f"{quantity.name}_sem",
            f"standard error of the {quantity.long_name}",
            self.formula,
            self.latex,
            quantity.units,
            quantity.dims,
            ARITHMETIC,
            reading or quantity.reading,
            figure=None,
        )


def with_error(quantity: Quantity, error: Error) -> tuple[Quantity, Quantity]:
    """Returns a quantity and its standard error."""
    return quantity, error.of(quantity)
