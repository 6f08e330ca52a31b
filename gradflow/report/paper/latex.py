"""Text for pdflatex: one function for what is set, one for what is quoted to the letter; neither can stop the compiler."""

import re

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
    "₀": r"$_0$",
    "₁": r"$_1$",
    "ε": r"$\varepsilon$",
    "γ": r"$\gamma$",
    "Δ": r"$\Delta$",
    "₂": r"$_2$",
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


def quoted(text: str) -> str:
    r"""Returns `text` to the letter, in typewriter type, with places where its lines may be broken; nothing for no text.

    Characters beyond ASCII are written as Python escapes them. It fits a column of any width.
    """
    lines = []
    for line in text.splitlines():
        plain = re.sub(r"[\x00-\x1f\x7f]", _hexadecimal, line.encode("ascii", "backslashreplace").decode())
        lines.append("".join(map(_breakable, plain)))
    if not any(lines):
        return ""
    body = "\\par\n".join(lines)
    return f"{{\\raggedright\\scriptsize\\ttfamily {body}\\par}}"


def _breakable(character: str) -> str:
    """Returns a character of a quotation; behind it the line may end."""
    if character == " ":
        return "\\ \\hspace{0pt}"
    return f"{character.translate(_TABLE)}\\hspace{{0pt}}"


def _hexadecimal(match: re.Match) -> str:
    return f"\\x{ord(match[0]):02x}"


def breakable(text: str) -> str:
    """Returns the text with places in a hash where its line may be broken."""
    return re.sub("([0-9a-f]{16})(?=[0-9a-f])", r"\1\\allowbreak{}", text)
