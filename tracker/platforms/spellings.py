"""How an id that was read may be spelled in the imported tables. Pure."""

import re
import unicodedata

from tracker.platforms.profile import Profile

_NUMBER = re.compile(r"-?[0-9]{1,30}")


def spellings(profile: Profile, value: str) -> tuple[str, ...]:
    """The spellings to look up, in this order: exact, canonical Unicode (NFC), the number without leading zeros.

    Where the platform's ids have no case, the case-folded one comes last; elsewhere `folded` is for a look-up that is
    tried after all of these and counts only if it finds one row.
    """
    found = [value, unicodedata.normalize("NFC", value)]
    if profile.ids == "numeric" and _NUMBER.fullmatch(value):
        found.append(str(int(value)))
    if profile.ids == "folded":
        found.append(folded(value))
    return tuple(dict.fromkeys(found))


def folded(value: str) -> str:
    """The spelling under which ids are compared without regard to case."""
    return unicodedata.normalize("NFC", value).casefold()
