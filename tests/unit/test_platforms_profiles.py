"""Profiles as data: their examples, the loader, replies, outcomes, spellings, settings of a source."""

import re
from decimal import Decimal

import msgspec
import pytest

from tracker.platforms import loader
from tracker.platforms.compiled import Source
from tracker.platforms.forms import FORMS
from tracker.platforms.loader import Problem, Shelf, load, parse
from tracker.platforms.outcome import outcome_of
from tracker.platforms.platforms import Platforms
from tracker.platforms.profile import ClickId, Export, Macros, Outcomes, Reply, Shape, SourceSettings
from tracker.platforms.reader import read
from tracker.platforms.reading import KEYS, as_dict
from tracker.platforms.replies import GIF, answer_to
from tracker.platforms.spellings import spellings

LOADED = load()
PLATFORMS = Platforms(LOADED.sources)
EXAMPLES = [(source, example) for source in PLATFORMS for example in source.profile.example]
TAKEABLE = {
    "tune", "everflow", "cake", "affise", "scaleo", "postaffiliatepro", "voluum", "redtrack", "keitaro", "binom", "idevaffiliate",
    "swaarm", "offer18", "hitpath", "linktrust", "trackdesk", "impact", "partnerstack", "bemob", "prosper202",
}  # fmt: skip
MINE = """
name = "mine"
title = "Mine"
class = "takeable"
[hosts]
exact = ["go.mine.example"]
[[shape]]
name = "click"
kind = "click"
path = ["/out"]
reads.partner_id = "who"
[[example]]
url = "https://go.mine.example/out?who=ann"
kind = "click"
partner_id = "ann"
"""


def of(name):
    return LOADED.sources[name].profile


def url(address, platform):
    return PLATFORMS.read_url(address, platform)


@pytest.mark.parametrize(("source", "example"), EXAMPLES, ids=lambda found: getattr(found, "platform", None) or found.url[:70])
def test_an_example_of_a_profile_reads_as_it_says(source, example):
    reading = PLATFORMS.read_url(example.url, source.platform)
    found = as_dict(reading)
    assert {key: found[key] for key in KEYS if key != "platform"} == {key: getattr(example, key) for key in KEYS if key != "platform"}
    assert example.certain is None or reading.is_certain == example.certain
    assert PLATFORMS.read_url(example.url).platform in (None, source.platform)


def test_every_profile_has_four_examples_and_loads():
    assert LOADED.problems == ()
    assert len(LOADED.sources) == 49
    few = [source.platform for source in PLATFORMS if len(source.profile.example) < 4]
    assert few == []
    assert {source.platform for source in PLATFORMS if source.profile.klass == "takeable"} == TAKEABLE


def test_every_shape_is_read_by_an_example():
    """A shape that no example reaches may be hidden behind another one."""
    reached = {(source.platform, example.kind) for source, example in EXAMPLES}
    kinds = {(source.platform, shape.kind) for source in PLATFORMS for shape in source.profile.shape}
    allowed = {("everflow", "impression")}
    missing = {pair for pair in kinds - reached - allowed if pair[0] in TAKEABLE and pair[1] == "click"}
    assert missing == set()


def test_takeable_platforms_say_what_their_server_answers():
    for name in TAKEABLE:
        profile = of(name)
        if any(shape.kind == "postback" for shape in profile.shape):
            assert any(reply.to == "postback" for reply in profile.reply), name


