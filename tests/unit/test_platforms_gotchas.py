"""What old links do to a reader, each with its number in the facts on platforms (section B)."""

from urllib.parse import unquote_to_bytes

import pytest

from tracker.platforms.loader import Shelf, load
from tracker.platforms.platforms import Platforms, split_url
from tracker.platforms.profile import SourceSettings
from tracker.platforms.reader import read
from tracker.platforms.reading import as_dict

PLATFORMS = Platforms(load().sources)


def see(platform, url):
    return PLATFORMS.read_url(url, platform)


def test_b1_an_unencoded_destination_takes_the_rest_of_the_query():
    raw = "https://shop.example/p?a=1&b=%2520&c[d]=2"
    assert see("tune", f"https://h/aff_c?offer_id=1&aff_id=2&url={raw}").destination == raw
    assert see("linktrust", f"https://h/click.track?CID=1&AFID=2&nonencodedurl={raw}").destination == raw
    assert see("idevaffiliate", f"https://h/idevaffiliate.php?id=2&url={raw}").destination == raw
    assert see("postaffiliatepro", f"https://h/scripts/click.php?a_aid=2&desturl={raw}").destination == raw
    assert see("cj", f"https://h/links/1/type/dlg/{raw}").destination == raw
    assert see("partnerize", f"https://h/click/camref:1/destination:{raw}").destination == raw


def test_b1_a_known_parameter_ends_it_once():
    found = see("tune", "https://h/aff_c?url=https://shop.example/?a=1&offer_id=5&aff_id=6&b=2")
    assert (found.destination, found.offer_id, found.partner_id) == ("https://shop.example/?a=1", "5", "6")
    found = see("tune", "https://h/aff_c?offer_id=5&url=https://shop.example/?a=1&offer_id=9&b=2")
    assert (found.destination, found.offer_id) == ("https://shop.example/?a=1&offer_id=9&b=2", "5")


def test_b1_the_fragment_of_a_stored_url_belongs_to_a_destination_that_runs_to_its_end():
    assert see("tune", "https://h/aff_c?aff_id=1&url=https://shop.example/?a=1#top").destination == "https://shop.example/?a=1#top"
    assert see("cj", "https://h/links/1/type/dlg/https://shop.example/#top").destination == "https://shop.example/#top"
    assert see("tune", "https://h/aff_c?url=https://shop.example/?a=1&aff_id=1#top").destination == "https://shop.example/?a=1"
    assert see("tune", "https://h/aff_c?aff_id=1&url=https%3A%2F%2Fshop.example#top").destination == "https://shop.example"


def test_b1_a_destination_without_a_query_leaks_nothing():
    found = see("tune", "https://h/aff_c?offer_id=1&url=https://shop.example/p&utm_source=x&aff_sub=s")
    assert (found.destination, found.sub_ids) == ("https://shop.example/p", {"aff_sub": "s"})


def test_b1_a_link_of_the_same_platform_inside_stays_whole():
    inner = "https://www.awin1.com/cread.php?awinmid=3&awinaffid=4&ued=https%3A%2F%2Fshop.example"
    found = see("awin", f"https://www.awin1.com/cread.php?awinmid=1&awinaffid=2&ued={inner}")
    assert (found.destination, found.partner_id) == (inner, "2")


@pytest.mark.parametrize("times", range(7))
def test_b2_a_destination_is_decoded_until_it_begins_as_one_and_no_further(times):
    wanted = "https://shop.example/p?a=%26&b=%252F&c=1"
    encoded = wanted
    for _ in range(times):
        encoded = encoded.replace("%", "%25").replace("&", "%26").replace(":", "%3A").replace("/", "%2F").replace("?", "%3F")
    assert see("scaleo", f"https://h/click?o=1&a=2&deep_link={encoded}").destination == wanted


