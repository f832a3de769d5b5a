"""What people type to search, as an FTS5 expression and filters. Pure; only words of time go by the local time zone.

    words and "a phrase" begin*   all of these; AND stands between them anyway
    this OR that, NOT that, -that, ( )
    role: kind: tool: model: session: project: agent: since: until:

Each word is quoted, so that nothing that is typed is FTS5's syntax. A word of several tokens, as `parse_line` or
`a/b.py`, is the phrase of them.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime, timedelta
from typing import NamedTuple

from codex.logging.errors import ConfigError

CHOICES = ("role", "kind", "tool", "model", "session", "project", "agent")
TIMES = ("since", "until")
LONGEST = 4096
_MOST_TERMS = 64
_DEEPEST = 16
_SHORTEST_PREFIX = 3  # bytes: a shorter one stands for too many words
_OPERATORS = ("AND", "OR", "NOT")
_AGO = re.compile(r"(\d{1,6})(m|min|h|d|w)")
_UNITS = {"m": "minutes", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SPLITS = re.compile(r"[\s\0]")
_SYNTAX = 'Words, "a phrase", begin*, OR, NOT or -word, ( ), and filters: ' + " ".join(
    f"{key}:" for key in (*CHOICES, *TIMES)
)


class SearchQueryError(ConfigError):
    """A query that says nothing, or can't be understood; `place` is where, in characters of the text."""

    def __init__(self, problem: str, text: str, place: int, hint: str = _SYNTAX) -> None:
        shown = "".join(letter if letter.isprintable() else " " for letter in text)
        super().__init__(f"{problem}\n  {shown}\n  {' ' * place}^", hint=hint)
        self.problem = problem
        self.place = place


class Choice(NamedTuple):
    """Values of which one must be, and such as must not be; a `*` at the end of one stands for anything."""

    wanted: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()


class Query(NamedTuple):
    """`match` is an FTS5 expression, None where only the filters choose. Times are epoch seconds, without `until`."""

    match: str | None
    role: Choice = Choice()
    kind: Choice = Choice()
    tool: Choice = Choice()
    model: Choice = Choice()
    session: Choice = Choice()
    project: Choice = Choice()
    agent: Choice = Choice()
    since: float | None = None
    until: float | None = None


def parse(text: str, now: float) -> Query:
    """The query that the text is, at that moment. Raises SearchQueryError."""
    text = text.encode(errors="replace").decode()
    if len(text) > LONGEST:
        raise SearchQueryError(f"the query is longer than {LONGEST} characters", text[:80], 80)
    return _Parser(text, now).query()


class _Token(NamedTuple):
    """`kind` is one of: word, phrase, filter, (, ), AND, OR, NOT."""

    kind: str
    text: str
    place: int
    key: str = ""


class _Group(NamedTuple):
    """What must be there and what must not, as FTS5 expressions."""

    wanted: list[str]
    unwanted: list[str]


class _Parser:
    """By recursive descent: any = all OR all …, all = [NOT] one [AND] …, one = word | phrase | filter | ( any )."""

    def __init__(self, text: str, now: float) -> None:
        self._text = text
        self._now = now
        self._tokens = _tokens(text)
        self._next = 0
        self._depth = 0
        self._terms = 0
        self._alternatives = False
        self._first_filter: _Token | None = None
        self._filters: dict[str, list[tuple[str, bool]]] = {}
        self._times: dict[str, float] = {}

    def query(self) -> Query:
        match = self._any()
        token = self._peek()
        if token is not None:
            raise self._error("this parenthesis closes what was never opened", token)
        if self._alternatives and self._first_filter is not None:
            raise self._error("a filter holds for the whole query, and can't stand beside OR", self._first_filter)
        if match is None and self._first_filter is None:
            raise SearchQueryError("there is no letter and no digit to search for", self._text, 0)
        choices = {
            key: Choice(
                tuple(value for value, wanted in found if wanted), tuple(value for value, wanted in found if not wanted)
            )
            for key, found in self._filters.items()
        }
        return Query(match, **choices, **self._times)  # type: ignore[arg-type]

    def _any(self) -> str | None:
        branches = [self._all()]
        while self._take("OR"):
            self._alternatives = self._alternatives or self._depth == 0
            branches.append(self._all())
        found = [branch for branch in branches if branch is not None]
        return None if not found else found[0] if len(found) == 1 else f"({' OR '.join(found)})"

    def _all(self) -> str | None:
        group = _Group([], [])
        first = self._peek()
        self._operand(group)
        while (token := self._peek()) is not None and token.kind not in (")", "OR"):
            self._take("AND")
            self._operand(group)
        if not group.wanted:
            if group.unwanted and first is not None:
                raise self._error("this only says what must not be there", first, "Say as well what is to be found.")
            return None
        wanted = f"({' AND '.join(group.wanted)})" if len(group.wanted) > 1 else group.wanted[0]
        return f"({wanted} NOT ({' OR '.join(group.unwanted)}))" if group.unwanted else wanted

    def _operand(self, group: _Group) -> None:
        wanted = True
        while self._take("NOT"):
            wanted = not wanted
        token = self._peek()
        if token is None or token.kind in (")", "AND", "OR"):
            raise self._missing(token)
        self._next += 1
        if token.kind == "filter":
            self._filter(token, wanted)
            return
        found = self._inner(token) if token.kind == "(" else self._term(token)
        if found is not None:
            (group.wanted if wanted else group.unwanted).append(found)

    def _inner(self, opening: _Token) -> str | None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._error("this is nested too deep", opening)
        found = self._any()
        if not self._take(")"):
            raise self._error("this parenthesis is never closed", opening)
        self._depth -= 1
        return found

    def _term(self, token: _Token) -> str | None:
        """A word or phrase; None for one without a letter or digit, of which an index has nothing."""
        text = token.text.rstrip("*")
        last = _last_token(text)
        if not last:
            return None
        self._terms += 1
        if self._terms > _MOST_TERMS:
            raise self._error(f"these are more than {_MOST_TERMS} words", token)
        if text == token.text:
            return f'"{text}"'
        if len(last.encode()) < _SHORTEST_PREFIX:
            raise self._error("this begin of a word is too short", token, "Give three letters before the *.")
        return f'"{text}" *'

    def _filter(self, token: _Token, wanted: bool) -> None:
        self._first_filter = self._first_filter or token
        if self._depth:
            raise self._error("a filter holds for the whole query, and can't stand in parentheses", token)
        if not token.text.strip("*"):
            raise self._error(f"{token.key}: has no value", token)
        if token.key not in TIMES:
            self._filters.setdefault(token.key, []).append((token.text, wanted))
        elif not wanted:
            raise self._error(
                f"{token.key}: can't be turned round", token, "Use since: for until:, or until: for since:."
            )
        else:
            self._times[token.key] = self._moment(token)

    def _moment(self, token: _Token) -> float:
        moment = _moment(token.text, self._now, is_end=token.key == "until")
        if moment is None:
            hint = "Give 2026-01-31, 2026-01-31T09:00 (local, or with an offset), 30m, 3h, 2d, 1w, today or yesterday."
            raise self._error(f"{token.key}: takes a time", token, hint)
        return moment

    def _peek(self) -> _Token | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _take(self, kind: str) -> bool:
        token = self._peek()
        taken = token is not None and token.kind == kind
        self._next += taken
        return taken

    def _missing(self, token: _Token | None) -> SearchQueryError:
        former = self._tokens[self._next - 1] if self._next else None
        if former is not None and former.kind in _OPERATORS:
            return self._error(f"{former.text} has nothing behind it", former)
        if token is not None and token.kind in ("AND", "OR"):
            return self._error(f"{token.text} has nothing before it", token)
        if former is not None or token is not None:
            return self._error("there is nothing in these parentheses", former or token)
        return SearchQueryError("there is nothing to search for", self._text, 0)

    def _error(self, problem: str, token: _Token | None, hint: str = _SYNTAX) -> SearchQueryError:
        return SearchQueryError(problem, self._text, token.place if token else 0, hint)


