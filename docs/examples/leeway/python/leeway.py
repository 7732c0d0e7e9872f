"""The leeway that drift-agent recommends on this node, in seconds: asked for at most once a minute."""

import json
import os
import time
import urllib.error
import urllib.request

URL = os.environ.get("CLOCK_URL", "http://drift-agent.drift-agent:10123/v1/clock")
_leeway = 5  # until the first answer
_ask_again = 0.0


def recommended_leeway() -> int:
    global _leeway, _ask_again
    if time.monotonic() >= _ask_again:
        _ask_again = time.monotonic() + 60
        try:
            try:
                answer = urllib.request.urlopen(URL, timeout=1)
            except urllib.error.HTTPError as error:
                # 503 means that the clock is not measured: the answer still has a leeway.
                answer = error
            with answer:
                seconds = json.load(answer).get("recommendedLeewaySeconds")
            if isinstance(seconds, int) and 0 <= seconds <= 120:
                _leeway = seconds
        except (OSError, ValueError):
            pass  # the last answer stands
    return _leeway