@pytest.mark.parametrize(
    ("platform", "url", "destination"),
    [
        ("admitad", "https://h/g/26qh23putc505d70264a/?ulp=http:%2F%2Fshop.example%2Fa", "http://shop.example/a"),
        ("cj", "https://h/links/1/type/dlg/https:/shop.example/a", "https://shop.example/a"),
        ("tune", "https://h/aff_c?url=https%3A%2Fshop.example%2Fa", "https://shop.example/a"),
        ("shareasale", "https://h/r.cfm?urllink=shop%2Eexample%2Fa%2Db", "shop.example/a-b"),
        ("daisycon", "https://h/c/?dl=de%2Fa", "de/a"),
        ("awin", "https://h/ppc/?12C34&ulp=[[https://shop.example/?a=1&b=2]]", "https://shop.example/?a=1&b=2"),
        ("awin", "https://h/ppc/?12C34&ulp=%5B%5Bhttps%3A%2F%2Fshop.example%5D%5D", "https://shop.example"),
    ],
)
def test_b2_half_encoded_collapsed_schemeless_relative_and_bracketed(platform, url, destination):
    assert see(platform, url).destination == destination


@pytest.mark.parametrize(
    "value",
    [
        "javascript:alert(1)",
        "ftp://shop.example",
        "/relative",
        "//shop.example",
        "data:text/html,x",
        "https://",
        "http:///x",
        "https:\\\\x",
        "%E2%80%AEhttps",
        "",
        "%00https://x",
    ],
)
@pytest.mark.parametrize(
    ("platform", "start"),
    [("tune", "/aff_c?aff_id=1&url="), ("shareasale", "/r.cfm?u=1&urllink="), ("partnerize", "/click/camref:1/destination:")],
)
def test_b3_only_web_addresses_are_destinations(platform, start, value):
    found = see(platform, f"https://h{start}{value}")
    assert found.destination is None
    assert found.partner_id == "1"


def test_b3_a_path_of_the_shop_never_names_another_host():
    for value in ("//evil.example", "%2F%2Fevil.example", "\\evil", "/\\evil", "javascript:x", "%5C%5Cevil"):
        assert see("daisycon", f"https://h/c/?wi=1&dl={value}").destination is None


def test_b4_opaque_keys_keep_their_case_and_bytes():
    assert see("impact", "https://brand.pxf.io/9L5QdY").link_key == "9L5QdY"
    assert see("cj", "https://www.kqzyfj.com/ab81zw41w3JLPMRNQO").link_key == "ab81zw41w3JLPMRNQO"
    found = see("yourls", "https://go.example/caf%E9")
    assert (found.link_key, found.raw.link_key) == ("caf%E9", b"caf\xe9")
    assert see("awin", "https://tidd.ly/aB3").link_key is None
    assert see("awin", "https://tidd.ly/aB3x").link_key == "aB3x"
    assert see("awin", "https://nottidd.ly/aB3x").link_key is None
    assert see("hitpath", "https://h/?E=7%20a").link_key == "7 a"
    assert see("tradetracker", "https://h/?c=1&a=2%20a").partner_id == "2"


def test_b5_ids_in_fragment_host_path_parentheses_and_coupon():
    assert see("postaffiliatepro", "https://shop.example/a#a_aid=ann&a_bid=b").partner_id == "ann"
    assert see("clickbank", "http://ann.acme.hop.clickbank.net/").offer_id == "acme"
    assert see("linktrust", "http://h/track.aspx/CID/1/AFID/2").partner_id == "2"
    assert see("affiliatewp", "https://shop.example/p/ref/7/").partner_id == "7"
    assert see("affiliatewp", "https://shop.example/ref/7/ref/8/").partner_id == "7"
    assert see("tradedoubler", "http://h/click?p(1)a(2)g(3)").partner_id == "2"
    assert see("refersion", "https://shop.example/discount/TEN?rfsn=1.a").sub_ids == {"coupon": "TEN"}


def test_b6_renamed_parameters_hashed_scripts_and_folders():
    found = see("postaffiliatepro", "https://shop.example/a/b/scripts/zhkc57n4awm?ref_id=ann")
    assert (found.partner_id, found.doubts) == ("ann", ("renamed parameter",))
    assert see("rewardful", "https://shop.example/?rfsn=tok").partner_id == "tok"


