"""Laws of reading old URLs: what a profile's shape builds is read back; no bytes raise; the short way says what the long one says."""

import re
from base64 import b64encode
from random import Random
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tests.thorough import examples
from tracker.platforms import quick
from tracker.platforms.loader import load
from tracker.platforms.platforms import Platforms, split_url
from tracker.platforms.reader import read, read_any
from tracker.platforms.reading import as_dict
from tracker.platforms.values import is_unfilled, text

PLATFORMS = Platforms(load().sources)
SHAPES = [(source, shape) for source in PLATFORMS for shape in source.profile.shape]
EXAMPLES = [example.url.encode() for source in PLATFORMS for example in source.profile.example]
FUZZ_CASES = 40_000  # deterministic, on top of Hypothesis' own
ID_FIELDS = ("partner_id", "offer_id", "creative_id", "click_id", "link_key")
TOLD_FIELDS = ("order_id", "amount", "currency", "status", "goal", "token")
PAGE_PATH = "/de/shop/page-1.php"
TOKEN = re.compile(r"\{([A-Za-z_.0-9]+)(?::(?:([A-Za-z0-9_-]*)\+)?([a-z]+)(?: ([0-9]+)(?:-([0-9]+))?)?)?\}|<([^<>]+)>")

ids = st.from_regex(r"[A-Za-z0-9é/][A-Za-z0-9_:=+&%é/ -]{0,12}[A-Za-z0-9é]", fullmatch=True).filter(
    lambda value: not is_unfilled(value.encode())
)
numbers = st.integers(-1, 10**12).map(str) | st.integers(0, 99).map(lambda number: f"{number:04}")
sub_ids = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n\t"), max_size=20)
words = st.from_regex(r"[a-z0-9-]{1,8}", fullmatch=True)
destinations = st.builds(
    lambda scheme, host, path, query: f"{scheme}://{host}.example/{path}" + (f"?{query}" if query else ""),
    st.sampled_from(["http", "https"]),
    words.map(lambda word: f"a{word}b"),
    st.from_regex(r"[A-Za-z0-9/._~%2F-]{0,20}", fullmatch=True),
    st.from_regex(r"([a-z]{1,3}=[A-Za-z0-9%26+]{0,6}&){0,3}[a-z]=1", fullmatch=True) | st.just(""),
)


def first_name(spec):
    return spec.split("|")[0]


def expanded(spec):
    run = re.fullmatch(r"(.*?)(\d+)\.\.(\d+)", first_name(spec))
    return f"{run[1]}{run[3]}" if run else first_name(spec).replace("*", "x")


def formed(form, field, draw):
    """A value for a parameter with a form: how it is written, and the fields that it gives."""
    number = draw(st.integers(0, 10**6).map(str))
    letters = draw(st.from_regex(r"[a-z]{3,9}", fullmatch=True))
    return {
        "cents": (number, {field: f"{int(number) / 100:.2f}"}),
        "cents_sum": (f"{number}|100", {field: f"{int(number) / 100 + 1:.2f}"}),
        "upper": (letters, {field: letters.upper()}),
        "base64_key": (b64encode(letters.encode()).decode().rstrip("="), {field: letters}),
        "brackets": (f"[[{letters}]]", {field: letters}),
        "dotted": (f"{number}.7", {field: number, "creative_id": "7"}),
        "underscored": (f"{number}_1_2", {field: number, "creative_id": "1_2"}),
        "named": ("1", {field: "lp=1"}),
        "refersion": (f"{number}.a1", {field: f"{number}.a1"}),
        "page_number": ("https://x.example/", {"destination": "https://x.example/"}),
        "tduid": (f"(h)({number})(24)(e)()", {field: f"(h)({number})(24)(e)()", "offer_id": number, "partner_id": "24", "sub.epi": "e"}),
        "awc": (f"{number}_1403695822_ab", {field: f"{number}_1403695822_ab", "offer_id": number}),
        "site_id": ("lMh2Xiq9x00-" + "a" * 22, {field: "lMh2Xiq9x00-" + "a" * 22, "partner_id": "lMh2Xiq9x00"}),
        "decimal_only": (number, {field: number}),
    }[form]


