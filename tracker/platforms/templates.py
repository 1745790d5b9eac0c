"""Path and host templates of profiles, compiled to expressions that match in linear time (possessive, no backtracking).

/aff_c                          a literal; a slash at the end is always optional
/c/{partner_id:digits}/…        a field, with what it may be made of
**/scripts/click.php            any folders before
/click/**                       any rest, which the shape's style reads
**/<ref>/{partner_id}/**        the name of the parameter `ref` at this source
*                               any path
"""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

ANY_PATH = "*"
_CLASSES = {
    "digits": "[0-9]",
    "alnum": "[A-Za-z0-9]",
    "hex": "[0-9A-Fa-f]",
    "word": "[A-Za-z0-9_-]",
    "lower": "[a-z0-9]",
}
_FOLDER = "[^/]++"
_UUID = "[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}"
_TOKEN = re.compile(r"\{([A-Za-z_.0-9]+)(?::(?:([A-Za-z0-9_-]*)\+)?([a-z]+)(?: ([0-9]+)(?:-([0-9]+))?)?)?\}|<([^<>]+)>")


class PathPattern(NamedTuple):
    """A compiled path. `fields` are the names of its groups g0, g1 …; `literal` is the path where it is nothing else."""

    exact: re.Pattern[bytes]
    folded: re.Pattern[bytes]
    fields: tuple[str, ...]
    literal: bytes | None


def compile_path(template: str, names: Callable[[str], Iterable[str]] = lambda name: (name,), base: str = "") -> PathPattern:
    """Compile `template`. `names` gives what `<x>` stands for, `base` is put before it. ValueError says what is wrong."""
    if template == ANY_PATH:
        anything = re.compile(rb"(?:.*)", re.DOTALL)
        return PathPattern(anything, anything, (), None)
    lead, body, rest = "", template, ""
    if body.startswith("**"):
        lead, body = r"(?P<lead>(?:/[^/]*+)*?)", body[2:]
    else:
        lead = re.escape(base)
    if body.endswith("/**"):
        body, rest = body[:-3], r"(?:/(?P<rest>.*))?"
    if not body.startswith("/"):
        raise ValueError(f"the path {template!r} must begin with a slash, or be *")
    middle, fields = _body(body, names)
    whole = f"{lead}{middle}{rest}" + ("" if rest else "/?+")
    is_literal = not rest and not {"{", "<"} & set(body) and not template.startswith("**")
    literal = (base + body).rstrip("/") or "/"
    data = whole.encode("utf-8")
    return PathPattern(
        re.compile(data, re.DOTALL), re.compile(data, re.DOTALL | re.IGNORECASE), fields, literal.encode() if is_literal else None
    )


def compile_host(template: str) -> tuple[re.Pattern[bytes], tuple[str, ...]]:
    """Compile a host template such as `{partner_id}.{offer_id}.hop.clickbank.net`."""
    middle, fields = _body(template, lambda name: (name,), separator=".")
    return re.compile(middle.encode("utf-8")), fields


def _body(body: str, names: Callable[[str], Iterable[str]], separator: str = "/") -> tuple[str, tuple[str, ...]]:
    made: list[str] = []
    fields: list[str] = []
    end = 0
    stripped = body.rstrip("/")
    for token in _TOKEN.finditer(stripped):
        made.append(_literal(stripped[end : token.start()]))
        end = token.end()
        if token[6] is not None:
            made.append("(?>" + "|".join(map(re.escape, names(token[6]))) + ")")
            continue
        piece = _piece(token, stripped[end : end + 1], separator)
        made.append(piece if token[1] == "_" else f"(?P<g{len(fields)}>{piece})")
        if token[1] != "_":
            fields.append(token[1])
    made.append(_literal(stripped[end:]))
    return "".join(made), tuple(fields)


def _literal(piece: str) -> str:
    if set("{}<>*") & set(piece):
        raise ValueError(f"{piece!r} is no part of a path: a field is {{name}} or {{name:class}}")
    return re.escape(piece)


def _piece(token: "re.Match[str]", following: str, separator: str) -> str:
    _, start, kind, least, most, _ = token.groups()
    prefix = re.escape(start or "")
    if kind == "uuid":
        return prefix + _UUID
    if kind is None:
        stop = re.escape(separator + (following if following not in ("", separator) else ""))
        return f"[^{stop}]++"
    if kind not in _CLASSES and kind != "folders":
        raise ValueError(f"there is no class {kind!r}; classes are uuid, folders, {', '.join(_CLASSES)}")
    if kind == "folders":
        return f"(?:{_FOLDER}/){{{int(least or 1) - 1},{int(most or least or 5) - 1}}}+{_FOLDER}"
    times = "++" if least is None else f"{{{least},{most or least}}}+"
    return prefix + _CLASSES[kind] + times
