"""The scanner: what it finds, what it leaves, and that no text makes it slow."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from codex.logging.errors import ConfigError
from codex.logging.secrets.allow import allowed_of
from codex.logging.secrets.placeholder import digest, key_of, placeholder
from codex.logging.secrets.rules import rules
from codex.logging.secrets.scan import OVERLAP_BYTES, Scanner, scanner
from tests import contexts, heldout
from tests.commands import python
from tests.planted import Planted, look_alikes, secrets

SEEDS = range(7, 17)


def missed(planted: list[Planted]) -> list[str]:
    """The texts in which a scan leaves anything of the secret, as they stand or as JSON."""
    texts = [(one.text, one.secret) for one in planted]
    texts += [(json.dumps({"text": text}), json.dumps(secret)[1:-1]) for text, secret in texts]
    return [text for text, secret in texts if not covered(text.encode(), secret.encode())]


def covered(text: bytes, secret: bytes) -> bool:
    """Whether what is found in a text holds all of a secret but its line ends."""
    begin = text.index(secret)
    rest = set(range(begin, begin + len(secret)))
    for match in scanner().find(text):
        rest -= set(range(match.start, match.end))
    return not bytes(text[place] for place in sorted(rest)).strip(b"\n")


def taken(texts: list[str]) -> list[str]:
    """Those in which anything is found."""
    return [text for text in texts if scanner().find(text.encode())]


def test_secrets_are_found_and_look_alikes_are_not() -> None:
    """Of the planted secrets at least 95 in 100, of the look-alikes at most 2."""
    for seed in SEEDS:
        planted, others = secrets(seed), look_alikes(seed)
        assert len(missed(planted)) <= 0.05 * 2 * len(planted)
        assert len(taken(others)) <= 0.02 * len(others)


def test_formats_that_the_rules_were_not_made_from_are_found() -> None:
    """The same of a set that was written from the services' documents, without a look at the rules."""
    for seed in SEEDS[:3]:
        planted, others = heldout.secrets(seed), heldout.look_alikes(seed)
        assert len(missed(planted)) <= 0.05 * 2 * len(planted)
        assert len(taken(others)) <= 0.02 * len(others)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_secrets_within_json_are_found(depth: int) -> None:
    """A secret is found in a JSON text's bytes, and in one within another, and nothing of the JSON goes with it."""
    for one in secrets():
        text = f"before {one.text} after"
        for _ in range(depth):
            text = json.dumps({"key": text})
        data = text.encode()
        for match in reversed(scanner().find(data)):
            data = data[: match.start] + b"[REDACTED:x:00000000]" + data[match.end :]
        assert not any(line.encode() in data for line in one.secret.split("\n")), (one.kind, depth)
        for _ in range(depth):
            data = json.loads(data)["key"]
        assert str(data).startswith("before ")
        assert str(data).endswith(" after")


def test_secrets_behind_needless_escapes_are_found() -> None:
    """Characters that JSON may escape but needn't hide nothing, and the place is that of the escaped bytes."""
    planted = [one for one in secrets() if one.kind not in {"private-key", "jwt"}]
    escaped = ["".join(f"\\u00{ord(c):02x}" if c in "/_-.:abcde" else c for c in one.text) for one in planted]
    for one, text in zip(planted, escaped, strict=True):
        (match, *_) = scanner().find(text.encode()) or [None]
        assert match is not None, one.kind
        rest = json.loads(b'"' + text.encode()[: match.start].replace(b'"', b"") + b'"')
        assert one.secret not in rest


