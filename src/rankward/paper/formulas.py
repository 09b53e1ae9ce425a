"""Formulas in the sentences of the page as MathML, which browsers draw without a script, a font or a network."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup

_NUMBER = r"\d+(?:[.,]\d+)*(?:e[-+]?\d+)?"
_ENTRY = r"[A-Za-z]_\d+²?"  # an entry of a matrix, such as W_11, or its square
_TERM = rf"(?:(?:{_NUMBER} )?ln )?(?:\|{_ENTRY}\||{_ENTRY}|exp\([^()]*\)|{_NUMBER}(?![\w%])|[a-z](?!\w))"
_EXPRESSION = rf"-?{_TERM}(?: ?[-+=<>/] ?-?{_TERM})*"
_FORMULA = re.compile(rf"(?<![\w=.]){_EXPRESSION}(?!\w)")  # not in an override such as lr.eta=1e-3
_IS_ONE = re.compile(r"_\d|\de[-+]?\d")  # else it is a number or a letter of the sentence
_AFTER_SIGN = r"(?:^|(?<=[(=<>/+-])|(?<=[(=<>/+-] ))"
_TOKEN = re.compile(
    rf"\|(?P<size>{_ENTRY})\||(?P<entry>{_ENTRY})|(?P<number>{_NUMBER})|(?P<name>ln|exp|[a-z])"
    rf"|(?P<minus>{_AFTER_SIGN}-)|(?P<sign>[-+=<>/()])|\s+"
)
_SIGN, _MINUS, _THIN = '<mo stretchy="false">{}</mo>', '<mo form="prefix">&#8722;</mo>', '<mspace width="0.17em"/>'
_BARS = '<mrow><mo form="prefix" stretchy="false">|</mo>{}<mo form="postfix" stretchy="false">|</mo></mrow>'


def typeset(text: str) -> Markup:
    """Escape a sentence for HTML, with its formulas as MathML.

    A formula is a sum, quotient or comparison of entries (W_11, |b_22|, W_11²), numbers, ln and exp; or a number
    such as 1e-6. All other text is unchanged.

    Example:
        >>> str(typeset("b_22 & more"))
        '<math><msub><mi>b</mi><mn>22</mn></msub></math> &amp; more'
    """
    from markupsafe import Markup

    parts, end = [], 0
    for found in _FORMULA.finditer(text):
        formula = found.group()
        if not _IS_ONE.search(formula):
            continue
        parts += [escape(text[end : found.start()]), f"<math>{_mathml(formula)}</math>"]
        end = found.end()
    return Markup("".join([*parts, escape(text[end:])]))


def _mathml(formula: str) -> str:
    return "".join(map(_element, _TOKEN.finditer(formula)))


def _element(token: re.Match[str]) -> str:
    kind, text = token.lastgroup or "space", token.group().strip("|")
    if kind == "size":
        return _BARS.format(_mathml(text))
    if kind == "entry":
        letter, index = text.removesuffix("²").split("_")
        both = f"<mi>{letter}</mi><mn>{index}</mn>"
        return f"<msubsup>{both}<mn>2</mn></msubsup>" if text.endswith("²") else f"<msub>{both}</msub>"
    if kind == "number":
        digits, _, exponent = text.partition("e")
        if not exponent:
            return f"<mn>{digits}</mn>"
        sign, size = _MINUS * exponent.startswith("-"), exponent.lstrip("-+0") or "0"
        power = f"<msup><mn>10</mn><mrow>{sign}<mn>{size}</mn></mrow></msup>"
        return power if digits == "1" else f"<mn>{digits}</mn><mo>×</mo>{power}"
    if kind == "name":
        return f"{_THIN}<mi>ln</mi>{_THIN}" if text == "ln" else f"<mi>{text}</mi>"
    if kind == "minus":
        return _MINUS
    if kind == "sign":
        return _SIGN.format(escape(text).replace("-", "&#8722;"))
    return ""