def test_b7_case_exact_first_then_folded():
    assert see("cake", "http://h/P.ASHX?F=PB&R=1&T=2").click_id == "1"
    assert see("linktrust", "http://h/Click.Track?cid=1&AfId=2").partner_id == "2"
    assert see("rakuten", "https://h/deeplink?id=aBcDeFgHiJk&mid=1").partner_id == "aBcDeFgHiJk"
    folded = see("awin", "https://www.awin1.com/CREAD.PHP?AWINAFFID=1")
    assert (folded.partner_id, folded.doubts) == ("1", ("path in another case",))
    assert see("cake", "http://h/C.ASHX?A=1").is_certain
    assert see("keitaro", "https://h/AbC").offer_id == "AbC"


def test_b7_a_name_that_is_two_when_folded_is_not_guessed():
    found = see("cj", "https://shop.example/?cjevent=x&SID=a&PID=1")
    assert found.sub_ids == {"SID": "a"}


def test_b8_ids_stay_text():
    found = see("scaleo", "https://h/click?o=0016&a=-1")
    assert (found.offer_id, found.partner_id) == ("0016", "-1")
    assert see("rakuten", "https://h/deeplink?id=BF/ADxwv1Mc").partner_id == "BF/ADxwv1Mc"
    assert see("rakuten", "https://h/deeplink?id=BF%2FADxwv1Mc").partner_id == "BF/ADxwv1Mc"
    assert see("affiliatewp", "https://h/?ref=Jos%C3%A9").partner_id == "José"
    assert see("affiliatewp", "https://h/?ref=Jose%CC%81").raw.partner_id == "Jose\u0301".encode()


@pytest.mark.parametrize(
    "macro",
    [
        "{click_id}",
        "{replace_it}",
        "!!!id!!!",
        "%23SUB_ID%23",
        "(sub_id)",
        "OPTIONAL",
        "TRANSACTION_ID",
        "REPLACE",
        "[=ClickID=]",
        "%SUB%",
        "%25SUB%25",
        "%23%7Bclick.id%7D",
        "[[[click_id]]]",
        "${click[id]}",
        "[clickid]",
        "%7Bclick_id%7D",
        "pre-{clickid}",
        "{}",
        "{{clickid}}",
        "%3Cyour%20id%3E",
    ],
)
def test_b9_an_unreplaced_macro_is_no_id_but_a_sub_id_as_it_came(macro):
    found = see("tune", f"https://h/aff_lsr?transaction_id={macro}&adv_sub={macro}&amount={macro}&adv_sub2={macro}")
    assert found.click_id is None
    assert as_dict(found)["conversion"] == {}
    assert found.sub_ids["adv_sub2"] != ""
    assert see("tune", f"https://h/aff_c?aff_id={macro}&offer_id={macro}").ids == (None,) * 5


def test_b9_a_percent_macro_is_not_decoded():
    assert see("tune", "https://h/aff_c?aff_sub=%DCI%&aff_sub2=%AFF_ID%").sub_ids == {"aff_sub": "%DCI%", "aff_sub2": "%AFF_ID%"}


@pytest.mark.parametrize(
    "query",
    [
        "aff_id=2&amp;offer_id=1&amp;aff_sub=s",
        "aff_id=2&#38;offer_id=1&#038;aff_sub=s",
        "aff_id=2&amp;amp;offer_id=1&aff_sub=s",
        "aff_id=2?offer_id=1&aff_sub=s",
        "?aff_id=2&offer_id=1&aff_sub=s",
        "&aff_id=2&&offer_id=1&aff_sub=s&",
        "aff_id=2;offer_id=1;aff_sub=s",
        "aff_id=2&offer\r\n_id=1&aff_sub=s",
        "aff_id=2%20&offer_id=1).&aff_sub=s",
        "aff_sub=s&offer_id=1&aff_id=2)",
        "aff_sub=s&offer_id=1&aff_id=2.",
        "aff_sub=s&offer_id=1&aff_id=2%3E",
        "aff_sub=s&offer_id=1&aff_id=2>",
        "aff_sub=s&offer_id=1&aff_id=+2+",
    ],
)
def test_b10_html_and_mail_damage(query):
    found = see("tune", f" https://h/aff_c?{query} ")
    assert (found.partner_id, found.offer_id, found.sub_ids) == ("2", "1", {"aff_sub": "s"})


