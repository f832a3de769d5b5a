"""A third planted set: where people paste a secret, and what stands there that is none.

The planted sets vary what a secret looks like; this one varies what stands around it: names, separators, commands,
files, layers of JSON. Values are drawn here, so that no file of this tree holds anything of their shape."""

import base64
import json
import random
import string
import uuid
from collections.abc import Callable

from tests.planted import Planted

_LOWER, _DIGITS = string.ascii_lowercase, string.digits
_BASE62 = string.ascii_letters + _DIGITS
_HEX = _DIGITS + "abcdef"
_URLSAFE = _BASE62 + "-_"
_BASE64 = _BASE62 + "+/"

# `{}` is a value of letters, digits and a few signs; `[]` may hold any sign, and stands in quotes.
_PASSWORDS = (
    "DB_PASSWORD={}\nDB_HOST=db\n",
    "PGPASSWORD={} psql -h db -U app",
    "mysql -u root -p{} shop < dump.sql",
    "sshpass -p '{}' ssh ops@10.1.2.3 uptime",
    "docker login -u ci -p {} registry.acme.io",
    "$ cat ~/.netrc\nmachine git.acme.io\nlogin ci\npassword {}\n",
    "machine git.acme.io login ci password {}",
    "db.acme.io:5432:shop:app:{}\n",
    "<server>\n  <username>ci</username>\n  <password>{}</password>\n</server>",
    "host=db port=5432 user=app password={} sslmode=require",
    "Server=tcp:db.acme.io,1433;User ID=app;Password={};Encrypt=True;",
    "the admin password is {} , please sign in with it",
    "set ADMIN_PASSWORD to {} on staging",
    "curl -u deploy:{} https://nexus.acme.io/status",
    '["curl", "-u", "deploy:{}", "https://nexus.acme.io"]',
    "amqps://app:{}@mq.acme.io:5671/shop",
    "redis-cli -h cache -a {} PING",
    "requirepass {}\nmaxmemory 1gb\n",
    "ENV SMTP_PASS {}\nEXPOSE 80\n",
    "+ smtp_password = \"[]\"\n-smtp_password = os.environ['SMTP_PASSWORD']\n",
    "ALTER USER app WITH PASSWORD '[]';",
    "define('DB_PASSWORD', '[]');",
    '[{"name": "DB_USER", "value": "app"}, {"name": "DB_PASSWORD", "value": "[]"}]',
    '<add key="SmtpPassword" value="[]" />',
    'const pwd = process.env.APP_PASSWORD || "[]";',
    "password: |\n    {}\nuser: app\n",
    "aws ssm put-parameter --name /shop/db --type SecureString --value '{}'",
    "echo 'deploy:{}' | chpasswd",
    'ConvertTo-SecureString "{}" -AsPlainText -Force',
    'variable "db_password" {\n  default = "{}"\n}',
    "<passphrase>{}</passphrase>",
    "the admin password for shop.acme.io is {} (user ci), try it",
    "await page.fill('input[name=password]', '{}');",
    "ALTER USER 'app'@'%' IDENTIFIED BY '{}';",
    "echo '{}' | sudo -S systemctl restart shop",
    "cd shop\nmosquitto_pub -h mq -u ci -P '{}' -t shop/cmd -m on",
)
_SECRETS = (
    "JWT_SECRET={}\n",
    "APP_KEY: {}\n",
    "azure.storage.account.key={}\n",
    "X-Auth-Key: {}\nAccept: */*",
    "DD-APPLICATION-KEY: {}",
    "gh secret set DEPLOY_KEY --body '{}' --repo acme/shop",
    "kubectl create secret generic app --from-literal=signing-secret={}",
    "acme login --token {} --region eu",
    "acme deploy --api-key={}",
    "export ENCRYPTION_KEY='{}'",
    'signing_secret := "{}"',
    "'client_secret' => '{}',",
    "os.environ['ACME_API_KEY'] = '{}'",
    "os.getenv('ACME_API_KEY', '{}')",
    "localStorage.setItem('access_token', '{}')",
    'apiKey: string = "{}";',
    "https://api.acme.io/v1/items?api_key={}&page=2",
    "I generated a new webhook secret and set WEBHOOK_SECRET to {} there",
    "the API key is {}, do not commit it",
    "- name: SESSION_SECRET\n  value: {}\n",
    '{"ParameterKey":"MasterKey","x":1} ParameterKey=MasterKey,ParameterValue={}',
    "fly secrets set SECRET_KEY_BASE={} -a shop",
    "Authorization: Bot {}",
    '{"headers": {"Authorization": "Bearer {}"}}',
    "npm config set //npm.acme.io/:_authToken {}",
    "wandb login {}",
    "app.secret_key = b'{}'",
    "Cookie: theme=dark; sessionid={}; lang=en",
)


