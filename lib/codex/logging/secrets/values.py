"""What tells a secret from an example, a reference to one, a hash, a name or a word."""

from __future__ import annotations

import base64
import binascii
import math
import re
from itertools import pairwise

_EXAMPLES = re.compile(
    rb"example|sample|dummy|placeholder|change_?me|your(?:[_-]|api|key|token|secret|pass)|redacted|replace|insert|xxxxxx|\bxxxx|xxxx\b|\*\*\*|\.\.\.|<|\$\{|\{\{"
    rb"|\[\^?[A-Za-z0-9]-[A-Za-z0-9]|\(\?|\$\(|#\{|%\(|%s|\{[A-Za-z_][\w.]{0,40}\}|123456789|abcdefgh|00000000"
    # John Doe of jwt.io, and the account of Azure's emulator
    rb"|eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4g|Eby8vdM02xNOcqFlqUwJ",
    re.IGNORECASE,
)
# What stands in a URL, or beside `password`, in every tutorial.
_WORDS = frozenset(
    b"admin guest hidden pass passwd password password1 password123 postgres private pw pwd root secret test token user"
    b" username mysql mongo redis rabbitmq minio none null true false string".split()
)
_EXAMPLE_BYTES = 400  # in a longer one the words come by chance
# Where a value is kept, and what it looks like encrypted or hashed.
_REFERENCE = re.compile(
    rb"\.{0,2}/(?![A-Za-z0-9+/]{42}=?=?\Z)|~/|[a-z][a-z0-9+.-]{1,20}://|(?:arn|urn|data|vault|ref|file|env|secret|gcp|aws|ssm):|(?:projects|secrets?|parameter|vault)/"
    rb"|ENC[(\[]|\{(?:cipher|SSHA|SHA|CRYPT|PBKDF2)|\$(?:ANSIBLE|argon2|[0-9][a-z]?\$|[A-Za-z_{(])|pbkdf2|argon2|bcrypt|scrypt|scram-sha|sha(?:1|256|384|512)\$"
    rb"|AQ[IE]CA[HD]|gAAAAAB|Ag[A-D][A-Za-z0-9+/]{250}|ssh-|AAAA[BCE][23][A-Za-z]|age1|LS0tLS1CRUdJTiBDRVJU|LicenseRef-|MII[A-Za-z0-9+/]{300}|@Microsoft"
    rb"|[A-Z0-9]{2,4}EXAMPLE|0x[0-9a-fA-F]{40}\b|(?:sha(?:1|256|384|512)|md5|blake2b?)[-:_]",
)
UUID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_IDENTIFIER = re.compile(rb"[$@]?[A-Za-z_][A-Za-z_$]*+(?:(?:[?!]?[.-]>?|::)[A-Za-z_]++)*+[?!]?")
_NUMBERED = re.compile(rb"[A-Za-z_]++[0-9]{1,5}(?:[A-Za-z_]++)?|[A-Za-z_]++(?:[.-][A-Za-z_]++)*+[0-9]{0,4}")
_DOTTED = re.compile(
    rb"[A-Za-z_][A-Za-z]*+[0-9]{0,5}+[A-Za-z]*+(?:[._]++[A-Za-z]*+[0-9]{0,5}+[A-Za-z]*+){1,20}+(?:\(\))?"
)
_OPERATED = re.compile(rb"!|.*(?:&&|===?[^=]|::|->|\(\))", re.DOTALL)
_CALLED = re.compile(rb"[A-Za-z_][\w.:>?!-]*")
_SIGNS = re.compile(rb"[!@#$%^&*+=~?]")
# Words and numbers, parted by signs: a name of something.
_PIECE = rb"(?>(?:[A-Z]?[a-z]++|[A-Z]++)(?:[0-9]{1,2}+[A-Za-z]?+)?+|[a-z]?[0-9]{1,4}+[a-z]?+)"
_PHRASE = re.compile(_PIECE + rb"(?:[-_./]++" + _PIECE + rb"){2,40}+")
_SEPARATOR = re.compile(rb"[-_.]+")
# Words of names; a generator of phrases draws them next to never.
_TECHNICAL = frozenset(
    b"access account admin alpha auth backend backup beta branch bucket build client cluster config copy"
    b" credentials data database default demo deploy development docker east example feature field file"
    b" final form frontend group host image input internal item line list local login main name node north"
    b" object option page passwd password policy port postgres private prod production project public queue"
    b" redis region release replica reset role root sample secret server service session south staging step"
    b" string table temp test token type update user username value vault version volume west".split()
)
_HEX = re.compile(rb"[0-9a-f]{24,}|[0-9A-F]{24,}")
_KINDS = bytes(97 if 97 <= c <= 122 else 65 if 65 <= c <= 90 else 48 if 48 <= c <= 57 else 33 for c in range(256))
_WORD = re.compile(rb"[A-Z]?[a-z]+|[A-Z]+")
_RUN = re.compile(rb"(.)\1*", re.DOTALL)
_SAMPLE_BYTES = 160  # tell what a longer value is like
_LEAST_CHANGES = 0.25
_LEAST_RARE = 0.2
_MOST_CHANGES = 0.45  # in a name
# Letters that hardly ever follow another one in words.
_RARE = frozenset(
    (first, second)
    for first, seconds in zip(
        b"abcdefghijklmnopqrstuvwxyz",
        b"aehjoqz bfghkmnpqtvwxz bfgjnpqvwxz bghjkmnpqvwxz jkz bcdghjkmnpqvwxz bcdfjkpqvwxyz bcdfghjknpqvwxz hijquwy"
        b" abcdfghijklmnpqrstvwxyz bcdfghjklmopqrtuvwxyz hjkmnqwxz cfghjknqrtvwxyz bjqrwxz hjqyz bfgjkmnqvwxz"
        b" abcdefghijklmnopqrstvwxyz hjqxz bjvxz bgjkqvxz hjkquvwxyz bcdfghjklmnpqrstuvwxyz bcdfgjklmpqtuvxyz"
        b" bdfghjklmnoqrsuvwxyz abcdfhjkquvxyz bcdfghjklmnopqrstuvwxyz".split(),
        strict=True,
    )
    for second in seconds
)


