"""How many examples Hypothesis takes where each is dear: few, and the full number under TURNOUT_THOROUGH=1."""

import os


def examples(few, full):
    return full if os.environ.get("TURNOUT_THOROUGH") == "1" else few
