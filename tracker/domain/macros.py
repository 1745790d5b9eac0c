"""Macros: `{click_id}`-style tokens in a destination, compiled once, filled once a click."""

import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote_from_bytes, unquote

from tracker.domain.urls import printable, printable_url

MACROS = frozenset(
    {"click_id", "partner", "campaign", "link", "creative", "ref", "country", "device", "os", "browser", "language"}
    | {"timestamp", "random", "old_click_id"}
    | {f"sub{number}" for number in range(1, 11)}
)
_TOKEN = re.compile(r"\{([A-Za-z0-9_.-]{1,64})\}")
_CLICK_ID = "click_id"


class Template:
    """A compiled destination. Immutable; `fill` gives ASCII 0x21–0x7e whatever the values hold: safe in a header.

    `needs` names the macros it holds, so that a caller works out country or device only when they are wanted.
    """

    __slots__ = ("_names", "_only_click_id", "_prefix", "_suffix", "_texts", "needs", "text")

    def __init__(self, text: str, texts: Iterable[bytes], names: Iterable[str]) -> None:
        """For `compile`: literal pieces, one more than names between them."""
        self.text = text
        self._texts, self._names = tuple(texts), tuple(names)
        self.needs = frozenset(self._names)
        self._only_click_id = self._names == (_CLICK_ID,)
        self._prefix, self._suffix = self._texts[0], self._texts[-1]

    @classmethod
    def compile(cls, text: str, click_id_param: str = "") -> "Template":
        """Cut `text` at its macros.

        Args:
            text: a destination; unknown `{tokens}` stay as text (see `unknown_macros`).
            click_id_param: the query parameter that carries the click id when no `{click_id}` stands in `text`;
                it goes before a fragment. Empty: nothing is added (fallbacks).
        """
        source = text.strip()
        if click_id_param and not any(name == _CLICK_ID for name in _TOKEN.findall(source)):
            source = _with_parameter(source, click_id_param, "{click_id}")
        pieces = _TOKEN.split(source)
        texts, names = [pieces[0]], []
        for name, literal in zip(pieces[1::2], pieces[2::2], strict=True):
            if name in MACROS:
                names.append(name)
                texts.append(literal)
            else:
                texts[-1] += f"{{{name}}}{literal}"
        return cls(text, [printable_url(texts[0]), *(printable(_bytes(piece)) for piece in texts[1:])], names)

    def fill(self, values: Mapping[str, bytes]) -> bytes:
        """The destination of one click: each value percent-encoded (unreserved kept), a missing one empty."""
        if self._only_click_id:
            return self._prefix + encode(values.get(_CLICK_ID, b"")) + self._suffix
        parts = [self._prefix]
        for name, literal in zip(self._names, self._texts[1:], strict=True):
            parts += (encode(values.get(name, b"")), literal)
        return b"".join(parts)

    def __repr__(self) -> str:
        return f"Template({self.text!r})"


def encode(value: bytes) -> bytes:
    """`value` percent-encoded: RFC 3986 unreserved characters stay, all else becomes `%XX`."""
    if value.isalnum() or not value:  # bytes.isalnum is ASCII only
        return value
    return quote_from_bytes(value, safe="").encode("ascii")


def with_click_id(url: bytes, click_id_param: str, click_id: bytes) -> bytes:
    """A judged deep link with the click id in its query, before a fragment; one it carried already goes, so that no shop reads that."""
    return _with_parameter(_without(url.decode("ascii"), click_id_param), click_id_param, encode(click_id).decode("ascii")).encode("ascii")


def unknown_macros(text: str) -> list[str]:
    """The `{tokens}` of `text` that are no macros, in order, each once: for whoever lets a destination be entered."""
    return list(dict.fromkeys(name for name in _TOKEN.findall(text) if name not in MACROS))


def _without(url: str, name: str) -> str:
    base, hash_sign, fragment = url.partition("#")
    path, question, query = base.partition("?")
    kept = [pair for pair in query.split("&") if unquote(pair.partition("=")[0]) != name]
    return path + (question + "&".join(kept) if kept else "") + hash_sign + fragment


def _with_parameter(url: str, name: str, value: str) -> str:
    base, hash_sign, fragment = url.partition("#")
    sign = "&" if "?" in base else "?"
    joint = "" if base.endswith(("?", "&")) else sign
    return f"{base}{joint}{quote_from_bytes(_bytes(name), safe='')}={value}{hash_sign}{fragment}"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