def entropy(value: bytes) -> float:
    """Shannon's, in bits a byte."""
    total = len(value)
    counts = map(value.count, set(value))
    return -sum(count / total * math.log2(count / total) for count in counts) if total else 0.0


def is_example(value: bytes) -> bool:
    """Whether it is what documentation prints in a secret's place."""
    return value.lower() in _WORDS or (len(value) <= _EXAMPLE_BYTES and _EXAMPLES.search(value) is not None)


def is_reference(value: bytes) -> bool:
    """Whether it says where a secret is kept, or is one encrypted, or a hash."""
    return _REFERENCE.match(value) is not None


def is_code(value: bytes, *, called: bool) -> bool:
    """Whether a value that stands in no quotes is an expression; `called` where a bracket follows."""
    value = value.rstrip(b":;,.?")
    if _OPERATED.match(value):
        return True
    names = (_IDENTIFIER, _NUMBERED, _DOTTED, _CALLED) if called else (_IDENTIFIER, _NUMBERED, _DOTTED)
    return any(name.fullmatch(value) for name in names) and not (_is_improbable(value) or _alternates(value))


def _alternates(value: bytes) -> bool:
    """Whether capitals, small letters and digits alternate more than in any name."""
    kinds = value[:_SAMPLE_BYTES].translate(_KINDS)
    return set(b"aA0") <= set(kinds) and len(_RUN.findall(kinds)) >= _MOST_CHANGES * len(kinds)


def is_random(value: bytes) -> bool:
    """Whether letters and digits follow one another as they do by chance, and not as in words and names."""
    if _PHRASE.fullmatch(value):
        return False
    if _HEX.fullmatch(value):
        return len(set(value)) >= 8 and not value.isdigit()
    value = value[:_SAMPLE_BYTES]
    kinds = value.translate(_KINDS, b"._/:-=")
    chosen = set(kinds)
    if len(chosen) < 2 or not chosen & set(b"aA"):
        return False
    changes = len(_RUN.findall(kinds)) - 1
    if changes >= _LEAST_CHANGES * (len(kinds) - 1) and not (chosen == set(b"aA") and changes < 0.4 * len(kinds)):
        return True
    return _is_improbable(value)


def _is_improbable(value: bytes) -> bool:
    """Whether its letters follow one another as they don't in words."""
    words = _WORD.findall(value[:_SAMPLE_BYTES])
    letters = b" ".join(words).lower()
    rare = sum(map(_RARE.__contains__, pairwise(letters)))
    return rare >= 3 and rare >= _LEAST_RARE * (len(letters) - 2 * len(words) + 1)


def is_password(value: bytes) -> bool:
    """Whether it is more than words: random, or with digits and signs among its letters as people put them."""
    if is_random(value):
        return True
    digits = sum(0x30 <= c <= 0x39 for c in value)
    has_case = value != value.lower() and value != value.upper()
    if not digits or value.isdigit() or b"/" in value:
        return False
    if _PHRASE.fullmatch(value):
        return is_passphrase(value) or (digits >= 3 and has_case)
    return bool(digits >= 3 or has_case or _SIGNS.search(value[:-1]))


def is_passphrase(value: bytes) -> bool:
    """Whether it is words as a generator draws them, with a number of its own among them: no name is made so."""
    if not _PHRASE.fullmatch(value) or b"/" in value:
        return False
    pieces = _SEPARATOR.split(value.lower())
    words = [piece for piece in pieces if piece.isalpha()]
    has_number = any(len(piece) >= 2 and piece.isdigit() for piece in pieces)
    return has_number and len(words) >= 3 and len(min(words, key=len)) >= 4 and _TECHNICAL.isdisjoint(words)


def is_basic(value: bytes) -> bool:
    """Whether it is base64 of a user's name and a password that is no example."""
    try:
        name, colon, password = base64.b64decode(value + b"=" * (-len(value) % 4), validate=True).partition(b":")
    except binascii.Error:
        return False
    text = name + password
    return bool(colon and len(password) >= 6 and text.isascii() and text.decode().isprintable()) and not is_example(
        password
    )


def is_phrase(value: bytes) -> bool:
    """Whether it is a phrase of words that differ."""
    words = value.split()
    return len(set(words)) >= 0.8 * len(words)
