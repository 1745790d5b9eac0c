"""Redirects a second of old platforms' URLs, as ratios to short links in the same run, with all links mapped in the route table.

    python loadtests/old_links.py [--links 1000000] [--seconds 5] [--rounds 3]

Needs `wrk` (Debian). The redirector is pinned to core 0, the load generator to core 1; PostgreSQL, Valkey and the writers run beside them.
The raw result goes to loadtests/results/old-links.json.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from installation import HOST, Installation, status, wait_for
from redirects import PORT, circumstances, median_of, pin, wrk

RESULT = Path(__file__).parent / "results" / "old-links.json"
SOURCE = "old"
# Name, Host, beginning and end of the URL with a number between them.
SHAPES = {
    "short link": ("go.example", "/c/c", "?sub1=bench"),
    "key of a short link (Bitly), mapped": ("bit.example", "/k", ""),
    "TUNE, partner and offer": ("tune.example", "/aff_c?offer_id=7&aff_id=42&aff_sub=", "&aff_sub2=bench"),
    "TUNE, encoded deep link": ("tune.example", "/aff_c?offer_id=7&aff_id=42&url=https%3A%2F%2Fshop.example%2Fshoes%3Fid%3D", ""),
    "TUNE, raw deep link": ("tune.example", "/aff_c?offer_id=7&aff_id=42&url=https://shop.example/shoes?id=", ""),
    "Everflow, path": ("everflow.example", "/ABC123/XYZ456/?sub1=bench&sub2=", ""),
    "CAKE, creative": ("cake.example", "/?a=42&c=700&s1=", ""),
}
HOSTS = {"bit.example": "bitly", "tune.example": "tune", "everflow.example": "everflow", "cake.example": "cake"}
OLD_IDS = (
    ("partner", "42", "--partner", "blog"), ("offer", "7", "--campaign", "shop"), ("partner", "ABC123", "--partner", "blog"),
    ("offer", "XYZ456", "--campaign", "shop"), ("creative", "700", "--campaign", "shop"),
)  # fmt: skip


def mapped(turnout: Installation) -> None:
    """The old hosts, and what their ids mean."""
    turnout.cli("advertiser", "edit", "shop", "--domains", "shop.example")
    for kind, number, option, slug in OLD_IDS:
        turnout.cli("old-id", "add", SOURCE, "--kind", kind, "--source-id", number, option, slug)
    for host, name in HOSTS.items():
        turnout.cli("host", "add", host, "--platform", name, "--source", SOURCE)
    for host, prefix, suffix in SHAPES.values():
        wait_for(lambda host=host, path=f"{prefix}1{suffix}": status(PORT, path, "HEAD", host) == 302, f"{host}{prefix} is live")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--links", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.stderr.write("wrk is not installed (Debian: apt-get install wrk)\n")
        return 3
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in SHAPES}
    with tempfile.TemporaryDirectory(prefix="turnout-bench-") as folder:
        turnout = Installation(Path(folder), PORT, asked.links, SOURCE)
        try:
            mapped(turnout)
            pin(turnout.redirector(), 0)
            for _ in range(asked.rounds):
                for name, (host, prefix, suffix) in SHAPES.items():
                    script = Path(folder) / "wrk.lua"
                    runs[name].append(wrk(f"http://{HOST}:{PORT}", asked.links, prefix, asked.seconds, script, suffix=suffix, host=host))
        finally:
            turnout.close()
    middle = {name: median_of(found) for name, found in runs.items()}
    ratios = {name: round(value / middle["short link"], 3) for name, value in middle.items()}
    result = {
        "what": "old platforms' URLs, one core, journal on, writers running", "links": asked.links, "ratio_to_short_link": ratios,
        "median_requests_per_s": middle, "runs": runs,
        **circumstances(),
    }  # fmt: skip
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(ratios, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
