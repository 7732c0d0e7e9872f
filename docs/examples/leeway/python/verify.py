"""verify.py TOKEN: is it valid? The key is in KEY."""

import os
import sys

import jwt

from leeway import recommended_leeway

try:
    claims = jwt.decode(
        sys.argv[1],
        os.environ["KEY"],
        algorithms=["HS256"],
        leeway=recommended_leeway(),
        options={"require": ["exp"]},
    )
    print(f"accepted: {claims['sub']}")
except jwt.InvalidTokenError as error:
    print(f"refused: {error}")
    sys.exit(1)