def test_a_folder_adds_and_overrides_and_a_broken_file_stops_nobody(tmp_path):
    (tmp_path / "mine.toml").write_text(MINE)
    (tmp_path / "tune.toml").write_text(MINE.replace('"mine"', '"tune"').replace("go.mine.example", "go.tune.example"))
    (tmp_path / "broken.toml").write_text('name = "broken"\ntitle = \n')
    (tmp_path / "wrong.toml").write_text(MINE.replace('"mine"', '"wrong"').replace('kind = "click"\npath', 'kind = "clock"\npath'))
    (tmp_path / "form.toml").write_text(
        MINE.replace('"mine"', '"form"').replace(
            "[[example]]", '[[shape]]\nname = "b"\nkind = "click"\nforms = { a = "no" }\nreads.offer_id = "a"\n[[example]]', 1
        )
    )
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    found = load(tmp_path)
    platforms = Platforms(found.sources)
    assert platforms.read_url("https://go.mine.example/out?who=ann").partner_id == "ann"
    assert platforms.read_url("https://x.example/out?who=ann", "tune").partner_id == "ann"
    assert len(found.sources) == 50
    told = {problem.file.rpartition("/")[2]: problem for problem in found.problems}
    assert told["broken.toml"].line == 2
    assert told["wrong.toml"].line == 9
    assert "clock" in told["wrong.toml"].reason
    assert "there is no form 'no'" in told["form.toml"].reason
    assert told["form.toml"].line == 12
    assert set(told) == {"broken.toml", "wrong.toml", "form.toml", "bytes.toml"}
    assert all("\n" not in str(problem) for problem in found.problems)


def test_a_broken_override_leaves_the_shipped_profile_in_force(tmp_path):
    (tmp_path / "tune.toml").write_text('name = "tune"\n')
    found = load(tmp_path)
    assert len(found.problems) == 1
    assert found.sources["tune"].profile.title == "TUNE (HasOffers)"


def test_a_folder_that_is_not_there_is_told(tmp_path):
    found = load(tmp_path / "nowhere")
    assert len(found.sources) == 49
    assert "no such folder" in str(found.problems[0])


def test_a_host_of_two_platforms_is_told_and_stays_with_the_first(tmp_path):
    (tmp_path / "zz.toml").write_text(MINE.replace('"mine"', '"zz"').replace("go.mine.example", "prf.hn"))
    found = load(tmp_path)
    assert "prf.hn" in str(found.problems[0])
    assert Platforms(found.sources).platform_of(b"prf.hn") == "partnerize"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (('path = ["/out"]', 'path = ["out"]'), "must begin with a slash"),
        (('path = ["/out"]', 'path = ["/{nobody}"]'), "no field 'nobody'"),
        (('path = ["/out"]', 'path = ["/{offer_id:emoji}"]'), "no class 'emoji'"),
        (('path = ["/out"]', 'path = ["/a{b"]'), "is no part of a path"),
        (('name = "mine"', 'name = "Mine Own"'), "must be 1 to 32"),
        (('kind = "click"\npath', 'kind = "click"\npage = "cut"\npth'), "pth"),
    ],
)
def test_what_is_wrong_with_a_profile_is_said_in_one_sentence(change, says):
    found = parse(MINE.replace(*change), "mine.toml")
    assert isinstance(found, Problem)
    assert says in found.reason
    assert found.line > 0


def test_parameters_that_an_operator_renamed():
    settings = SourceSettings(parameters={"a_aid": "p", "a_bid": "b"}, base_path="/shop")
    source = Shelf().with_settings("postaffiliatepro", settings)
    reading = read(source, b"shop.example", b"/x/scripts/click.php?p=ann&b=1&a_aid=bob&tag=carl")
    assert (reading.partner_id, reading.creative_id, reading.is_certain) == ("ann", "1", True)
    assert read(source, b"shop.example", b"/scripts/click.php?tag=carl").kind is None
    pretty = Shelf().with_settings("affiliatewp", SourceSettings(parameters={"ref": "friend"}))
    assert read(pretty, b"shop.example", b"/a/friend/7/").partner_id == "7"
    assert read(pretty, b"shop.example", b"/a/ref/7/").partner_id is None
    assert read(pretty, b"shop.example", b"/?friend=7&ref=8").destination == "https://shop.example/?ref=8"