def test_b10_of_two_links_pasted_into_one_the_last_counts_if_the_host_is_the_same():
    found = see("impact", "https://a.pxf.io/c/1/2https://a.pxf.io/c/1/2/3?subId1=x")
    assert (found.ids[:3], found.doubts) == (("1", "3", "2"), ("two links pasted into one",))
    assert see("impact", "https://a.pxf.io/c/1/2https://b.example/c/1/2/3").kind is None


@pytest.mark.parametrize("sign", ["¤cy", "%C2%A4cy", "%c2%a4cy"])
def test_b10_a_name_that_became_a_character(sign):
    found = see("voluum", f"https://h/postback?cid=1&payout=2{sign}=USD¶m1=x")
    assert (found.conversion.amount, found.conversion.currency, found.sub_ids) == ("2", "USD", {"param1": "x"})


def test_b10_characters_that_are_meant_stay():
    assert see("tune", "https://h/aff_c?aff_sub=5%C2%A4&aff_sub2=©opy&aff_sub3=a;b&aff_sub4=a?b=c").sub_ids == {
        "aff_sub": "5¤",
        "aff_sub2": "©opy",
        "aff_sub3": "a;b",
        "aff_sub4": "a?b=c",
    }


def test_b10_semicolons_separate_only_where_there_is_no_ampersand():
    assert see("cake", "http://h/?a=1;c=2&s1=x").partner_id == "1"
    assert see("cake", "http://h/?a=1;c=2&s1=x").creative_id is None


def test_b11_the_first_that_is_not_empty_counts():
    assert see("tradedoubler", "http://h/click?a=1&p=2&url=&url=http%3A%2F%2Fshop.example").destination == "http://shop.example"
    assert see("tune", "http://h/aff_c?aff_id=&aff_id=5&aff_id=6&aff_sub=&aff_sub=x").partner_id == "5"
    assert see("tune", "http://h/aff_c?aff_sub=&aff_sub=x").sub_ids == {"aff_sub": "x"}


def test_b12_one_path_many_meanings():
    assert [see("binom", f"https://h/click.php?{query}").kind for query in ("key=a", "cnv_id=b", "lp=1", "upd_clickid=c", "x=1")] == [
        "click",
        "postback",
        "click",
        "postback",
        None,
    ]
    assert see("everflow", "https://h/?nid=1&transaction_id=a").kind == "postback"
    assert see("everflow", "https://h/?sub1=1").kind is None
    assert see("scaleo", "https://h/click?o=1&a=2&return=click_id").answer == "click-id"
    assert see("scaleo", "https://h/click?o=1&a=2&return=x").answer == ""
    assert see("linktrust", "http://h/click.track?CID=1&r=0").answer == "no-redirect"
    assert see("linktrust", "http://h/click.track?CID=1&R=1").answer == ""
    assert see("everflow", "https://h/clk?oid=1&affid=2").answer == "click-json"
    assert see("tune", "https://h/aff_goal?a=l&goal_id=1").kind == "pixel"


def test_b13_profiles_say_where_a_click_id_names_several_clicks():
    several = {source.platform for source in PLATFORMS if not source.profile.click_id.unique}
    assert several == {"tune", "cake", "impact"}


@pytest.mark.parametrize(
    ("platform", "url", "click_id"),
    [
        ("impact", "https://shop.example/?irclickid=xg%3Ay+z-_0", "xg:y z-_0"),
        ("rakuten", "https://shop.example/?ranSiteID=SWlnSnn6x54-oXefW_4ZLrqU5SdTPGp.A.", "SWlnSnn6x54-oXefW_4ZLrqU5SdTPGp.A."),
        ("swaarm", "https://h/postback?click_id=BKCw30EA%2BAGLYGZc%3D%3D", "BKCw30EA+AGLYGZc=="),
        ("tradedoubler", "https://shop.example/?tduid=(2f)(25)(24)(ep%20i)()", "(2f)(25)(24)(ep i)()"),
        ("binom", "https://h/click.php?cnv_id=81e60h%D0%B0a86o0b7", "81e60h\u0430a86o0b7"),
        ("idevaffiliate", "https://h/sale.php?idev_ordernum=1&affiliate_id=2", None),
    ],
)
def test_b14_click_ids_travel_whole(platform, url, click_id):
    assert see(platform, url).click_id == click_id


