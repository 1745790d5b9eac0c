"""Our HTTP front doors, as a visitor or a shop on this machine meets them."""

import http.client
import json
from dataclasses import dataclass

ANSWER_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Door:
    """One of our HTTP front doors, on this machine."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """Its base, as people type it."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def ask(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (names in lower case) and body. OSError or HTTPException when nobody answers."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=ANSWER_TIMEOUT_S)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()