class Built:
    """A URL of a shape with what must be read in it."""

    def __init__(self, draw, source, shape):
        self.draw, self.source, self.shape = draw, source, shape
        self.fields, self.subs, self.pairs, self.tail = {}, {}, [], None
        earlier = source.profile.shape[: source.profile.shape.index(shape)]
        mine = {name for need in shape.needs for name in need.split("|")} | set(shape.equals)
        hidden = {name for other in earlier for need in other.needs for name in need.split("|")} - mine
        self.path = self.fill(draw(st.sampled_from(shape.path))) if shape.path != ("*",) else PAGE_PATH
        self.host = self.fill(shape.host) if shape.host else (shape.hosts[0] if shape.hosts else "old.example")
        self.add_ids(hidden)
        self.add_sub_ids(hidden)
        self.pairs += list(shape.equals.items())
        for need in shape.needs:
            if not any(name in need.split("|") for name, _ in self.pairs) and need != "?":
                self.pairs.append((first_name(need), "1"))
        self.destination = None
        if shape.reads.destination and "destination" not in self.fields and first_name(shape.reads.destination) not in hidden:
            self.destination = draw(destinations | st.none())

    def fill(self, template):
        def value(token):
            name, prefix, kind, least, most, variable = token.groups()
            if variable:
                return variable
            made = self.part(kind, int(least or 1), int(most or least or 8))
            if name != "_":
                form = self.shape.forms.get(f"{{{name}}}")
                self.put(name, (prefix or "") + (made.upper() if form == "upper" else made))
            return (prefix or "") + made

        start = "/a/b" if template.startswith("**") else ""
        return start + TOKEN.sub(value, template.removeprefix("**").removesuffix("/**"))

    def part(self, kind, least, most):
        pattern = {"digits": "[1-9]", "alnum": "[a-z0-9]", "hex": "[0-9a-f]", "word": "[a-z0-9-]", "lower": "[a-z0-9]"}.get(
            kind, "[a-z0-9]"
        )
        if kind == "uuid":
            return str(self.draw(st.uuids()))
        if kind == "folders":
            return "/".join(["ab"] * least)
        return self.draw(
            st.from_regex(rf"{pattern}{{{least},{max(least, min(most, 12))}}}", fullmatch=True).filter(lambda made: made[-1] != "-")
        )

    def put(self, field, value):
        if field.startswith("sub."):
            self.subs.setdefault(field[4:], value)
        else:
            self.fields.setdefault(field, value)

    def add_ids(self, hidden):
        for field in (*ID_FIELDS, *TOLD_FIELDS, "destination"):
            name = first_name(getattr(self.shape.reads, field))
            form = self.shape.forms.get(name)
            if not name or name in hidden or field in self.fields or (field == "destination" and form is None):
                continue
            if form:
                written, fields = formed(form, field, self.draw)
                for part, value in fields.items():
                    self.put(part, value)
            else:
                written = self.draw(numbers if self.source.profile.ids == "numeric" and field in ID_FIELDS[:3] else ids)
                self.put(field, written)
            self.pairs.append((name, written))

    def add_sub_ids(self, hidden):
        for spec in self.shape.reads.sub_ids:
            name = expanded(spec)
            if name in hidden or name in self.subs or name in (pair[0] for pair in self.pairs) or not self.draw(st.booleans()):
                continue
            value = self.draw(sub_ids)
            assume(not re.fullmatch(r"\[\[.*\]\]|%[A-Za-z_][\w.]+%", value.strip(), re.DOTALL | re.ASCII))
            if self.shape.style in ("segments", "pairs"):
                value = f"a{value}"
            self.subs[name] = value
            self.pairs.append((name, value))

    def url(self):
        style = self.shape.style
        pairs = self.draw(st.permutations(self.pairs))
        bare = [(name, value) for name, value in pairs if name == "?"]
        named = [(name, value) for name, value in pairs if name != "?"]
        if style == "segments":
            tail = "".join(f"/{name}/{quote(value, safe='')}" for name, value in named)
            return self.page() + tail + (f"/{self.destination}" if self.destination else "")
        if style == "pairs":
            tail = "".join(f"/{name}:{quote(value, safe='')}" for name, value in named)
            encoded = quote(self.destination, safe="") if self.destination and self.draw(st.booleans()) else self.destination
            return self.page() + tail + (f"/destination:{encoded}" if self.destination else "")
        if style == "parentheses":
            made = [f"{name}({quote_plus(value)})" for name, value in named]
            return self.page() + "?" + "".join(made) + (f"url({self.destination})" if self.destination else "")
        written = [quote(value, safe="") for _, value in bare] + [f"{name}={self.encoded(value)}" for name, value in named]
        if self.destination:
            value = self.destination
            for _ in range(self.draw(st.integers(1, 3))):
                value = quote(value, safe="")
            written.insert(len(bare), f"{first_name(self.shape.reads.destination)}={value}")
        self.kept = [pair for pair in written if pair.partition("=")[0] in self.shape.stays]
        mark = "#" if style == "fragment" else "?"
        return self.page() + (mark + "&".join(written) if written else "")

    def encoded(self, value):
        return quote_plus(value) if self.draw(st.booleans()) else quote(value, safe="")

    def page(self):
        return f"https://{self.host}{self.path}"

    def expected(self):
        destination = self.destination or self.fields.get("destination")
        if self.shape.page == "same":
            destination = self.page() + ("?" + "&".join(self.kept) if self.kept else "")
        elif self.shape.page == "cut":
            destination = f"https://{self.host}/" + ("a/b/" if self.path.startswith("/a/b/") else "")
        told = {name: self.fields[name].strip() for name in TOLD_FIELDS if self.fields.get(name, "").strip()}
        return {
            "platform": self.source.platform,
            "kind": self.shape.kind,
            **{name: self.fields.get(name) for name in ID_FIELDS},
            "sub_ids": self.subs,
            "destination": destination,
            "conversion": told if self.shape.kind in ("postback", "pixel") else None,
        }


