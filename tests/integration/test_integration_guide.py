"""The store's guide, tracker/api/README.md: every example in it is run against a tracker, over HTTP, and must report an order."""

import asyncio
import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from tests import launcher
from tests.integration.api_client import ADMIN_KEY, Api, Shop, click_text, open_shop
from tests.integration.pipeline import ROOT, environment_without_settings
from tests.integration.visitors import NODE, browse, needs_node, publish_installation
from tests.wait import wait_until
from tracker.adapters.postgres_pool import database
from tracker.domain.amounts import FORMATS
from tracker.domain.postback_settings import OURS, PostbackSettings
from tracker.domain.signatures import SIGNING_KINDS
from tracker.programme import DUPLICATE_POLICIES

pytestmark = pytest.mark.integration
GUIDE = (ROOT / "tracker" / "api" / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
PHP = shutil.which("php")
WORDPRESS = """<?php
$GLOBALS['hooks'] = [];
function add_action($name, $work) { $GLOBALS['hooks'][$name] = $work; }
function wp_unslash($value) { return stripslashes($value); }
function sanitize_text_field($value) { return trim(strip_tags($value)); }
class Order {
    public $meta = []; public $saved = 0; public $id;
    function __construct($id) { $this->id = $id; }
    function update_meta_data($key, $value) { $this->meta[$key] = $value; }
    function get_id() { return $this->id; }
    function save() { $this->saved++; }
}
"""
CHECKOUT = """
$found = [];
foreach (['woocommerce_checkout_create_order' => 0, 'woocommerce_store_api_checkout_update_order_meta' => 7] as $hook => $id) {
    foreach (['01k8zq3m5n7p9r1s3t5v7w9x1y', '', str_repeat('x', 256)] as $click) {
        $_COOKIE['turnout_click_id'] = $click;
        $order = new Order($id);
        $GLOBALS['hooks'][$hook]($order);
        $found[] = [$order->meta, $order->saved];
    }
}
echo json_encode($found);
"""


@dataclass
class Desk:
    """A tracker and what the guide's placeholders stand for there."""

    address: str
    shop: Shop
    secret: str

    async def fill(self, block: str, txid: str) -> str:
        """The block with what it needs to work here, and a click of its own."""
        values = {
            "https://track.example": self.address,
            "tok_of_your_shop": self.shop.token,
            "px_of_your_shop": self.shop.pixel_key,
            "hs_of_your_shop": self.secret,
            "your-shop": "shop",
            "01k8zq3m5n7p9r1s3t5v7w9x1y": click_text(await self.shop.click()),
            "ORDER-1": txid,
        }
        for here, there in values.items():
            block = block.replace(here, there)
        return block

    async def order(self, txid: str) -> tuple[str, str, int] | None:
        row = await self.shop.database.fetchrow("SELECT attribution, status, amount_micros FROM conversions WHERE txid = $1", txid)
        return row and (row["attribution"], row["status"], row["amount_micros"])


@pytest.fixture
async def desk(dsn: str, tmp_path: Path) -> AsyncIterator[Desk]:
    """A tracker as a process of its own, with the shop and a signing secret."""
    publish_installation(tmp_path)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.set_inheritable(True)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    given = {"TURNOUT_DATABASE_URL": dsn, "TURNOUT_DATA_DIR": str(tmp_path), "TURNOUT_ADMIN_KEY": ADMIN_KEY, "PYTHONPATH": str(ROOT)}
    words = ["-m", "tracker", "serve", "tracker", "--fd", str(listener.fileno())]
    with (tmp_path / "log").open("wb") as log:
        environment = environment_without_settings() | given
        process = launcher.launch(words, env=environment, pass_fds=[listener.fileno()], stderr=log)
    try:
        async with httpx.AsyncClient(base_url=address, timeout=20) as client, database(dsn, name="test") as opened:
            api = Api(client)
            await wait_until(lambda: httpx.get(f"{address}/readyz", timeout=20).status_code == 200)
            shop = await open_shop(api, opened)
            made = await api.admin("POST", "/api/v1/advertisers/shop/signing-secrets", {"kind": "hmac"})
            yield Desk(address, shop, made.json()["signing_secret"])
    finally:
        process.terminate()
        process.wait(30)
        listener.close()


def blocks(language: str, *, reporting: bool = True) -> list[str]:
    """The examples in a language that report an order, or those that do something else."""
    return [block for kind, block in BLOCKS if kind == language and (("/postback/status" in block or "add_action" in block) != reporting)]


async def run(command: list[str], text: str | None = None) -> str:
    done = await asyncio.to_thread(
        lambda: subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=60, env=environment_without_settings(), check=False
        )
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


COMMANDS = {
    "sh": ["bash", "-euo", "pipefail"],
    "python": [sys.executable, "-W", "error", "-"],
    "php": [PHP or "php"],
    "javascript": [NODE or "node", "--input-type=module", "-"],
}


@pytest.mark.parametrize(("language", "examples", "signed"), [("sh", 3, 1), ("python", 2, 1), ("php", 2, 1), ("javascript", 2, 1)])
async def test_every_example_reports_an_order(desk: Desk, language: str, examples: int, signed: int) -> None:
    found = blocks(language)
    assert (len(found), sum("hs_of_your_shop" in block for block in found)) == (examples, signed)
    if shutil.which(COMMANDS[language][0]) is None:
        pytest.skip(f"{language}: no {COMMANDS[language][0]} on this machine")
    for number, block in enumerate(found):
        txid = f"{language}-{number}"
        told = await run(COMMANDS[language], await desk.fill(block, txid))
        assert '"status":"attributed"' in told, told
        assert await desk.order(txid) == ("click", "approved", 49_900_000)


async def test_what_became_of_an_order_is_told(desk: Desk) -> None:
    report, (status,) = blocks("sh")[0], blocks("sh", reporting=False)
    unknown = await run(COMMANDS["sh"], await desk.fill(status, "A"))
    assert '"code":"unknown_txid"' in unknown
    await run(COMMANDS["sh"], await desk.fill(report, "A"))
    told = await run(COMMANDS["sh"], await desk.fill(status, "A"))
    assert json.loads(told)["status"] == "attributed"


class Page(HTMLParser):
    """The images, scripts and inline code of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.images, self.scripts, self.inline = [], [], ""
        self._is_script = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self._is_script = tag == "script"
        if tag == "img":
            self.images.append(values["src"])
        elif tag == "script" and "src" in values:
            self.scripts.append(values)

    def handle_endtag(self, tag):
        self._is_script = False

    def handle_data(self, data):
        self.inline += data if self._is_script else ""


async def test_the_pixel_of_the_guide_reports_an_order(desk: Desk) -> None:
    (image,) = Page(await desk.fill("".join(blocks("html")), "A")).images
    async with httpx.AsyncClient() as client:
        assert (await client.get(image)).headers["content-type"] == "image/gif"
    assert await desk.order("A") == ("click", "pending", 49_900_000)


@needs_node
async def test_the_script_of_the_guide_reports_an_order(desk: Desk) -> None:
    filled = await desk.fill("".join(blocks("html")) + "01k8zq3m5n7p9r1s3t5v7w9x1y", "A")
    page, click = Page(filled), filled[-26:]
    (tag,) = page.scripts
    shown = {"src": tag["src"], "data": {"pixelKey": tag["data-pixel-key"]}}
    landed, thanks = await asyncio.to_thread(
        browse,
        shown | {"url": f"https://shop.example/?click_id={click}"},
        shown | {"url": "https://shop.example/thanks", "inline": page.inline},
    )
    async with httpx.AsyncClient() as client:
        assert (await client.get(tag["src"])).status_code == 200
        assert "set-cookie" in (await client.get(landed["images"][0])).headers
        ((url, body),) = thanks["beacons"]
        await client.post(url, content=body, headers={"Content-Type": "text/plain;charset=UTF-8"})
    assert await desk.order("A") == ("click", "pending", 49_900_000)


@pytest.mark.skipif(PHP is None, reason="the WooCommerce snippet is run by php, which is not on this machine")
async def test_the_woocommerce_snippet_keeps_the_click_with_the_order() -> None:
    (snippet,) = blocks("php", reporting=False)
    told = json.loads(await run(COMMANDS["php"], WORDPRESS + snippet.removeprefix("<?php") + CHECKOUT))
    click = {"click_id": "01k8zq3m5n7p9r1s3t5v7w9x1y"}
    assert told == [[click, 0], [[], 0], [[], 0], [click, 1], [[], 0], [[], 0]]


async def test_the_settings_of_the_guide_are_taken_and_do_what_it_says(api: Api, shop: Shop) -> None:
    (settings,) = [json.loads(block) for kind, block in BLOCKS if kind == "json" and "settings" in block]
    settings["settings"]["postbacks"]["allow_ips"] = []
    assert (await api.admin("PATCH", "/api/v1/advertisers/shop", settings)).status_code == 200
    order = {"sid": click_text(await shop.click()), "order_id": "A", "sum": "1.234,50", "status": "2"}
    assert (await api.get("/postback", token=shop.token, **order)).json()["status"] == "attributed"
    row = await shop.database.fetchrow("SELECT status, amount_micros FROM conversions WHERE txid = 'A'")
    assert dict(row) == {"status": "pending", "amount_micros": 1_234_500_000}
    for amount_format, written in {"point": "1234.50", "comma": "1234,50", "thousands": "1,234.50", "minor": "123450"}.items():
        changed = {"settings": {"postbacks": {"amount_format": amount_format}}}
        assert (await api.admin("PATCH", "/api/v1/advertisers/shop", changed)).status_code == 200
        await asyncio.sleep(1.1)  # what the tracker remembers of an advertiser
        await api.get("/postback", token=shop.token, click_id=order["sid"], txid=amount_format, amount=written)
        row = await shop.database.fetchrow("SELECT amount_micros FROM conversions WHERE txid = $1", amount_format)
        assert row["amount_micros"] == 1_234_500_000


def test_nothing_is_left_out() -> None:
    words = {*OURS, *DUPLICATE_POLICIES, *FORMATS, *PostbackSettings.__struct_fields__, "turnout_visitor", "turnout_click_id"}
    assert sorted(word for word in words if f"`{word}`" not in GUIDE and f'"{word}"' not in GUIDE) == []
    assert sorted(kind for kind in SIGNING_KINDS if kind != "hmac" and f"/webhooks/{kind}/your-shop" not in GUIDE) == []