def _tokens(text: str) -> list[_Token]:
    found = []
    place = 0
    while place < len(text):
        letter = text[place]
        if _SPLITS.match(letter):
            place += 1
        elif letter in "()":
            found.append(_Token(letter, letter, place))
            place += 1
        elif letter == '"':
            token, place = _phrase(text, place)
            found.append(token)
        elif letter == "-" and _negates(text, place):
            found.append(_Token("NOT", "-", place))
            place += 1
        else:
            token, place = _word(text, place)
            found.append(token)
    return found


def _negates(text: str, place: int) -> bool:
    """Whether a dash takes away what follows it: `--amend` and a dash that stands alone are none of that."""
    following = text[place + 1 : place + 2]
    return bool(following) and following not in "-)" and not _SPLITS.match(following)


def _phrase(text: str, start: int) -> tuple[_Token, int]:
    end = text.find('"', start + 1)
    if end < 0:
        raise SearchQueryError("this quotation mark is never closed", text, start)
    phrase = text[start + 1 : end].replace("\0", " ").rstrip("*")
    end += 1
    if text[end : end + 1] == "*":
        return _Token("phrase", f"{phrase}*", start), end + 1
    return _Token("phrase", phrase, start), end


def _word(text: str, start: int) -> tuple[_Token, int]:
    """Up to white space, a quotation mark, or a parenthesis that the word hasn't opened: `main()` is one."""
    depth, end = 0, start
    while end < len(text) and not _SPLITS.match(text[end]) and text[end] != '"':
        if text[end] == "(" and text[start:end] in _OPERATORS:
            break
        depth += (text[end] == "(") - (text[end] == ")")
        if depth < 0:
            break
        end += 1
    word = text[start:end]
    if word in _OPERATORS:
        return _Token(word, word, start), end
    key, colon, value = word.partition(":")
    if colon and key.lower() in (*CHOICES, *TIMES):
        if not value and text[end : end + 1] == '"':
            phrase, end = _phrase(text, end)
            value = phrase.text
        return _Token("filter", value, start, key.lower()), end
    return _Token("word", word, start), end


def _last_token(text: str) -> str:
    """The last run of letters and digits, which are what FTS5's tokenizer makes its tokens of."""
    end = len(text)
    while end and not _is_searched(text[end - 1]):
        end -= 1
    start = end
    while start and _is_searched(text[start - 1]):
        start -= 1
    return text[start:end]


def _is_searched(letter: str) -> bool:
    category = unicodedata.category(letter)
    return category[0] in "LN" or category == "Co"


def _moment(text: str, now: float, *, is_end: bool) -> float | None:
    """Epoch seconds; a day is meant from its begin, or, as an end, with all of it."""
    try:
        if ago := _AGO.fullmatch(text):
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])}).total_seconds()
        if text.lower() in ("today", "yesterday"):
            day = datetime.fromtimestamp(now).date() - timedelta(days=text.lower() == "yesterday")
            moment = datetime(day.year, day.month, day.day)
        else:
            moment = datetime.fromisoformat(text)
        whole_day = len(text) <= 10 and not (moment.hour or moment.minute or moment.second)
        return (moment + timedelta(days=is_end and whole_day)).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