class _Draw:
    """Values, the same ones at each run."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def of(self, alphabet: str, length: int) -> str:
        return "".join(self.random.choices(alphabet, k=length))

    def bytes(self, length: int) -> str:
        return base64.b64encode(self.random.randbytes(length)).decode()

    def password(self) -> str:
        """As a person or a generator makes one."""
        words = self.random.sample(("Harbour", "tulip", "Quartz", "meadow", "Saffron", "otter"), 3)
        made: list[Callable[[], str]] = [
            lambda: f"{words[0]}-{words[1]}-{self.of(_DIGITS, 4)}{self.of(_LOWER, 2)}",
            lambda: f"{words[0]}{self.random.choice('!@#%')}{self.of('23456789', 3)}{words[1][:3]}",
            lambda: self.random.choice("-_.").join([*words, self.of(_DIGITS, 2)]).lower(),
            lambda: self.of(_LOWER + _DIGITS, 20),
            lambda: self.of(_BASE62, 14),
            lambda: f"{self.of(_BASE62, 6)}_{self.of(_BASE62, 7)}{self.of(_DIGITS, 1)}",
        ]
        return self.random.choice(made)()

    def secret(self) -> str:
        made = [self.of(_HEX, 40), self.of(_HEX, 64), self.of(_BASE62, 32), self.of(_URLSAFE[:-2], 43), self.bytes(32)]
        return self.random.choice(made)

    def wrapped(self, text: str, value: str) -> tuple[str, str]:
        """As it stands, or as a tool's result within one or two layers of JSON."""
        for _ in range(self.random.choice((0, 0, 1, 2))):
            text, value = json.dumps({"type": "tool_result", "content": text}), json.dumps(value)[1:-1]
        return text, value


def secrets(seed: int) -> list[Planted]:
    """One in each place."""
    draw = _Draw(seed)
    planted = []
    for kind, places, make in (("password", _PASSWORDS, draw.password), ("secret", _SECRETS, draw.secret)):
        for place in places:
            value = make()
            if "[]" in place:
                value += draw.of("(&;,$^*=+", 2) + draw.of(_DIGITS, 2)
            text, value = draw.wrapped(place.replace("[]", "{}").replace("{}", value, 1), value)
            planted.append(Planted(kind, value, text))
    return [*planted, *_marked(draw)]


def _marked(draw: _Draw) -> list[Planted]:
    """What services mark their secrets with, in prose that doesn't call them any."""
    basic = base64.b64encode(f"ci:{draw.of(_BASE62, 14)}".encode()).decode()
    account = base64.b64encode(json.dumps({"type": "service_account", "key": draw.of(_BASE62, 90)}).encode()).decode()
    values = {
        "fly": "fm2_" + draw.bytes(200),
        "doppler": "dp." + f"pt.{draw.of(_BASE62, 43)}",
        "planetscale": "pscale_" + f"tkn_{draw.of(_URLSAFE[:-2], 43)}",
        "aws session": "IQoJb3JpZ2lu" + f"X2Vj{draw.bytes(300)}",
        "azure storage": draw.of(_BASE64, 76) + "+A" + f"St{draw.of(_BASE62, 6)}==",
        "service bus": draw.of(_BASE64, 37) + "+A" + f"Sb{draw.of(_BASE62, 2)}=",
        "entra": f"{draw.of(_BASE62, 3)}7Q~{draw.of(_BASE62, 34)}",
        "bitbucket": "ATBB" + draw.of(_BASE62, 32),
        "resend": "re_" + f"{draw.of(_BASE62, 8)}_{draw.of(_BASE62, 24)}",
        "airtable": "pat" + f"{draw.of(_BASE62, 14)}.{draw.of(_HEX, 64)}",
        "notion": "secret_" + draw.of(_BASE62, 43),
        "pinecone": "pcsk_" + f"{draw.of(_BASE62, 6)}_{draw.of(_BASE62, 60)}",
        "nvidia": "nvapi-" + draw.of(_URLSAFE[:-2], 64),
        "mailgun": f"{draw.of(_HEX, 32)}-{draw.of(_HEX, 8)}-{draw.of(_HEX, 8)}",
        "brevo": "xkeysib-" + f"{draw.of(_HEX, 64)}-{draw.of(_BASE62, 16)}",
        "rubygems": "rubygems_" + draw.of(_HEX, 48),
        "installation": "ghs_" + f"1234_eyJ{draw.of(_BASE62, 30)}.eyJ{draw.of(_BASE62, 60)}.{draw.of(_BASE62, 43)}",
        "service account": account,
        "docker": basic,
        "aws pair": draw.bytes(30),
        "twilio pair": draw.of(_BASE62, 32),
    }
    places = {"docker": '{"auths": {"ghcr.io": {"auth": "%s"}}}', "service account": "GCP_SA_B64=%s"}
    places["aws pair"] = (
        f"User name,Access key ID,Secret access key\nci,AK{'IA'}{draw.of('ABCDEFGHKMNPQRSTUVWXYZ234567', 16)},%s"
    )
    places["twilio pair"] = f"twilio('S{'K'}{draw.of(_HEX, 32)}', '%s', options)"
    found = []
    for kind, value in values.items():
        text, drawn = draw.wrapped(places.get(kind, "try it with %s once more") % value, value)
        found.append(Planted(kind, drawn, text))
    return found


