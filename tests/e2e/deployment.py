"""A running Turnout as its visitors, stores and operators reach it: two addresses and a key, nothing else."""

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from urllib.parse import urlencode

from tests.integration.pipeline import BROWSER

TIMEOUT_S = 20


class NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


OPENER = urllib.request.build_opener(NoRedirects)


def ask(url, *, method="GET", body=None, **headers):
    """Status, headers, body, as a browser would get them; redirects are not followed."""
    headers = {"User-Agent": BROWSER} | {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, method=method, headers=headers)
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    try:
        with OPENER.open(request, timeout=TIMEOUT_S) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code, answer.headers, answer.read()


@dataclass(frozen=True)
class Deployment:
    """`redirector` and `tracker` are base addresses; `key` may do what an operator may."""

    redirector: str
    tracker: str
    key: str

    def visit(self, path, **options):
        return ask(self.redirector.rstrip("/") + path, **options)

    def call(self, method, path, body=None):
        """Status and content of a call of the API."""
        url = f"{self.tracker.rstrip('/')}/api/v1{path}"
        status, _, answer = ask(url, method=method, body=body, Authorization=f"Bearer {self.key}")
        return status, json.loads(answer)

    def api(self, path, body=None, *, method=None):
        """What the API answers; AssertionError when it refuses."""
        status, answer = self.call(method or ("GET" if body is None else "POST"), path, body)
        assert status in (200, 201), answer
        return answer

    def postback(self, **parameters):
        """Status and content of what a store is told."""
        status, _, answer = ask(f"{self.tracker.rstrip('/')}/postback?{urlencode(parameters)}")
        return status, json.loads(answer)

    def has_click(self, text):
        return self.call("GET", f"/clicks/{text}")[0] == 200
