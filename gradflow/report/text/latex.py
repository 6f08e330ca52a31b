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
for _character in "&%$#_{}":
    _SPECIAL[_character] = "\\" + _character
for _character in "[]*":  # behind a \\ they would be its arguments
    _SPECIAL[_character] = f"{{{_character}}}"
_TABLE = str.maketrans(_SPECIAL | _SYMBOLS)
WIDTH = 88  # characters of a line that is quoted


def latex(text) -> str:
    r"""Returns `text` in one line of LaTeX: special characters escaped, symbols as mathematics, others by their code points.

    >>> latex("50% of x_l, 漢")
    '50\\% of x\\_l, U+6F22'
    """
    one_line = " ".join(str(text).split())
    escaped = re.sub("-(?=-)", "-{}", one_line.translate(_TABLE))
    letters = ""
    for character in escaped:
        if _is_set_unchanged(character):
            letters += character
        else:
            letters += f"U+{ord(character):04X}"
    return letters


def _is_set_unchanged(character: str) -> bool:
    """Returns whether pdflatex knows the character: printable ASCII, and accented letters."""
    return " " <= character <= "~" or ("À" <= character <= "ÿ" and character not in "ÐÞðþ×÷")


def verbatim(text: str) -> str:
    """Returns `text` to the letter, its lines broken at `WIDTH`; nothing for no text.

    Characters beyond ASCII are written as Python escapes them.
    """
    unended = re.sub(r"\\end(?=\s*\{verbatim)", "\\\\end\n", text)  # what would end it is broken too
    lines = []
    for row in unended.splitlines():
        for line in textwrap.wrap(row, WIDTH) or [""]:
            plain = line.encode("ascii", "backslashreplace").decode()
            lines.append(re.sub(r"[\x00-\x1f\x7f]", _hexadecimal, plain))
    if not any(lines):
        return ""
    return "\n".join([r"\begin{verbatim}", *lines, r"\end{verbatim}"])


def _hexadecimal(match: re.Match) -> str:
    return f"\\x{ord(match[0]):02x}"
