"""The few answers of the redirector that are no redirect."""

from typing import Final

from tracker.domain.resolve import ANCHOR

NOT_FOUND: Final = b"<!doctype html><html lang=en><meta charset=utf-8><title>Not found</title><p>This link leads nowhere.</p></html>\n"
HTML: Final = "text/html; charset=utf-8"
# Browsers do not send what stands behind `#`; some old platforms wrote the partner there. Without scripts the visitor goes on, unpaid.
ANCHOR_PAGE: Final = (
    b"<!doctype html><html lang=en><meta charset=utf-8><title>One moment</title>"
    b'<noscript><meta http-equiv=refresh content="0;url=?%(parameter)s"></noscript>'
    # Only a query: a path that begins with // would be taken for a host.
    b"<script>var l=location;l.replace((l.search?l.search+'&':'?')+'%(parameter)s'+encodeURIComponent(l.hash.slice(1)))</script>"
    b"</html>\n"
) % {b"parameter": ANCHOR}
