"""The forms of the Redis URL: what each means, and one sentence without a secret for what is none."""

import pytest

from tracker.redis_address import parse


@pytest.mark.parametrize(
    ("url", "form", "hosts"),
    [
        ("redis://redis:6379/0", "server", (("redis", 6379),)),
        ("redis://", "server", (("localhost", 6379),)),
        ("rediss://:pw@redis", "server", (("redis", 6379),)),
        ("redis://[::1]:7000/3", "server", (("::1", 7000),)),
        ("unix:///run/redis.sock?db=9", "server", ()),
        ("unix://user:pw@/run/redis.sock", "server", ()),
        ("redis+cluster://a,b:7001", "cluster", (("a", 6379), ("b", 7001))),
        ("rediss+cluster://u:p%40@[::1]:7000,[::2]:7001/0?ssl_ca_certs=/ca", "cluster", (("::1", 7000), ("::2", 7001))),
        ("redis+sentinel://a,b:7001/mymaster", "sentinel", (("a", 26379), ("b", 7001))),
    ],
)
def test_forms_and_hosts(url, form, hosts):
    address = parse(url)
    assert (address.form, address.hosts, address.url) == (form, hosts, url)


def test_servers_of_a_cluster_are_logged_in_to_as_the_url_says():
    address = parse("rediss+cluster://us%40er:p%2Fw@a,b?ssl_ca_certs=%2Fca.crt&client_name=x")
    assert address.server_url("10.0.0.1", 7000) == "rediss://us%40er:p%2Fw@10.0.0.1:7000?ssl_ca_certs=%2Fca.crt&client_name=x"
    assert address.server_url("fe80::1", 7000).startswith("rediss://us%40er:p%2Fw@[fe80::1]:7000?")


def test_sentinels_have_a_user_and_password_of_their_own():
    address = parse("rediss+sentinel://:server@a/my%20master/2?sentinel_username=me&sentinel_password=s%2F&ssl_ca_certs=/ca&client_name=x")
    assert address.master == "my master"
    assert address.sentinel_url("a", 26379) == "rediss://me:s%2F@a:26379?ssl_ca_certs=%2Fca"
    assert address.server_url("b", 6379) == "rediss://:server@b:6379/2?ssl_ca_certs=%2Fca&client_name=x"
    assert parse("redis+sentinel://:server@a/m").sentinel_url("a", 1) == "redis://a:1"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://:sesame@h", "must begin with redis://"),
        ("sesame", "must begin with redis://"),
        ("redis://:sesame@h:sesame/0", "host or port cannot be read"),
        ("redis://:ses/ame@h", "host or port cannot be read"),
        ("redis://:ses#ame@h", "percent-encoded"),
        ("redis://:sesame@h:99999", "host or port cannot be read"),
        ("redis://:sesame@a,b", "redis+cluster://"),
        ("redis://:sesame@h/x", "number of a database"),
        ("redis://:sesame@h?db=sesame", "number of a database"),
        ("redis://:sesame@h?socket_timeout=1", "known are"),
        ("redis://:sesame@h?sesame=1", "known are"),
        ("redis://:sesame@h?ssl_ca_certs=/sesame", "rediss://"),
        ("redis+cluster://:sesame@", "at least one host"),
        ("redis+cluster://:sesame@a,,b", "at least one host"),
        ("redis+cluster://:sesame@a/1", "only one"),
        ("redis+cluster://:sesame@a?db=1", "only 0"),
        ("redis+sentinel://:sesame@a", "must name the master"),
        ("redis+sentinel://:sesame@a/m/x", "number of a database"),
        ("redis+cluster://:sesame@a?sentinel_password=sesame", "known are"),
        ("unix://sesame", "absolute path"),
        ("unix://:sesame@", "absolute path"),
    ],
)
def test_what_is_none_of_the_forms_is_one_sentence_without_a_secret(url, says):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        parse(url)
    assert says in str(caught.value)
    assert "sesame" not in str(caught.value)


def test_an_address_shows_no_secret():
    assert "sesame" not in repr(parse("redis+sentinel://user:sesame@a/m?sentinel_password=sesame"))
