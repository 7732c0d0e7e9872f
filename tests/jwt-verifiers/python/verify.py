"""Tries PyJWT with the tokens of `drift-agent jwt cases`; prints one JSON line."""

import base64
import datetime
import json
import subprocess
import sys
import time

import jwt


def outcome(token, key, options):
    """"accept", "reject" for the library's own refusals, "fail" for anything else that it raises."""
    try:
        jwt.decode(token, key, algorithms=["HS256"], **options)
        return "accept"
    except jwt.exceptions.PyJWTError:
        return "reject"
    except Exception:
        return "fail"


while True:
    issued = json.loads(subprocess.check_output([sys.argv[1], "jwt", "cases", "--output", "json"]))
    key = base64.urlsafe_b64decode(issued["key"] + "=")
    choices = ({}, {"leeway": issued["leewaySeconds"]})
    found = {case["id"]: [outcome(case["token"], key, options) for options in choices] for case in issued["cases"]}
    # Only what was tried in the second it was signed for counts: half of the cases are about that second.
    if int(time.time()) == datetime.datetime.fromisoformat(issued["signedFor"]).timestamp():
        print(json.dumps({"name": f"PyJWT {jwt.__version__} (Python)", "found": found}))
        break