def test_b14_what_a_click_id_carries():
    found = see("awin", "https://shop.example/?awc=1001_1403695822_a430d81e")
    assert (found.offer_id, found.click_id) == ("1001", "1001_1403695822_a430d81e")
    found = see("tradedoubler", "https://shop.example/?tduid=%28h%29%2825%29%2824%29%28e%29%28f%29")
    assert (found.offer_id, found.partner_id, found.sub_ids) == ("25", "24", {"epi": "e", "epi2": "f"})


@pytest.mark.parametrize(
    ("platform", "url", "conversion"),
    [
        (
            "rakuten",
            "https://h/ep?mid=1&ord=2&amtlist=1000|5198|-500&tr=x&cur=USD",
            {"order_id": "2", "amount": "56.98", "currency": "USD"},
        ),
        ("rakuten", "https://h/ep?mid=1&ord=2&amtlist=1000%7Cx", {"order_id": "2", "amount": "1000|x"}),
        ("firstpromoter", "https://h/api/v1/track/sale?amount=1050&event_id=E", {"order_id": "E", "amount": "10.50", "goal": "sale"}),
        ("cj", "https://h/u?CID=1&OID=2&ITEM1=a&AMT1=5&QTY1=1", {"order_id": "2"}),
        ("partnerize", "https://h/conversion/campaign:1/conversionref:2/[value:5/quantity:1]", {"order_id": "2"}),
        ("awin", "https://h/sread.php?merchant=1&amount=5&parts=A:2|B:3&ref=7", {"order_id": "7", "amount": "5"}),
        ("binom", "https://h/click?cnv_id=1&payout=auto", {"amount": "auto"}),
        ("keitaro", "https://h/k3y/postback?subid=1&tid=2&status=x", {"order_id": "2", "status": "x", "token": "k3y"}),
    ],
)
def test_b15_conversions_as_each_platform_writes_them(platform, url, conversion):
    assert as_dict(see(platform, url))["conversion"] == conversion


def test_b16_and_b17_exports_say_how_far_they_reach_and_in_which_zone():
    def export(platform, name):
        return PLATFORMS.source(platform).profile.export[name]

    assert export("affise", "clicks").window == "7 days"
    assert export("everflow", "clicks").window.startswith("3 months")
    assert export("tune", "conversions").window.startswith("25 months")
    assert export("hitpath", "conversions").window == "60 days"
    assert export("postaffiliatepro", "conversions").time_zone == "America/Los_Angeles"
    assert export("shareasale", "conversions").time_zone == "America/Chicago"
    assert export("rakuten", "conversions").time_zone == "UTC"


@pytest.mark.parametrize(
    "url",
    [
        "https://merchant.pxf.io.example.com/c/1/2/3",
        "https://exampleawin1.com/cread.php?awinmid=1&awinaffid=2",
        "https://awin1.com.example/cread.php",
        "https://notprf.hn/click/camref:1",
        "https://pxf.io/c/1/2/3",
        "https://go2cloud.org.example/aff_c?aff_id=1",
        "https://x@example.com/aff_c",
        "https://go2cloud.org@example.com/aff_c?aff_id=1",
        "https://example.com/#reviews",
        "https://example.com/?ref=1&a=2&aff_id=3",
    ],
)
def test_b18_look_alike_hosts_tell_nothing(url):
    assert (
        as_dict(see(None, url))
        == as_dict(PLATFORMS.read_url("https://nobody.example/"))
        == dict.fromkeys(as_dict(see(None, url)), None) | {"sub_ids": {}}
    )


