"""Secrets of the right shape, and what only looks like one: made anew by each run, none of them anybody's."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import sqlite3
import string
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import zstandard

_ALNUM = string.ascii_letters + string.digits
_URL = _ALNUM + "_-"
_BASE64 = _ALNUM + "+/"
_HEX = "0123456789abcdef"


class Planted(NamedTuple):
    """A secret, its kind, and a text that somebody may have pasted it in."""

    kind: str
    secret: str
    text: str


def _pem(draw: Callable[[str, int], str]) -> tuple[str, str]:
    body = "\n".join(draw(_BASE64, 64) for _ in range(12))
    return body, f"cat id_rsa\n-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----\n"


def _jwt(draw: Callable[[str, int], str]) -> str:
    head, claims = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
        for part in ({"alg": "HS256", "typ": "JWT"}, {"sub": draw(_ALNUM, 12), "exp": 1_900_000_000})
    )
    return f"{head}.{claims}.{draw(_URL, 43)}"


def secrets(seed: int = 7) -> list[Planted]:
    """Three of each of twenty-one kinds."""
    chance = random.Random(seed)

    def draw(alphabet: str, length: int) -> str:
        return "".join(chance.choices(alphabet, k=length))

    simple: dict[str, tuple[Callable[[], str], str]] = {
        "aws": (lambda: "AKIA" + draw(string.ascii_uppercase + "234567", 16), "export AWS_ACCESS_KEY_ID={}"),
        "github": (lambda: "ghp_" + draw(_ALNUM, 36), "git push https://{}@github.com/a/b"),
        "github-fine": (lambda: "github_pat_" + draw(_ALNUM, 22) + "_" + draw(_ALNUM, 59), "GH_TOKEN={}"),
        "gitlab": (lambda: "glpat-" + draw(_URL, 20), 'curl --header "PRIVATE-TOKEN: {}" x'),
        "slack": (
            lambda: f"xoxb-{draw(string.digits, 12)}-{draw(string.digits, 12)}-{draw(_ALNUM, 24)}",
            "slack token is {} ok",
        ),
        "stripe": (lambda: "sk_live_" + draw(_ALNUM, 24), "stripe.api_key = '{}'"),
        "openai": (lambda: "sk-proj-" + draw(_URL, 74) + "T3BlbkFJ" + draw(_URL, 74), "OPENAI_API_KEY={}\n"),
        "anthropic": (lambda: "sk-ant-api03-" + draw(_URL, 93) + "AA", '{{"x-api-key": "{}"}}'),
        "google": (lambda: "AIza" + draw(_URL, 35), "https://maps.example.org/?key={}&q=1"),
        "npm": (lambda: "npm_" + draw(_ALNUM, 36), "//registry.npmjs.org/:_authToken={}"),
        "pypi": (lambda: "pypi-AgEIcHlwaS5vcmc" + draw(_URL, 150), "password = {}"),
        "jwt": (lambda: _jwt(draw), "Authorization: Bearer {}"),
        "url": (lambda: draw(_ALNUM, 14), "curl https://deploy:{}@artifacts.corp.test/simple"),
        "database": (lambda: draw(_ALNUM, 16), "DATABASE_URL=postgresql+psycopg://app:{}@db.corp.test:5432/app"),
        "azure": (lambda: draw(_BASE64, 86) + "==", "AccountName=a;AccountKey={};EndpointSuffix=core.windows.net"),
        "sendgrid": (lambda: f"SG.{draw(_URL, 22)}.{draw(_URL, 43)}", "key: {}"),
        "twilio": (lambda: "SK" + draw(_HEX, 32), "twilio {}"),
        "telegram": (lambda: draw("123456789", 10) + ":AA" + draw(_URL, 33), "https://api.telegram.org/bot{}/getMe"),
        "hugging-face": (lambda: "hf_" + draw(string.ascii_letters, 34), "huggingface-cli login --token {}"),
    }
    planted = []
    for kind, (make, text) in simple.items():
        for _ in range(3):
            secret = make()
            planted.append(Planted(kind, secret, text.format(secret)))
    for text in ('password = "{}"', "API_KEY: {}", '{{"client_secret": "{}"}}'):
        secret = draw(_ALNUM, 24)
        planted.append(Planted("assigned", secret, text.format(secret)))
    for _ in range(3):
        body, text = _pem(draw)
        planted.append(Planted("private-key", body, text))
    return planted


def look_alikes(seed: int = 8) -> list[str]:
    """Two hundred texts without any secret."""
    chance = random.Random(seed)

    def hexed(length: int) -> str:
        return "".join(chance.choices(_HEX, k=length))

    def some(length: int) -> bytes:
        return chance.randbytes(length)

    def name(words: int) -> str:
        return "_".join(chance.choices(("session", "user", "token", "password", "http", "reader", "index"), k=words))

    makers: list[Callable[[], str]] = [
        lambda: f"request_id: {uuid.UUID(bytes=some(16))}",
        lambda: f'"token": "{uuid.UUID(bytes=some(16))}"',
        lambda: f"commit {hexed(40)}",
        lambda: f"{hashlib.sha256(some(8)).hexdigest()}  dist/a.whl",
        lambda: f'"image": "data:image/png;base64,{base64.b64encode(some(900)).decode()}"',
        lambda: f'"integrity": "sha512-{base64.b64encode(some(64)).decode()}"',
        lambda: f"password = {name(5)}({name(2)}_{chance.randrange(9)})",
        lambda: f'api_key = os.environ["{name(3).upper()}"]',
        lambda: f'"input_tokens":{chance.randrange(10**9)},"cache_read_input_tokens":{chance.randrange(10**10)}',
        lambda: f"def {name(6)}_{hexed(2)}(self): ...",
        lambda: f'"signature":"{base64.b64encode(some(300)).decode()}"',
        lambda: f'"password_hash": "sha256:{hexed(64)}"',
        lambda: f"https://git.example.org/a/b/commit/{hexed(40)}#L{chance.randrange(999)}",
        lambda: f'"nextPageToken": "{base64.urlsafe_b64encode(some(24)).decode()}"',
        lambda: f"toolu_{base64.b32encode(some(15)).decode()} call_{hexed(24)}",
        lambda: f"task-{hexed(32)}.log",
    ]
    fixed = [
        "AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE",
        "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "OPENAI_API_KEY=<your-key>",
        "OPENAI_API_KEY=sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "GITHUB_TOKEN=${GITHUB_TOKEN}",
        "token: ${{ secrets.GITHUB_TOKEN }}",
        "password: {{ vault_password }}",
        "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "postgres://postgres:postgres@localhost:5432/test",
        "mysql://user:password@localhost/db",
        "https://user:<password>@example.org",
        "redis://:${REDIS_PASSWORD}@cache:6379",
        "Authorization: Bearer $TOKEN",
        "Authorization: Bearer <token>",
        "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A\n-----END PUBLIC KEY-----",
        "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
        'password: Optional[str] = None, secret_key: "SecretStr"',
        "passwordField.addEventListener('input', validatePasswordStrength2)",
        "token = self.tokenizer_for_model_v2.encode(text)",
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ"
        ".SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c",
        "http://localhost:3000/a@b c://d:e",
        "SECRET_KEY = 'your-secret-key-here'",
        "api_key: changeme-changeme-changeme",
        "access_key_path=/home/user/.config/keys/primary.json",
    ]
    return [*fixed, *(makers[place % len(makers)]() for place in range(200 - len(fixed)))]


def write_log(log_dir: Path, texts: list[str], name: str = "a") -> Path:
    """A session that says these texts, now in a message, now in meta, in JSON within JSON, in no JSON at all."""
    log = log_dir / f"{name}.ndjson"
    with log.open("a", encoding="utf-8") as file:
        for place, text in enumerate(texts):
            nested = json.dumps({"output": text})
            record: dict[str, Any] = (
                {"message": text},
                {"type": "tool", "result": {"out": text}},
                {"message": nested},
            )[place % 3]
            file.write(json.dumps(record) + "\n" if place % 10 else f"no JSON: {text!r}\n")
    return log


def unpacked(database: Path) -> bytes:
    """The bytes of a database's file, and of each of its segments."""
    with closing(sqlite3.connect(database)) as connection:
        frames = [row[0] for row in connection.execute("SELECT bytes FROM segments")]
    return b"\n".join([database.read_bytes(), *map(zstandard.ZstdDecompressor().decompress, frames)])


def leaks(planted: list[Planted], data: bytes) -> list[str]:
    """The kinds of the secrets of which a line stands in the data, plain or as JSON has it."""
    lines = [(one.kind, line) for one in planted for line in one.secret.split("\n")]
    return [kind for kind, line in lines if line.encode() in data or json.dumps(line)[1:-1].encode() in data]
