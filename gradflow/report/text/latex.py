"""Text for pdflatex: one function for what is set, one for what is quoted to the letter; neither can stop the compiler."""

import re
import textwrap

# What captions and formulas use, in LaTeX; everything else is ASCII or Latin-1.
_SYMBOLS = {
    "‖": r"$\|$",
    "∂": r"$\partial$",
    "√": r"$\surd$",
    "Σ": r"$\Sigma$",
    "⟨": r"$\langle$",
    "⟩": r"$\rangle$",
    "σ": r"$\sigma$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "λ": r"$\lambda$",
    "→": r"$\to$",
    "≠": r"$\neq$",
    "−": r"$-$",
    "·": r"$\cdot$",
    "±": r"$\pm$",
    "²": r"$^2$",
    "ᵀ": r"$^{\mathsf T}$",
    "⊙": r"$\odot$",
    "…": r"\dots{}",
    "×": r"$\times$",
    "µ": r"$\mu$",
    "’": "'",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
}
_SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "`": r"\textasciigrave{}"}
_SPECIAL |= {character: "\\" + character for character in "&%$#_{}"}
_SPECIAL |= {character: f"{{{character}}}" for character in "[]*"}  # behind a \\ they would be its own
_TABLE = str.maketrans(_SPECIAL | _SYMBOLS)
WIDTH = 88  # characters of a line that is quoted


def latex(text) -> str:
    r"""`text` in one line of LaTeX: special characters escaped, symbols as mathematics, others by their code points.

    >>> latex("50% of x_l, 漢")
    '50\\% of x\\_l, U+6F22'
    """
    one_line = " ".join(str(text).split())
    escaped = re.sub("-(?=-)", "-{}", one_line.translate(_TABLE))
    return "".join(character if _set(character) else f"U+{ord(character):04X}" for character in escaped)


def _set(character: str) -> bool:
    """Whether pdflatex sets it as it is: printable ASCII, and accented letters."""
    return " " <= character <= "~" or ("À" <= character <= "ÿ" and character not in "ÐÞðþ×÷")


def verbatim(text: str) -> str:
    """`text` to the letter, its lines broken at `WIDTH`, what is beyond ASCII as Python escapes it; nothing for no text."""
    rows = re.sub(r"\\end(?=\s*\{verbatim)", "\\\\end\n", text).splitlines()  # what would end it is broken too
    lines = [line for row in rows for line in textwrap.wrap(row, WIDTH) or [""]]
    plain = [line.encode("ascii", "backslashreplace").decode() for line in lines]
    shown = [re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\x{ord(found[0]):02x}", line) for line in plain]
    return "\n".join([r"\begin{verbatim}", *shown, r"\end{verbatim}"]) if any(shown) else ""