@pytest.mark.parametrize(
    ("platform", "url"),
    [
        ("tune", "https://h/out/aff_c?aff_id=1"),
        ("tune", "https://h/aff_cx?aff_id=1"),
        ("impact", "https://h/c/1/2"),
        ("impact", "https://h/c/1/2/x"),
        ("impact", "https://h/x/c/1/2/3"),
        ("cj", "https://h/t/8-11214-150797-146971"),
        ("partnerize", "https://h/click/pubref:1"),
        ("affiliatewp", "https://h/#reviews"),
        ("offer18", "https://h/c/1/2"),
        ("postaffiliatepro", "https://h/scripts/click.php?qxaid=1&clickTAG=https%3A%2F%2Fx.example"),
    ],
)
def test_b18_look_alike_paths_are_no_links(platform, url):
    found = see(platform, url)
    assert (found.platform, found.kind, found.ids, found.sub_ids) == (platform, None, (None,) * 5, {})


def test_b18_a_page_anchor_is_never_certain():
    assert not see("postaffiliatepro", "https://shop.example/#reviews").is_certain


def test_b18_the_host_tells_one_of_two_that_share_names():
    assert see(None, "https://a.bemobtrcks.com/postback?cid=1").platform == "bemob"
    assert see(None, "https://a.voluumtrk.com/postback?cid=1").platform == "voluum"
    assert see(None, "HTTPS://WWW.AWIN1.COM.:443/awclick.php?mid=1").platform == "awin"


def test_b19_personal_data_is_dropped_or_named():
    found = see("hitpath", "http://h/rd/r.php?sid=1&pub=2&c1=x&first_name=Ann&email_address=a%40b.example")
    assert (found.sub_ids, found.others) == ({"c1": "x"}, ())
    url = b"/click.track?CID=1&AFID=2&SID=s&FirstName=Ann"
    found = read(PLATFORMS.source("linktrust"), b"h", url)
    assert (found.sub_ids, found.others) == ({"SID": "s", "FirstName": "Ann"}, ("FirstName",))


def test_b19_an_operator_says_whether_unknown_parameters_are_kept():
    drops = Shelf().with_settings("linktrust", SourceSettings(keep_unknown=False))
    assert read(drops, b"h", b"/click.track?CID=1&SID=s&FirstName=Ann").sub_ids == {"SID": "s"}
    keeps = Shelf().with_settings("tune", SourceSettings(keep_unknown=True))
    assert read(keeps, b"h", b"/aff_c?aff_id=1&x=2").others == ("x",)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("%E9", "%E9"),
        ("%C3%A9", "é"),
        ("%00", "%00"),
        ("a%FFb%C3%A9", "a%FFbé"),
        ("%ED%A0%80", "%ED%A0%80"),
        ("%c3", "%C3"),
        ("%zz%2", "%zz%2"),
    ],
)
def test_text_rule_bytes_that_are_no_utf8_stay_escaped_and_ids_keep_their_bytes(raw, said):
    found = see("everflow", f"https://h/clk?affid=x{raw}&sub1={raw}")
    assert (found.partner_id, found.sub_ids["sub1"]) == (f"x{said}", said)
    assert found.raw.partner_id == b"x" + unquote_to_bytes(raw)


def test_a_url_is_split_as_people_paste_it():
    assert split_url(" <https://H.example:8443?a=1#f> ") == (b"https", b"H.example:8443", b"/?a=1#f")
    assert split_url("//ds1.nl/c/?x") == (b"https", b"ds1.nl", b"/c/?x")
    assert split_url("ds1.nl/c") == (b"https", b"ds1.nl", b"/c")
    assert split_url("http://u:p@h/") == (b"http", b"h", b"/")
    assert split_url("/only/path") == (b"https", b"", b"/only/path")
    assert split_url("") == (b"https", b"", b"/")
    assert split_url(b"\xff\xfe")[1] == b"\xff\xfe"


def test_the_absolute_form_of_a_target_names_the_host():
    found = read(PLATFORMS.source("clickbank"), b"proxy", b"http://ann.acme.hop.clickbank.net/?tid=x")
    assert (found.partner_id, found.offer_id) == ("ann", "acme")
