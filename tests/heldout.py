"""A second planted set: 63 secrets of 21 kinds as their services format them, and 202 texts that only look like some.

Written from the services' own documentation, and not from the scanner's rules, so that what it says of recall and of
false findings wasn't fitted. Values are drawn here, so that no file of this tree holds anything of their shape."""

import base64
import hashlib
import json
import random
import string

from tests.planted import Planted

_BASE62 = string.ascii_letters + string.digits
_BASE64 = _BASE62 + "+/"
_URLSAFE = _BASE62 + "-_"
_HEX = "0123456789abcdef"


class _Draw:
    """Values of a shape, the same ones at each run."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def of(self, alphabet: str, length: int) -> str:
        return "".join(self.random.choice(alphabet) for _ in range(length))

    def hex(self, length: int) -> str:
        return self.of(_HEX, length)

    def word(self, length: int) -> str:
        return self.of(_BASE62, length)

    def upper(self, length: int) -> str:
        return self.of(string.ascii_uppercase + string.digits, length)

    def digits(self, length: int) -> str:
        return self.of("123456789", 1) + self.of(string.digits, length - 1)

    def url(self, length: int) -> str:
        return self.of(_URLSAFE, length - 1) + self.of(_BASE62, 1)

    def bytes(self, length: int) -> str:
        return base64.b64encode(self.random.randbytes(length)).decode()

    def url_bytes(self, length: int) -> str:
        return base64.urlsafe_b64encode(self.random.randbytes(length)).decode().rstrip("=")

    def uuid(self) -> str:
        return f"{self.hex(8)}-{self.hex(4)}-4{self.hex(3)}-a{self.hex(3)}-{self.hex(12)}"

    def lines(self, length: int, width: int = 64) -> str:
        whole = self.bytes(length)
        return "\n".join(whole[at : at + width] for at in range(0, len(whole), width))


def _encoded(part: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part, separators=(",", ":")).encode()).decode().rstrip("=")


def _jwt(draw: _Draw, algorithm: str, claims: dict[str, object], signature: int) -> str:
    return f"{_encoded({'alg': algorithm, 'typ': 'JWT'})}.{_encoded(claims)}.{draw.url_bytes(signature)}"


def secrets(seed: int = 20261121) -> list[Planted]:
    """The 63, three of each kind."""
    draw = _Draw(seed)
    found: list[Planted] = []

    def plant(kind: str, before: str, secret: str, after: str = "") -> None:
        found.append(Planted(kind, secret, before + secret + after))

    plant("aws", "[default]\naws_access_key_id = AKIA" + draw.of("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16)
          + "\naws_secret_access_key = ", draw.of(_BASE64, 40), "\nregion = eu-central-1\n")  # fmt: skip
    plant("aws", "$ env | grep AWS\nAWS_SECRET_ACCESS_KEY=", draw.of(_BASE64, 40))
    plant("aws", '{"Credentials": {"AccessKeyId": "', "ASIA" + draw.of("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16),
          '", "Expiration": "2026-01-12T21:08:11+00:00"}}')  # fmt: skip

    plant("github", "remote: https://x-access-token:", "ghs_" + draw.word(36), "@github.com/acme/api.git (fetch)")
    plant("github", "Run: gh auth login --with-token <<< ", "ghp_" + draw.word(36))
    plant("github", "  oauth_token: ", "github_pat_" + draw.upper(2) + draw.word(20) + "_" + draw.word(59), "\n")

    plant("gitlab", 'curl --header "PRIVATE-TOKEN: ', "glpat-" + draw.url(20), '" https://gitlab.com/api/v4/projects')
    plant("gitlab", "git clone https://oauth2:", "glpat-" + draw.url(27) + ".01." + draw.of(_HEX, 9), "@gitlab.com/a/b")
    plant("gitlab", "register the runner with --token ", "glrt-" + draw.url(20), " and restart it")

    team, hook = "T0" + draw.upper(9), "B0" + draw.upper(9)
    plant("slack", "SLACK_BOT_TOKEN=", f"xoxb-{draw.digits(12)}-{draw.digits(13)}-{draw.word(24)}")
    plant("slack", "slack:\n  app_token: ", f"xapp-1-A0{draw.upper(9)}-{draw.digits(13)}-{draw.hex(64)}", "\n")
    plant("slack", "payload sent to https://hooks.slack.com/services/", f"{team}/{hook}/{draw.word(24)}", " (200)")

    plant("stripe", "stripe.api_key = '", "sk_live_" + draw.word(99), "'")
    plant("stripe", "const stripe = require('stripe')('", "rk_live_" + draw.word(24), "');")
    plant("stripe", "> Ready! Your webhook signing secret is ", "whsec_" + draw.hex(64), " (^C to quit)")

    plant("openai", "export OPENAI_API_KEY=",
          "sk-proj-" + draw.url(74) + "T3BlbkFJ" + draw.url(74))  # fmt: skip
    plant(
        "openai", "Incorrect API key provided: ", "sk-" + draw.word(20) + "T3BlbkFJ" + draw.word(20), ". You can find"
    )
    plant("openai", 'client = OpenAI(api_key="', "sk-svcacct-" + draw.url(58) + "T3BlbkFJ" + draw.url(58), '")')

    plant("anthropic", "x-api-key: ", "sk-ant-api03-" + draw.url(93) + "AA", "\r\n")
    plant("anthropic", "ANTHROPIC_ADMIN_KEY='", "sk-ant-admin01-" + draw.url(93) + "AA", "'")
    plant("anthropic", '{"claudeAiOauth":{"accessToken":"', "sk-ant-oat01-" + draw.url(93) + "AA", '","scopes":[]}}')

    plant("google", "https://maps.googleapis.com/maps/api/js?key=", "AIza" + "Sy" + draw.url(33), "&callback=initMap")
    plant("google", '"client_secret":"', "GOCSPX-" + draw.url(28), '","redirect_uris":["http://localhost"]')
    plant("google", "$ gcloud auth print-access-token\n", "ya29." + draw.url(200) + "0" + draw.digits(3), "\n")

    key = draw.lines(1192)
    plant("private key", "$ cat ~/.ssh/id_rsa\n-----BEGIN RSA PRIVATE " + "KEY-----\n", key,
          "\n-----END RSA PRIVATE " + "KEY-----\n")  # fmt: skip
    key = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAAB\n" + draw.lines(330, 70)
    plant("private key", "-----BEGIN OPENSSH PRIVATE " + "KEY-----\n", key, "\n-----END OPENSSH PRIVATE " + "KEY-----")
    key = ("MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n" + draw.lines(1190)).replace("\n", "\\n")
    plant("private key", '{"type": "service_account", "private_key": "-----BEGIN PRIVATE ' + "KEY-----\\n", key,
          "\\n-----END PRIVATE " + 'KEY-----\\n", "client_id": "1"}')  # fmt: skip

    claims: dict[str, object] = {"sub": draw.digits(9), "name": "Grace", "iat": 1767225600, "exp": 1767229200}
    plant("jwt", "Authorization: Bearer ", _jwt(draw, "HS256", claims, 32), "\nAccept: */*")
    claims = {"iss": "https://login.acme.io/", "aud": ["api"], "scope": "openid", "exp": 1767229200}
    plant("jwt", "< set-cookie: session=", _jwt(draw, "RS256", claims, 256), "; Path=/; HttpOnly")
    claims = {"iss": "supabase", "ref": draw.of(string.ascii_lowercase, 20), "role": "service_role", "exp": 2082758400}
    plant("jwt", "SUPABASE_SERVICE_ROLE_KEY=", _jwt(draw, "HS256", claims, 32))

    plant(
        "database",
        "DATABASE_URL=postgresql://app:",
        "vK8-" + draw.word(12),
        "@db.acme.internal:5432/app?sslmode=require",
    )
    plant("database", "MongoClient('mongodb+srv://root:", draw.word(16), "@cluster0.ab1cd.mongodb.net/prod')")
    plant("database", "REDIS_URL: rediss://:", "p" + draw.hex(64), "@ec2-3-4-5-6.compute-1.amazonaws.com:25100")

    plant("package index", "//registry.npmjs.org/:_authToken=", "npm_" + draw.word(36), "\n")
    plant("package index", "twine upload -u __token__ -p ", "pypi-AgEIcHlwaS5vcmc" + draw.url(150), " dist/*")
    plant("package index", "docker login -u acme --password ", "dckr_pat_" + draw.url(27))

    plant("mail", "SENDGRID_API_KEY=", f"SG.{draw.url(22)}.{draw.url(43)}")
    plant("mail", "curl -s --user 'api:", f"key-{draw.hex(32)}", "' https://api.mailgun.net/v3/mg.acme.io/messages")
    plant("mail", "mailchimp.setConfig({ apiKey: '", draw.hex(32) + "-us21", "', server: 'us21' });")

    plant("azure", "DefaultEndpointsProtocol=https;AccountName=acmeprod;AccountKey=", draw.bytes(64),
          ";EndpointSuffix=core.windows.net")  # fmt: skip
    plant("azure", '{\n  "appId": "' + draw.uuid() + '",\n  "password": "', f"{draw.word(3)}8Q~{draw.url(34)}",
          '",\n  "tenant": "' + draw.uuid() + '"\n}')  # fmt: skip
    plant(
        "azure", "Endpoint=sb://acme.servicebus.windows.net/;SharedAccessKeyName=Root;SharedAccessKey=", draw.bytes(32)
    )

    plant("models", "huggingface-cli login --token ", "hf_" + draw.of(string.ascii_letters, 34))
    plant("models", 'GROQ_API_KEY: "', "gsk_" + draw.word(52), '"')
    plant("models", "os.environ['REPLICATE_API_TOKEN'] = '", "r8_" + draw.word(37), "'")

    plant("cloud", "doctl auth init -t ", "dop_v1_" + draw.hex(64))
    plant("cloud", "CLOUDFLARE_API_TOKEN=", draw.url(40), " wrangler deploy")
    plant("cloud", "DATABRICKS_TOKEN=", "dapi" + draw.hex(32) + "-2", "\n")

    plant("chat bot", "https://api.telegram.org/bot", f"{draw.digits(10)}:AA{draw.url(33)}", "/getUpdates")
    bot = base64.b64encode(draw.digits(18).encode()).decode() + "." + draw.word(6) + "." + draw.url(38)
    plant("chat bot", "client.login('", bot, "');")
    plant("chat bot", "POST https://discord.com/api/webhooks/" + draw.digits(19) + "/", draw.url(68))

    plant("vault", "Key      Value\n---      -----\ntoken    ", "hvs.CAESI" + draw.url(90), "\n")
    plant("vault", 'credentials "app.terraform.io" {\n  token = "', draw.word(14) + ".atlasv1." + draw.url(67), '"\n}')
    plant("vault", "# public key: age1" + draw.of(string.ascii_lowercase, 10) + "\n",
          "AGE-SECRET-KEY-1" + draw.of("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58), "\n")  # fmt: skip

    plant("observability", "DD_API_KEY=", draw.hex(32), " DD_SITE=datadoghq.eu ./install.sh")
    plant("observability", '-H "Authorization: Bearer ', f"glsa_{draw.word(32)}_{draw.hex(8)}", '" https://g.acme.io')
    plant("observability", "NEW_RELIC_USER_KEY=", "NRAK-" + draw.upper(27))

    plant("password", "POSTGRES_PASSWORD=", "Tz4!kQw9_mB2")
    plant("password", "spring:\n  datasource:\n    username: app\n    password: ", "xW7pLq2Rn8Vd", "\n")
    plant("password", "$ mysql -h db -u root --password='", "gR8#tyU2$pLm", "' -e 'show tables'")

    plant("http", "curl -u deploy:", "q8Zr-41mPd-Xw0s", " https://nexus.acme.io/repository/raw/")
    basic = base64.b64encode(("svc-build:" + draw.word(20)).encode()).decode()
    plant("http", "GET /v2/ HTTP/1.1\nAuthorization: Basic ", basic, "\nHost: registry.acme.io")
    plant("http", "  -H 'Authorization: Bearer ", draw.word(43), "' \\\n  https://api.acme.io/v1/me")
    return found


def _hashes(draw: _Draw) -> list[str]:
    return [
        f"commit {draw.hex(40)}\nAuthor: A <a@b.io>\n\n    Rotate the api key of staging",
        f"[main {draw.hex(7)}] Add token refresh",
        f"index {draw.hex(7)}..{draw.hex(7)} 100644",
        f"HEAD is now at {draw.hex(9)} Drop the password column",
        f"Subproject commit {draw.hex(40)}",
        f"- uses: actions/checkout@{draw.hex(40)} # v4.2.2",
        f"sha256:{draw.hex(64)}: Pull complete",
        f"{draw.hex(64)}  dist/app-1.0.tar.gz",
        f"{draw.hex(32)}  password.txt",
        f'ETag: "{draw.hex(32)}"',
        f"token_hash = '{hashlib.sha256(draw.word(9).encode()).hexdigest()}'",
        f"image: ghcr.io/acme/api@sha256:{draw.hex(64)}",
        f"'cache_key': '{draw.hex(40)}'",
        f"cache-key: node-modules-{draw.hex(64)}",
        f"From {draw.hex(40)} Mon Sep 17 00:00:00 2001",
        f"go: downloading golang.org/x/crypto v0.0.0-20250101000000-{draw.hex(12)}",
        f"key fingerprint = {' '.join(draw.upper(4) for _ in range(10))}",
        f"chunk-{draw.hex(20)}.js  142 kB",
        f'"requestId": "{draw.hex(32)}"',
        f"X-Amz-Cf-Id: {draw.url(54)}==",
    ]


def _identifiers(draw: _Draw) -> list[str]:
    return [
        draw.uuid(),
        f"session_id: {draw.uuid()}",
        f"x-request-id: {draw.uuid()}",
        f'{{"token_id": "{draw.uuid()}"}}',
        f"api_key_id = {draw.uuid()}",
        f"secretName: tls-{draw.hex(10)}",
        f"arn:aws:secretsmanager:eu-central-1:{draw.digits(12)}:secret:prod/db-{draw.word(6)}",
        f"arn:aws:kms:us-east-1:{draw.digits(12)}:key/{draw.uuid()}",
        f"i-0{draw.hex(16)} running t3.medium subnet-0{draw.hex(16)}",
        f"trace_id={draw.hex(32)} span_id={draw.hex(16)}",
        f"traceparent: 00-{draw.hex(32)}-{draw.hex(16)}-01",
        f"toolu_01{draw.word(22)}",
        f"call_{draw.word(24)}",
        f"msg_01{draw.word(22)}",
        f"req_011{draw.word(21)}",
        f"chatcmpl-{draw.word(29)}",
        f"rs_0{draw.hex(49)}",
        f"cus_{draw.word(14)} pi_{draw.word(24)}",
        f"prod_{draw.word(14)} price_1{draw.word(23)}",
        f"U0{draw.upper(9)} posted in C0{draw.upper(9)}",
        f"https://www.youtube.com/watch?v={draw.url(11)}",
        f"https://docs.google.com/document/d/1{draw.url(43)}/edit",
        f"bucket s3://acme-logs-{draw.digits(12)}/AWSLogs/{draw.digits(12)}/",
        f"objectId: '{draw.hex(24)}'",
        f"0x{draw.hex(40)} sent 1.2 ETH",
        f"client_id={draw.digits(12)}-{draw.of(string.ascii_lowercase + string.digits, 32)}.apps.googleusercontent.com",
        f"AZURE_CLIENT_ID={draw.uuid()}",
        f"AZURE_SUBSCRIPTION_ID={draw.uuid()}",
        f"GOOGLE_ANALYTICS=G-{draw.upper(10)}",
        f"https://public-{draw.hex(8)}.sentry-cdn.com/{draw.hex(32)}.min.js",
    ]


def _packages(draw: _Draw) -> list[str]:
    return [
        f'"integrity": "sha512-{draw.bytes(64)}",',
        f"      resolved: 'https://registry.npmjs.org/ms/-/ms-2.1.3.tgz', integrity: sha512-{draw.bytes(64)}",
        f"    --hash=sha256:{draw.hex(64)} \\",
        f"golang.org/x/net v0.30.0 h1:{draw.bytes(32)}",
        f"golang.org/x/net v0.30.0/go.mod h1:{draw.bytes(32)}",
        f'checksum = "{draw.hex(64)}"',
        f'{{file = "token-1.0-py3-none-any.whl", hash = "sha256:{draw.hex(64)}"}},',
        f"  checksum: 10c0/{draw.hex(128)}",
        f"  resolution: {{integrity: sha512-{draw.bytes(64)}}}",
        f'<script src="/a.js" integrity="sha384-{draw.bytes(48)}" crossorigin="anonymous"></script>',
        f'    narHash = "sha256-{draw.bytes(32)}";',
        f'vendorHash = "sha256-{draw.bytes(32)}";',
        f'"contentHash": "{draw.bytes(64)}"',
        f"SHA1({draw.hex(40)}) jsonwebtoken-9.0.2.tgz",
        f"RUBY_CHECKSUM: bcrypt (3.1.20) sha256={draw.hex(64)}",
        f"content-md5: {draw.bytes(16)}",
        f"sec-websocket-accept: {draw.bytes(20)}",
        f"sec-websocket-key: {draw.bytes(16)}",
        f"'sha256-{draw.bytes(32)}' in Content-Security-Policy",
        f"h1:{draw.bytes(32)}",
    ]


def _binary(draw: _Draw) -> list[str]:
    png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42"
    return [
        f"data:image/png;base64,{png}{draw.bytes(600)}",
        f'{{"type":"image","source":{{"type":"base64","media_type":"image/png","data":"{png}{draw.bytes(900)}"}}}}',
        f"data:font/woff2;base64,d09GMgABAAAAA{draw.bytes(700)}",
        f"data:image/jpeg;base64,/9j/4AAQSkZJRgABAQ{draw.bytes(800)}",
        f"//# sourceMappingURL=data:application/json;base64,eyJ2ZXJzaW9uIjozLCJ{draw.bytes(300)}",
        f'"encrypted_content":"gAAAAABo{draw.url(400)}=="',
        f'"signature":"EqQBCkYIARgCKkD{draw.bytes(240)}"',
        draw.lines(900, 76),
        "mappings: '" + ";".join("A" + draw.of(string.ascii_letters, 4) + "," + draw.word(5) for _ in range(40)) + "'",
        "00000000: " + " ".join(draw.hex(4) for _ in range(8)) + "  ................",
        f"H4sIAAAAAAAA{draw.bytes(200)}",
        f'"thumbhash": "{draw.bytes(24)}"',
        f"content: !!binary |\n  {draw.bytes(90)}",
        f"R0lGODlhAQABAIAAAAAAAP///{draw.bytes(60)}",
        f"JVBERi0xLjQKJ{draw.bytes(400)}",
        f'blurDataURL="data:image/webp;base64,UklGR{draw.bytes(90)}"',
    ]


def _public_keys(draw: _Draw) -> list[str]:
    return [
        f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{draw.bytes(32)} a@b",
        f"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ{draw.bytes(380)} deploy@ci",
        f"256 SHA256:{draw.bytes(32).rstrip('=')} a@b (ED25519)",
        "2048 MD5:" + ":".join(draw.hex(2) for _ in range(16)) + " root@host (RSA)",
        "-----BEGIN PUBLIC KEY-----\n" + draw.lines(294) + "\n-----END PUBLIC KEY-----",
        "-----BEGIN CERTIFICATE-----\n" + draw.lines(900) + "\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE REQUEST-----\n" + draw.lines(600) + "\n-----END CERTIFICATE REQUEST-----",
        "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n" + draw.lines(600) + "\n-----END PGP PUBLIC KEY BLOCK-----",
        "-----BEGIN PGP SIGNATURE-----\n\n" + draw.lines(228) + "\n-----END PGP SIGNATURE-----",
        f"github.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{draw.bytes(32)}",
        f"|1|{draw.bytes(20)}|{draw.bytes(20)} ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTY{draw.bytes(80)}",
        f"age1{draw.of('qpzry9x8gf2tvdw0s3jn54khce6mua7l', 58)}",
        f"minisign public key: RW{draw.bytes(40)}",
        f'"kty":"RSA","e":"AQAB","n":"{draw.url(342)}"',
        f"SHA256 Fingerprint={':'.join(draw.hex(2).upper() for _ in range(32))}",
        f"dkim: v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQ{draw.bytes(130)}",
        f"pk_live_{draw.word(24)} is the publishable one",
        f"VITE_STRIPE_PUBLISHABLE_KEY=pk_test_{draw.word(99)}",
        f"WireGuard peer, PublicKey = {draw.bytes(32)}",
        f"recaptcha site key 6L{draw.url(38)}",
    ]


def _examples() -> list[str]:
    """What documentation prints, so that nobody mistakes it."""
    return [
        "aws_access_key_id = AKIAIOSFODNN7" + "EXAMPLE",
        "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCY" + "EXAMPLEKEY",
        "export OPENAI_API_KEY=sk-...",
        "export OPENAI_API_KEY=<your-api-key>",
        "ANTHROPIC_API_KEY=sk-ant-your-key-here",
        "OPENAI_API_KEY=your_openai_api_key_here",
        "password=<your password>",
        "PASSWORD=changeme",
        "password: ********",
        'db_password = "xxxxxxxxxxxx"',
        "token: [REDACTED]",
        "Authorization: Bearer <token>",
        "Authorization: Bearer $TOKEN",
        "Authorization: Bearer ${ACCESS_TOKEN}",
        "Authorization: Bearer {{ token }}",
        "curl -u username:password https://api.example.com",
        'curl -u "$USER:$PASS" https://api.example.com',
        "postgres://user:password@localhost:5432/mydb",
        "postgresql://postgres:postgres@localhost/test",
        "postgres://USER:PASSWORD@HOST:PORT/DATABASE",
        "mongodb://<username>:<password>@cluster.example.net",
        "mysql://root:${MYSQL_ROOT_PASSWORD}@db:3306/app",
        "redis://default:secret@redis:6379",
        "https://user:pass@example.com/path",
        "ghp_" + "x" * 36,
        "GITHUB_TOKEN=ghp_xxxxxxxxxxxxxxxxxxxx",
        "xoxb-your-token-here",
        "https://hooks.slack.com/services/" + "T00000000/B00000000/" + "X" * 24,
        "AIza" + "X" * 35,
        "sk_test_your_secret_key",
        "hf_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "-----BEGIN PRIVATE " + "KEY-----\n...\n-----END PRIVATE " + "KEY-----",
        "-----BEGIN RSA PRIVATE " + "KEY----- is what the file must begin with",
        "secret_key = 'insert-your-secret-key-here'",
        "API_KEY=" + "0" * 32,
        "eyJhbGciOi... is how a JWT begins",
        "AccountKey=<storage-account-key>;EndpointSuffix=core.windows.net",
        "npm_token: ${NPM_TOKEN}",
        "//registry.npmjs.org/:_authToken=${NPM_TOKEN}",
        "Set `STRIPE_SECRET_KEY=sk_live_...` in .env",
    ]


def _references() -> list[str]:
    """Where a secret is named, and another place holds it."""
    return [
        "token: ${{ secrets.GITHUB_TOKEN }}",
        "NPM_TOKEN: ${{ secrets.NPM_TOKEN }}",
        "password: ${{ secrets.DOCKERHUB_PASSWORD }}",
        "AWS_SECRET_ACCESS_KEY: $AWS_SECRET_ACCESS_KEY",
        "password = os.environ['DB_PASSWORD']",
        'api_key=os.getenv("OPENAI_API_KEY")',
        "const apiKey = process.env.STRIPE_SECRET_KEY;",
        "secret_key = settings.SECRET_KEY_FALLBACK",
        "password: !vault |",
        "token = keyring.get_password('acme', 'deploy')",
        "password=$(pass show acme/db)",
        "token=`gh auth token`",
        "secretKeyRef:\n  name: db-credentials\n  key: password",
        "valueFrom: {secretKeyRef: {name: api-token, key: token}}",
        "password = var.db_password",
        "  + password = (sensitive value)",
        "  + secret_string = (known after apply)",
        "  ~ token      = (sensitive value) -> (known after apply)",
        "self.password = password",
        "def login(username: str, password: str) -> Token:",
        "password: string;",
        "const { token, refreshToken } = await getTokens(user);",
        "if not verify_password(plain_password, hashed_password):",
        '<input type="password" name="password" autocomplete="current-password">',
        "tokens = tokenizer.encode(text, add_special_tokens=False)",
        "max_tokens=4096, completion_tokens: 812, cached_tokens: 11264",
        "input_tokens: 1234567890, output_tokens: 987654321",
        "PasswordAuthentication no",
        "secret = Secret.from_name('db-password-rotation-policy')",
        "key=lambda item: item.created_at",
        "primary_key=True, foreign_key='users.id'",
        '--from-literal=password="$DB_PASSWORD"',
        "kubectl get secret db-credentials -o jsonpath='{.data.password}'",
        "vault kv get -field=token secret/ci/deploy",
        'echo "$DEPLOY_KEY" > ~/.ssh/id_ed25519',
        "credentials: include, headers: { 'X-CSRF-Token': getCookie('csrftoken') }",
        "op://Private/GitHub/token",
        "password_hash_algorithm: argon2id-v19-m65536-t3-p4",
        "JWT_SECRET must be at least 32 characters long",
        "error: authentication token expired, run `acme login`",
    ]


def _code(draw: _Draw) -> list[str]:
    return [
        ".btn-primary:hover{color:#fff;background-color:#0b5ed7;border-color:#0a58ca}.form-control:focus{outline:0}",
        '!function(e,t){"object"==typeof exports&&"undefined"!=typeof module?t(exports):t((e=e||self).R={})}(this);',
        "var a=e.token,r=a.type,s=this.pass,o=t.key||n.secret;return i(a,r,s,o)}",
        f"._3{draw.word(5)}{{display:flex}}.css-{draw.hex(7)}{{margin:0}}",
        f"<link rel=stylesheet href=/_next/static/css/{draw.hex(16)}.css>",
        f'<img src="https://avatars.githubusercontent.com/u/{draw.digits(8)}?s=64&v=4&token=">',
        "M12 2C6.48 2 2 6.48 2 12s4.48 10 10 10 10-4.48 10-10S17.52 2 12 2zm0 18c-4.41 0-8-3.59-8-8s3.59-8 8-8",
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/",
        "assert slugify('Password Reset Token') == 'password-reset-token'",
        "user = User(email='a@example.com', password='test')",
        "response = client.post('/login', json={'username': 'alice', 'password': 'wrong'})",
        "monkeypatch.setenv('API_KEY', 'dummy')",
        "it('rejects an expired token', async () => { const token = 'invalid-token';",
        "eyJhbGciOiJub25lIn0.not-a-token.at-all".replace("eyJ", "eyK"),
        "www.verylonghostname.subdomain.of.internal.acme-corporation.example.com",
        "org.springframework.security.oauth2.client.token.OAuth2AccessTokenProvider",
    ]


def look_alikes(seed: int = 20261122) -> list[str]:
    """The 202 texts that hold no secret."""
    draw = _Draw(seed)
    found = [*_hashes(draw), *_identifiers(draw), *_packages(draw), *_binary(draw), *_public_keys(draw)]
    return [*found, *_examples(), *_references(), *_code(draw)]