def look_alikes(seed: int) -> list[str]:
    """What stands in the same places, and is no secret."""
    draw = _Draw(seed)
    texts = [
        f"password: {draw.random.choice(('hunter', 'string', 'Passwort vergessen?', 'None', 'required'))}",
        "password=reset-token-flow-v2",
        "password=shop-release-24-postgres-image",
        "db_password: backup-2024-11-nightly",
        "PASSWORD_MIN_LENGTH=12345678",
        f"arn:aws:secretsmanager:eu-west-1:{draw.of(_DIGITS, 12)}:secret:prod/db/password-{draw.of(_BASE62, 6)}",
        f"kind: SealedSecret\nspec:\n  encryptedData:\n    password: AgB{draw.bytes(400)}",
        f"db_password: ENC[AES256_GCM,data:{draw.bytes(12)},iv:{draw.bytes(32)},tag:{draw.bytes(16)},type:str]",
        f"api_token: vault:v1:{draw.bytes(60)}",
        f"password: $2b$12${draw.of(_BASE62, 53)}",
        f"password: pbkdf2_sha256$600000${draw.of(_BASE62, 22)}${draw.bytes(32)}",
        f"PASSWORD {{SSHA}}{draw.bytes(24)}",
        "GITHUB_TOKEN=op://Engineering/github-ci2/token1",
        "api_key = client2.config.keys.get(name)",
        "access_token = response2.json()['access_token']",
        "const key = cfg?.auth?.apiKey2 ?? null;",
        "if (!(t.ctrlKey||t.altKey)||t.metaKey&&t.altKey2) return;",
        "private_key: ed25519.Ed25519PrivateKey,",
        "auth_key = _mm512_xor_si512(a, b)",
        "secretsKind = S3SecretsKind::Default2",
        '"license_key": "bsd-3-clause-no-nuclear-2014",',
        'HEX_PAT = "[0-9A-Fa-f]{1,4}[0-9]{2,3}"',
        f"Sec-WebSocket-Key: {draw.bytes(16)}",
        f"csrf_token = '{draw.of(_BASE62, 32)}'",
        f"Idempotency-Key: {draw.of(_BASE62, 32)}",
        f"cache_key: node-{draw.of(_HEX, 64)}",
        f"primary_key={draw.of(_BASE62, 20)}",
        f"secret_id: {uuid.UUID(bytes=draw.random.randbytes(16))}",
        f"token_accessor     {draw.of(_BASE62, 24)}",
        f"key fingerprint is SHA256:{draw.bytes(32)}",
        f"https://{draw.of(_HEX, 32)}@o450.ingest.sentry.io/4501",
        f"message key=01J{draw.of(string.ascii_uppercase, 23)} topic=password-reset partition=3",
        "docker run -p 127.0.0.1:8080:80 -u 1000:1000000000 acme/shop",
        "ssh -p 2222222222 deploy@bastion; mkdir -p password-store/2024",
        "--- PASS: TestPasswordStore/tree1_nil_(all_added)",
        "src/token.ts:5432:17:unexpected token2",
        'createToken("GrantType", "RefreshTokenGrant")',
        '{"auth": "aGVsbG8gd29ybGQgMTIz"}',
        "RefreshTokenRequest | JwtBearerRequest | SecretTokenRequest2",
        "mysql -u root -p shop2024 < dump.sql",
    ]
    return [draw.wrapped(text, "")[0] for text in texts]
