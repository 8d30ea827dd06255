"""An OpenID Connect provider of the test's own, as strict as ProConnect: PKCE, one use of a code, signed descriptions."""

import base64
import hashlib
import json
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT, SECRET = "sias", "secret of the client, long enough"


class Provider:
    """One provider. `claims` is whom it will sign in next; `spoil` changes its tokens before they are signed."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.claims: dict = {}
        self.spoil = lambda payload: payload
        self.codes: dict[str, dict] = {}
        self.signed_description = True
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.answer(self)

            def do_POST(self) -> None:
                provider.answer(self)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def authorise(self, address: str) -> str:
        """Do what the person's browser does there; return the address that it is sent back to."""
        asked = dict(parse_qsl(urlsplit(address).query))
        assert asked["client_id"] == CLIENT
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        code = uuid.uuid4().hex
        self.codes[code] = asked
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    def sign(self, payload: dict) -> str:
        return jwt.encode(self.spoil(payload), self.key, algorithm="RS256", headers={"kid": "1"})

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = urlsplit(request.path).path
        length = int(request.headers.get("Content-Length") or 0)
        posted = {name: values[0] for name, values in parse_qs(request.rfile.read(length).decode()).items()}
        status, kind, body = 200, "application/json", {}
        if path == "/.well-known/openid-configuration":
            body = {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "userinfo_endpoint": f"{self.issuer}/userinfo",
                "jwks_uri": f"{self.issuer}/jwks",
                "end_session_endpoint": f"{self.issuer}/session/end",
            }
        elif path == "/jwks":
            public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
            body = {"keys": [public | {"kid": "1", "alg": "RS256", "use": "sig"}]}
        elif path == "/token":
            status, body = self.token(posted)
        elif path == "/userinfo":
            body = self.claims | {"iss": self.issuer, "aud": CLIENT}
            if self.signed_description:
                kind, body = "application/jwt", self.sign(body)
        else:
            status = 404
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        request.send_response(status)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    def token(self, posted: dict) -> tuple[int, dict]:
        asked = self.codes.pop(posted.get("code", ""), None)
        proof = base64.urlsafe_b64encode(hashlib.sha256(posted.get("code_verifier", "").encode()).digest())
        if (
            asked is None
            or posted.get("client_secret") != SECRET
            or posted.get("redirect_uri") != asked["redirect_uri"]
            or proof.rstrip(b"=").decode() != asked["code_challenge"]
        ):
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        payload = {
            "iss": self.issuer,
            "aud": CLIENT,
            "sub": self.claims["sub"],
            "nonce": asked["nonce"],
            "iat": now,
            "exp": now + 60,
        }
        return 200, {"access_token": "one", "token_type": "Bearer", "id_token": self.sign(payload)}