def test_base_path_and_renamed_script_and_id_maps():
    tune = Shelf().with_settings("tune", SourceSettings(base_path="/track/"))
    assert read(tune, b"h", b"/track/aff_c?aff_id=1").partner_id == "1"
    assert read(tune, b"h", b"/aff_c?aff_id=1").kind is None
    binom = Shelf().with_settings("binom", SourceSettings(paths={"**/click.php": "/go.php"}))
    assert read(binom, b"h", b"/go.php?key=k1").offer_id == "k1"
    mapped = Shelf().with_settings("tune", SourceSettings(partner_ids={"1": "p-one"}, offer_ids={"é": "o"}))
    reading = read(mapped, b"h", b"/aff_c?aff_id=1&offer_id=%C3%A9")
    assert (reading.partner_id, reading.offer_id) == ("p-one", "o")
    assert (reading.raw.partner_id, reading.raw.offer_id) == (b"1", "é".encode())


def test_hosts_of_a_source_tell_its_platform():
    source = Shelf().with_settings("tune", SourceSettings(hosts=("Go.Brand.example",)))
    platforms = Platforms({**LOADED.sources, "tune": source})
    assert platforms.platform_of(b"go.brand.example:443") == "tune"


def test_settings_of_a_source_are_checked():
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"parametres": {}}, SourceSettings)


def test_replies_are_the_platforms_own_bytes():
    tune = of("tune")
    postback = url("https://x/aff_lsr?transaction_id=1", "tune")
    assert answer_to(tune, postback).body == b"success=true;"
    refused = answer_to(tune, postback, outcome="refused", values={"error": "Invalid Trans. ID #1"})
    assert (refused.status, refused.body) == (200, b"success=false; err_msg=Invalid Trans. ID #1;")
    assert b"SUCCESS" in answer_to(of("cake"), url("https://x/p.ashx?f=pb&o=1&t=2", "cake")).body
    assert answer_to(tune, url("https://x/aff_i?offer_id=1", "tune")).body == GIF
    assert answer_to(of("webgains"), url("https://x/link.html?wglinkid=1", "webgains")).content_type == "image/gif"
    keitaro = of("keitaro")
    assert answer_to(keitaro, url("https://x/k/postback?subid=1&return=OK", "keitaro")).body == b"OK"
    assert answer_to(keitaro, url("https://x/k/postback?subid=1", "keitaro")).body == b"Success"
    scaleo = url("https://x/click?o=1&a=2&return=click_id", "scaleo")
    assert answer_to(of("scaleo"), scaleo, values={"click_id": "abc"}).body == b"abc"
    everflow = url("https://x/clk?oid=1&affid=2", "everflow")
    assert answer_to(of("everflow"), everflow, values={"click_id": "abc"}).body == b'{"transaction_id":"abc"}'
    assert answer_to(of("pepperjam"), url("https://x/t/1-2", "pepperjam")).body == b""


@pytest.mark.parametrize(
    ("platform", "address", "status", "amount"),
    [
        ("affise", "https://x/postback?clickid=1&status=1&sum=2", "approved", Decimal(2)),
        ("affise", "https://x/postback?clickid=1&status=5", "pending", None),
        ("affise", "https://x/postback?clickid=1&status=3", "rejected", None),
        ("cj", "https://x/u?CID=1&AMOUNT=-4.50", "reversed", Decimal("4.50")),
        ("rakuten", "https://x/nvp?mid=1&amtlist=-250&tr=a", "reversed", Decimal("2.50")),
        ("binom", "https://x/click.php?cnv_id=1&payout=auto", "approved", None),
        ("bemob", "https://x/postback?cid=1&status=click", "ignored", None),
        ("keitaro", "https://x/k/postback?subid=1&status=good&sale_status=ok,good", "approved", None),
        ("keitaro", "https://x/k/postback?subid=1&status=trash", "rejected", None),
        ("keitaro", "https://x/k/postback?subid=1&status=ping&ignore_status=ping,test", "ignored", None),
        ("scaleo", "https://x/track/conv?click_id=1&conv_status=hold", "pending", None),
        ("tune", "https://x/aff_lsr?transaction_id=1&amount=-1", "approved", Decimal(-1)),
    ],
)
def test_status_words_and_amounts_become_ours(platform, address, status, amount):
    found = outcome_of(of(platform), url(address, platform))
    assert (found.status, found.amount, found.is_readable) == (status, amount, True)


