"""Signs and verifies with PyJWT: `mint` and `verify`, JSON on standard input and output."""

import json
import sys

import jwt


def mint(request):
    headers = {"typ": "at+jwt", "kid": "key-1"}
    return {
        name: jwt.encode(request["claims"], key["private"], algorithm=name, headers=headers)
        for name, key in request["keys"].items()
    }


def verify(request):
    claims = {
        name: jwt.decode(
            request["tokens"][name],
            key["public"],
            algorithms=[name],
            audience=request["claims"]["aud"],
            issuer=request["claims"]["iss"],
            options={"require": ["exp", "iat", "sub"]},
        )
        for name, key in request["keys"].items()
    }
    return {name: found["sub"] for name, found in claims.items()}


json.dump({"mint": mint, "verify": verify}[sys.argv[1]](json.load(sys.stdin)), sys.stdout)