@pytest.mark.parametrize(("source", "shape"), SHAPES, ids=lambda found: getattr(found, "platform", None) or found.name)
@settings(max_examples=examples(6, 12))
@given(data=st.data())
def test_what_a_shape_builds_is_read_back(source, shape, data):
    built = Built(data.draw, source, shape)
    url = built.url()
    assert as_dict(PLATFORMS.read_url(url, source.platform)) == built.expected(), url


def same_both_ways(source, host, target):
    """Read `target` the short way and the long way; they agree wherever the short one answers."""
    found = read(source, host, target)
    assert as_dict(found)["platform"] == source.platform
    short = quick.read_plain(source, target) if target.startswith(b"/") else None
    if short is not None:
        assert short == read_any(source, host, target), target
    return found


@settings(max_examples=examples(500, 1500))
@given(st.binary(max_size=300), st.sampled_from(sorted(source.platform for source in PLATFORMS)), st.binary(max_size=40))
@example(b"/aff_c?aff_id=\xff%", "tune", b"")
def test_no_bytes_raise(target, platform, host):
    same_both_ways(PLATFORMS.source(platform), host, target)
    PLATFORMS.read_url(host + target)


@settings(max_examples=examples(500, 1500))
@given(
    st.sampled_from(EXAMPLES),
    st.integers(0, 300),
    st.binary(max_size=12),
    st.integers(0, 6),
    st.sampled_from(sorted(source.platform for source in PLATFORMS)),
)
def test_no_damaged_example_raises_on_any_platform(url, at, inserted, dropped, platform):
    at %= len(url) + 1
    scheme, host, target = split_url(url[:at] + inserted + url[at + dropped :])
    same_both_ways(PLATFORMS.source(platform), host, target)
    PLATFORMS.read_url(scheme + b"://" + host + target, platform)


PIECES = b"& ? = # % / ; ( ) : { } [[ ]] %25 %2F %00 \xc2\xa4cy= &amp; // https:// .. \r\n \xff 1 +".split(b" ")


def damaged(random, url):
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(url) + 1)
        how = random.randrange(4)
        if how == 0:
            url = url[:at] + random.choice(PIECES) + url[at:]
        elif how == 1:
            url = url[:at] + url[at + random.randint(1, 5) :]
        elif how == 2:
            url = url[:at] + random.choice(EXAMPLES)[-20:] + url[at:]
        else:
            url = url[:at] + url[at:].swapcase()
    return url


def test_forty_thousand_damaged_examples_raise_nothing_and_both_ways_agree():
    random = Random(20_240_607)  # the same cases each time
    by_platform = [(source, [example.url.encode() for example in source.profile.example]) for source in PLATFORMS]
    kinds = set()
    for _ in range(FUZZ_CASES):
        source, urls = random.choice(by_platform)
        _, host, target = split_url(damaged(random, random.choice(urls)))
        found = same_both_ways(source, host, target)
        kinds.add(found.kind)
        assert (
            found.destination is None
            or re.match(r"https?://", found.destination, re.IGNORECASE)
            or source.platform in ("daisycon", "shareasale")
        )
        assert not is_unfilled((found.click_id or "").encode())
    assert kinds == {"click", "impression", "postback", "pixel", None}


@given(st.binary(max_size=60))
def test_text_is_printable_storable_and_shows_every_broken_byte(value):
    shown = text(value)
    shown.encode()
    assert "\0" not in shown
    assert (shown.encode() == value) or "%" in shown
