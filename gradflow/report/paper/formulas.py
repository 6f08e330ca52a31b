"""Mathematics, numbers and laws in LaTeX: what is a formula in plain text becomes one on the page, and 8.4e-05 is 8.4 · 10⁻⁵.

Numbers are those of the package siunitx, formulas those of the table of quantities.
"""

import re
from collections.abc import Callable, Mapping
from functools import cache

import numpy as np

from ...results.quantities import QUANTITIES
from .latex import latex

NUMBER = r"[−+-]?\d+(?:\.\d+)?(?:e[−+-]?\d+)?"
NOT_IDENTIFIED = ": not identified"
_SUBSCRIPT = r"\b[A-Za-z]_[A-Za-z0-9]\b"
_EXPONENT = re.compile(r"e([-+]?)0*(\d)")
_WORD = re.compile(r"[A-Za-z]{4,}")
_LETTERS = {
    "α": r"\alpha ",
    "β": r"\beta ",
    "γ": r"\gamma ",
    "λ": r"\lambda ",
    "σ": r"\sigma ",
    "µ": r"\mu ",
    "·": r"\cdot ",
    "⊙": r"\odot ",
    "−": "-",
    "ᵀ": r"^{\mathsf T}",
    "²": "^2",
    "×": r"\times ",
    "√": r"\surd ",
    "‖": r"\|",
    "∂": r"\partial ",
    "Σ": r"\Sigma ",
    "…": r"\dots ",
    "′": "'",
    "’": "'",
}


def number(text: str) -> str:
    r"""Returns a number as siunitx prints it; any other text as LaTeX.

    >>> number("8.4e-05"), number("−14.9"), number("+1.7"), number("not finite")
    ('\\num{8.4e-5}', '\\num{-14.9}', '\\num[retain-explicit-plus]{+1.7}', 'not finite')
    """
    plain = text.replace("−", "-")
    if not re.fullmatch(NUMBER, plain):
        return latex(text)
    option = "[retain-explicit-plus]" if plain.startswith("+") else ""
    short = _EXPONENT.sub(r"e\1\2", plain).replace("e+", "e")
    return f"\\num{option}{{{short}}}"


def interval(row: Mapping, show: Callable[[float], str], centre: str = "mean") -> str:
    """Returns a number with its interval, `1.3 [0.58, 3.0]`, each of the three as a number of siunitx."""
    mean, low, high = float(row[centre]), float(row["low"]), float(row["high"])
    if not np.isfinite(mean):
        return "not finite"
    if np.isnan(low):
        return number(show(mean))
    return f"{number(show(mean))} [{number(show(low))}, {number(show(high))}]"


def law(sentence: str) -> str:
    r"""Returns the sentence of a law as mathematics.

    >>> law("e^((−0.24 ± 0.12) l)"), law("constant")
    ('$e^{(-0.24 \\pm 0.12)\\,\\ell}$', 'constant')
    """
    if sentence.endswith(NOT_IDENTIFIED):
        form = sentence.removesuffix(NOT_IDENTIFIED)
        return f"{_form(form)}{NOT_IDENTIFIED}"
    rules = {  # a power of 0 has no parentheses
        r"e\^\(\((.*?)\) (\w)\)": r"e^{(\1)\\,\2}",
        r"exp\(\((.*?)\) (\w)\^0\.5\)": r"\\exp((\1)\\,\\sqrt{\2})",
        r"(\w)\^\(?(.*?)\)?": r"\1^{\2}",
        r"\(1 \+ (\w)/(.*?)\)\^\(?(.*?)\)?": r"(1 + \1/\2)^{\3}",
    }
    for pattern, form in rules.items():
        match = re.fullmatch(pattern, sentence)
        if match is None:
            continue
        formula = match.expand(form).replace("−", "-").replace("±", r"\pm").replace("…", r"\dots")
        return f"${_with_ell(formula)}$"
    return latex(sentence)


def _form(form: str) -> str:
    """Returns the form of a law, such as `a (1 + l/l0)^k`, as mathematics."""
    formula = form.replace("l0", r"l_0").replace("^0.5", "^{1/2}").replace("exp(", r"\exp(").replace(" ", r"\,")
    return f"${_with_ell(formula)}$"


def _with_ell(formula: str) -> str:
    return re.sub(r"(?<![A-Za-z\\])l(?![A-Za-z])", r"\\ell", formula)


def equation(text: str) -> str:
    r"""Returns the equation of a wiring as mathematics; one that has words in it as text.

    >>> equation("N(α x + F x)")
    '$N(\\alpha \\,x + F\\,x)$'
    """
    if _WORD.search(text) or not all(letter.isascii() or letter in _LETTERS for letter in text):
        return latex(text)
    if re.search(r"[\\#$%&~{}]", text):
        return latex(text)
    spaced = re.sub(r"(?<=[\w)]) (?=[\w(])", r"\\,", text)
    for letter, command in _LETTERS.items():
        spaced = spaced.replace(letter, command)
    return f"${spaced}$"


def typeset(text: str) -> str:
    r"""Returns a caption in LaTeX, its formulas as mathematics and its small and large numbers as powers of ten.

    >>> typeset("from 8.4e-05 at x_l on")
    'from \\num{8.4e-5} at $x_\\ell$ on'
    """
    pieces, end = [], 0
    for match in _special().finditer(text):
        pieces += [_words(text[end : match.start()]), _piece(match[0])]
        end = match.end()
    pieces.append(_words(text[end:]))
    return "".join(pieces)


def _words(text: str) -> str:
    """Returns plain text in LaTeX, with the blanks at its ends, which separate it from a formula."""
    if not text.strip():
        return " " if text else ""
    before = " " if text[0].isspace() else ""
    after = " " if text[-1].isspace() else ""
    return f"{before}{latex(text)}{after}"


def _piece(text: str) -> str:
    """Returns a formula, a number or a letter with a subscript."""
    if text in _formulas():
        return f"${_formulas()[text]}$"
    if text == "l":
        return r"$\ell$"
    if re.fullmatch(_SUBSCRIPT, text):
        letter, place = text.split("_")
        return f"${letter}_{place}$".replace("_l", r"_\ell")
    return number(text)


@cache
def _formulas() -> dict[str, str]:
    """Returns every formula of the table of quantities, as text and in LaTeX; those that are words alone stay words."""
    return {row.formula: row.latex for row in QUANTITIES.values() if re.search("[‖√∂Σσ²⟨]", row.formula)}


@cache
def _special() -> re.Pattern:
    """Returns the pattern of what is no plain text: formulas, the longest first, subscripts, numbers with an exponent."""
    formulas = sorted(_formulas(), key=len, reverse=True)
    written = [re.escape(formula) for formula in formulas]
    return re.compile("|".join([*written, _SUBSCRIPT, r"\bl\b", r"(?<![\w.])[−+-]?\d+(?:\.\d+)?e[−+-]?\d+"]))