def test_an_amount_that_is_none_is_told():
    assert not outcome_of(of("tune"), url("https://x/aff_lsr?amount=1%2C50", "tune")).is_readable


def test_what_makes_two_postbacks_the_same():
    assert outcome_of(of("tune"), url("https://x/aff_goal?a=lsr&adv_sub=O1&goal_id=2", "tune")).same == ("O1", "2")
    assert outcome_of(of("everflow"), url("https://x/?nid=1&transaction_id=c&event_id=2", "everflow")).same == ("c", "2")
    assert outcome_of(of("tune"), url("https://x/aff_lsr?amount=1", "tune")).same == ()


def test_spellings_to_look_up():
    assert spellings(of("tune"), "0042") == ("0042", "42")
    assert spellings(of("cake"), "-01") == ("-01", "-1")
    assert spellings(of("rakuten"), "007") == ("007",)
    assert spellings(of("clickbank"), "Ann") == ("Ann", "ann")
    assert spellings(of("affiliatewp"), "Jose\u0301") == ("Jose\u0301", "José")


def test_describe_says_what_a_list_needs():
    told = loader.describe(LOADED.sources["tune"])
    assert told["kinds"] == ["click", "impression", "pixel", "postback"]
    assert "*.go2cloud.org" in told["hosts"]


def test_a_source_is_compiled_once_and_says_its_platform():
    assert Source(of("tune")).platform == "tune"
    assert PLATFORMS.source("nobody") is None


def test_the_readme_is_true():
    readme = (loader.SHIPPED / "README.md").read_text()
    written = re.search(r"```toml\n(.*?)```", readme, re.DOTALL)
    source = parse(written[1])
    assert isinstance(source, Source)
    platforms = Platforms({"clickhut": source})
    for example in source.profile.example:
        found = as_dict(platforms.read_url(example.url))
        assert {key: found[key] for key in KEYS[1:]} == {key: getattr(example, key) for key in KEYS[1:]}
    rows = dict(re.findall(r"^\| .*?\(`([a-z0-9]+)`\) \| ([a-z-]+) \|", readme, re.MULTILINE))
    assert rows == {source.platform: source.profile.klass for source in PLATFORMS}
    for form in FORMS:
        assert f"`{form}`" in readme
    for part in (Shape, Reply, Outcomes, ClickId, Macros, Export):
        assert [
            field
            for field in part.__struct_fields__
            if field != "reads" and f"`{field}`" not in readme and f".{field}`" not in readme and f"{field} =" not in readme
        ] == []


def test_names_that_differ_in_case_only_are_not_guessed_and_lacks_decides():
    shapes = MINE.replace('reads.partner_id = "who"', 'lacks = ["order"]\nreads.partner_id = "who"\nreads.sub_ids = ["Tag", "tag"]')
    source = parse(
        shapes.replace("[[example]]", '[[shape]]\nname = "sale"\nkind = "pixel"\npath = ["/out"]\nreads.order_id = "order"\n[[example]]', 1)
    )
    assert isinstance(source, Source)
    assert read(source, b"h", b"/out?who=ann&Tag=1&tag=2&TAG=3").sub_ids == {"Tag": "1", "tag": "2"}
    assert read(source, b"h", b"/out?who=ann&TAG=3").sub_ids == {}
    assert [read(source, b"h", b"/out?who=ann&order=" + order).kind for order in (b"", b"7")] == ["click", "pixel"]


def test_the_first_of_a_repeated_parameter_decides_between_shapes():
    assert url("https://x/p.ashx?f=pb&f=img&t=1", "cake").kind == "postback"
    assert url("https://x/p.ashx?f=img&f=pb&t=1", "cake").kind == "pixel"
