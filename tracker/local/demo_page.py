"""What `turnout up --demo` prints: lines to copy into another terminal, each of them whole."""

import shlex
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tracker.local.demo_crowd import DESKTOPS
from tracker.local.demo_plan import DAYS
from tracker.local.demo_programme import ALIAS_TARGETS, OLD_HOST, OLD_SOURCE
from tracker.local.door import Door
from tracker.settings import Settings


def page(settings: Settings, tokens: dict[str, str]) -> str:
    """The page. It holds a postback token, and names the file with the first API key."""
    front, tracker = Door(settings.host, settings.redirector_port).url, Door(settings.host, settings.tracker_port).url
    workers = Door(settings.host, settings.worker_metrics_port).url
    agent, old = shlex.quote(DESKTOPS[0]), ALIAS_TARGETS["demo-blog-spring"]
    postback = f'curl "{tracker}/postback?token={tokens.get("demo-shoes", "TOKEN")}&click_id=$CLICK&txid=ORDER-$CLICK&amount=49.90"'
    key, turnout = _key(settings), _turnout(settings)
    today = datetime.now(UTC).date()
    month = f"from={today - timedelta(days=DAYS)}&to={today}"
    return f"""
A visitor follows a link; the shop gets the click id:
  CLICK=$(curl -si -A {agent} '{front}/c/demo-blog-spring?sub1=hello' | tee /dev/stderr | tr -d '\\r' | sed -n 's/^x-click-id: //p')
An old link goes on working, one that has an alias and any other of the platform that the host was on:
  curl -i -A {agent} -H 'Host: {OLD_HOST}' '{front}{old}'
  curl -i -A {agent} -H 'Host: {OLD_HOST}' '{front}/aff_c?offer_id=13&aff_id=1005&aff_sub=reel'
Why it leads where it does; which old links nobody can be paid for, and the mapping that mends them:
  {turnout} explain 'https://{OLD_HOST}/aff_c?offer_id=13&aff_id=1005&aff_sub=reel'
  {turnout} orphans list
  {turnout} orphans map 1999 --source {OLD_SOURCE} --kind partner --partner demo-mail
The shop reports an order of the click above:
  {postback}
And once more; the answer says "duplicate":true:
  {postback}
What the month came to (the history is on its way for some seconds after the first start):
  curl -H "Authorization: Bearer {key}" '{tracker}/api/v1/reports?{month}&group_by=partner'
  {turnout} report --from {today - timedelta(days=DAYS)} --group-by day
Clicks and orders as they are stored, until Ctrl-C:
  {turnout} tail
The books:
  curl -H "Authorization: Bearer {key}" '{tracker}/api/v1/audit'
  {turnout} audit
Metrics:
  curl '{front}/-/metrics' '{tracker}/metrics' '{workers}/metrics'
"""


def _key(settings: Settings) -> str:
    return "$TURNOUT_ADMIN_KEY" if settings.admin_key else f"$(cat {shlex.quote(str(settings.directory.admin_key))})"


def _turnout(settings: Settings) -> str:
    """The command, as it works from any directory."""
    installed = Path(sys.executable).with_name("turnout")
    command = shlex.quote(str(installed)) if installed.exists() else f"{shlex.quote(sys.executable)} -m tracker"
    return f"{command} --data-dir {shlex.quote(str(settings.directory.root))}"