def test_look_is_as_long_as_the_text() -> None:
    """A text of nothing but beginnings of secrets takes no rule further than its bound: none runs on."""
    chance = random.Random(3)
    parts = [anchor.decode() for rule in rules() for anchor in rule.anchors[:3]]
    parts += ["password=", "token: ", 'secret":"', "Bearer ", "-----BEGIN PRIVATE KEY-----\n", "\\\\\\", "eyJhbGciOi."]
    for part in parts:
        text = (part * (OVERLAP_BYTES // len(part) + 50)).encode()
        assert all(match.end - match.start <= OVERLAP_BYTES for match in scanner().find(text))
    scanner().find("".join(chance.choices(parts, k=5_000)).encode())


def test_no_name_is_looked_at_for_ever(tmp_path: Path) -> None:
    """A long name that is nearly an identifier is seen through at once, however it could be divided into words."""
    python(
        """
        from codex.logging.secrets.scan import scanner
        for part in ("_", "a_", "a.", "a-", "_-", "A1"):
            for end in ("", "9!", "=", ".", "1234567"):
                for name in ("password=d", "api_key: d", "token='d"):
                    scanner().find((name + part * 100 + end).encode())
        """,
        tmp_path,
    )


def test_placeholders_are_no_secrets() -> None:
    """What stands in a secret's place is found by no rule, also where it is assigned to a password."""
    for rule in rules():
        for text in ("{}", "password={}", 'api_key: "{}"', "https://a:{}@b.test", "Authorization: Bearer {}"):
            assert not scanner().find(text.format(placeholder(rule.id, "9b680c24")).encode())


def test_what_shows_once_another_is_replaced_is_found() -> None:
    """A token that runs into another one ends there when that is gone, and is one by itself: no copy has it left."""
    text = b"sk_" + b"live_" + b"aB3dE6gH9k" * 25 + b"AK" + b"IAQ2W3E4R5T6Y7U2I3"
    first, second = scanner().find(text)
    assert (first.rule, second.rule) == ("stripe", "aws-access-key")


def test_pieces_of_one_secret_are_one_hash(tmp_path: Path) -> None:
    """However a secret is escaped or laid out its hash is the same; with another database's key it is another."""
    key, other = key_of(str(tmp_path / "a.db")), key_of(str(tmp_path / "b.db"))
    assert key == key_of(str(tmp_path / "a.db"))
    assert (tmp_path / "a.db.key").stat().st_mode & 0o777 == 0o600
    assert digest(key, b"ab/c\nd") == digest(key, rb"ab\/c\nd") == digest(key, rb"ab\\u002fc\\nd")
    assert digest(key, b"ab/cd") != digest(other, b"ab/cd")


def test_allow_list_lets_be_what_it_names(tmp_path: Path) -> None:
    """A line is a hash, a pattern or a text; comments and empty lines are none; a wrong one is told."""
    file, database = tmp_path / "secrets-allow", str(tmp_path / "a.db")
    none = allowed_of(database)
    file.write_text("# ours\n\nhash:0011aabb\nregex:^AKIA.*X$\nplain text\n", "utf-8")
    allowed = allowed_of(database)
    assert allowed.mark != none.mark
    assert allowed.allows(b"", "0011aabb")
    assert allowed.allows(b"AKIAX", "ffffffff")
    assert allowed.allows(b"plain text", "ffffffff")
    assert not allowed.allows(b"plain texts", "ffffffff")
    for wrong in ("hash:1", "regex:("):
        file.write_text(wrong, "utf-8")
        with pytest.raises(ConfigError):
            allowed_of(database)


def test_nothing_is_looked_for_at_fewer_places_than_it_is_at() -> None:
    """A rule's tail asks for no more than its pattern: what is found without tails is found with them."""
    without = Scanner([rule._replace(tail="") for rule in rules()])
    chance = random.Random(5)
    texts = [one.text for seed in SEEDS for one in (*secrets(seed), *heldout.secrets(seed))]
    texts += ["".join(chance.choices(texts, k=9)) for _ in range(99)]
    for text in texts:
        assert scanner().find(text.encode()) == without.find(text.encode()), text


def test_secrets_are_found_wherever_people_paste_them() -> None:
    """By the name before it, whatever parts the two, by the command that it is given to, and by its issuer's marks."""
    drawn = [contexts.secrets(seed) for seed in SEEDS]
    for place in zip(*drawn, strict=True):
        lost = [one for one in place if not covered(one.text.encode(), one.secret.encode())]
        assert len(lost) <= 0.2 * len(drawn), lost
    for seed in SEEDS:
        others = contexts.look_alikes(seed)
        assert len(taken(others)) <= 0.02 * len(others), taken(others)


@pytest.mark.parametrize("before", ["", "+", "-", "    ", "> ", "\t", '"', "# ", "    12→", "    12\t"])
@pytest.mark.parametrize("depth", range(4))
def test_private_keys_are_found_however_they_are_laid_out(before: str, depth: int) -> None:
    """Indented, in a diff, a string a line, escaped up to three times, and where the text ends before the key does."""
    lines = next(one for one in secrets() if one.kind == "private-key").secret.split("\n")
    begin, end = (f"-----{word} RSA PRIVATE" + " KEY-----" for word in ("BEGIN", "END"))
    after = '"' if before == '"' else ""
    for last in ([end, "and then some more text, which stays"], []):
        text = "\n".join(f"{before}{line}{after}" for line in [begin, *lines, *last])
        for _ in range(depth):
            text = json.dumps(text)[1:-1]
        data = text.encode()
        for match in reversed(scanner().find(data)):
            data = data[: match.start] + data[match.end :]
        assert not any(line.encode() in data for line in lines)
        assert (b"some more text, which stays" in data) == bool(last)
