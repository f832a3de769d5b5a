"""What people type to search: a query that FTS5 takes and that means what it says, or an error with its place."""

from __future__ import annotations

import time
from collections.abc import Iterator

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codex.logging.store.search_index import TOKENIZER
from codex.logs.query import Choice, Query, SearchQueryError, parse

NOON = 1_769_860_800.0  # 2026-01-31T12:00:00Z, a Saturday
DAY = 86400.0


@pytest.fixture(autouse=True)
def zone(environment: pytest.MonkeyPatch) -> Iterator[None]:
    """A clock two hours ahead of UTC."""
    environment.setenv("TZ", "UTC-2")
    time.tzset()
    yield
    environment.undo()
    time.tzset()


@pytest.fixture(scope="module")
def index() -> apsw.Connection:
    """An index of a few texts, by the product's tokenizer."""
    connection = apsw.Connection(":memory:")
    connection.execute(f"CREATE VIRTUAL TABLE texts USING fts5 (message, tokenize = '{TOKENIZER}')")
    connection.executemany(
        "INSERT INTO texts VALUES (?)", [["one two three"], ["two three"], ["three one"], ["NOT and OR NEAR"]]
    )
    return connection


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("one two", '("one" AND "two")'),
        ("one AND two", '("one" AND "two")'),
        ('"one two" thr*', '("one two" AND "thr" *)'),
        ('"one thr"*', '"one thr" *'),
        ("one OR two three", '("one" OR ("two" AND "three"))'),
        ("(one OR two) three", '(("one" OR "two") AND "three")'),
        ("one -two NOT three", '("one" NOT ("two" OR "three"))'),
        ("one -(two three)", '("one" NOT (("two" AND "three")))'),
        ("NOT NOT one", '"one"'),
        ("NOT(two) one", '("one" NOT ("two"))'),
        ("main() f(x) a/b.py:12", '("main()" AND "f(x)" AND "a/b.py:12")'),
        ("std::vector http://x", '("std::vector" AND "http://x")'),
        ("git commit --amend - = !", '("git" AND "commit" AND "--amend")'),
        ("and or not near", '("and" AND "or" AND "not" AND "near")'),
        ("one\0two", '("one" AND "two")'),
        ("\ud800one", '"?one"'),
        ("日*", '"日" *'),
    ],
)
def test_words(text: str, match: str) -> None:
    """Each one quoted, joined as it was meant."""
    assert parse(text, NOON).match == match


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ("", 0, "nothing to search for"),
        ("!!! 🚀", 0, "no letter and no digit"),
        ('one "two', 4, "never closed"),
        ("one (two", 4, "never closed"),
        ("one two)", 7, "never opened"),
        ("one ()", 4, "nothing in these"),
        ("one OR", 4, "nothing behind"),
        ("AND one", 0, "nothing before"),
        ("one OR OR two", 4, "nothing behind"),
        ("-one", 0, "must not be"),
        ("one OR -two", 7, "must not be"),
        ("ab*", 0, "too short"),
        ("one role:", 4, "no value"),
        ("one since:never", 4, "takes a time"),
        ("one -since:2d", 5, "turned round"),
        ("role:user OR one", 0, "beside OR"),
        ("one (role:user two)", 5, "in parentheses"),
        ("(" * 50 + "a" + ")" * 50, 16, "nested too deep"),
        ("a " * 100, 128, "more than 64 words"),
    ],
)
def test_errors_say_where(text: str, place: int, problem: str) -> None:
    """What can't be taken, and a mark under it."""
    with pytest.raises(SearchQueryError, match=problem) as refusal:
        parse(text, NOON)
    assert refusal.value.place == place
    assert str(refusal.value).splitlines()[-1] == f"  {' ' * place}^"
    assert refusal.value.hint


def test_filters() -> None:
    """They are no part of what FTS5 gets; several of a kind are alternatives, a dash turns one round."""
    query = parse('role:user ROLE:tool -kind:action tool:"my tool" "role:x" word', NOON)
    assert query == Query(
        '("role:x" AND "word")', Choice(("user", "tool")), Choice((), ("action",)), Choice(("my tool",))
    )


@pytest.mark.parametrize(
    ("text", "since", "until"),
    [
        ("30m", NOON - 1800, NOON - 1800),
        ("3h", NOON - 10800, NOON - 10800),
        ("2d", NOON - 2 * DAY, NOON - 2 * DAY),
        ("1w", NOON - 7 * DAY, NOON - 7 * DAY),
        ("today", NOON - 14 * 3600, NOON + 10 * 3600),
        ("yesterday", NOON - 14 * 3600 - DAY, NOON - 14 * 3600),
        ("2026-01-31", NOON - 14 * 3600, NOON + 10 * 3600),
        ("2026-01-31T12:00", NOON - 7200, NOON - 7200),
        ("2026-01-31T12:00Z", NOON, NOON),
    ],
)
def test_times(text: str, since: float, until: float) -> None:
    """Days are those of the clock, from their begin, or with all of them."""
    assert parse(f"since:{text}", NOON).since == since
    assert parse(f"until:{text}", NOON).until == until


pieces = st.sampled_from(
    [
        "one",
        "two",
        "thr",
        "three",
        "NOT",
        "AND",
        "OR",
        "NEAR",
        "-",
        "(",
        ")",
        '"',
        "*",
        "^",
        ":",
        "role:",
        "{",
        "+",
        " ",
    ]
)


@given(st.lists(pieces | st.text(max_size=3), max_size=24).map(" ".join) | st.lists(pieces, max_size=24).map("".join))
@settings(max_examples=300, deadline=None)
def test_any_text_is_taken_or_refused(index: apsw.Connection, text: str) -> None:
    """FTS5 finds no fault with what comes of it, whatever it is."""
    place, match = 0, None
    try:
        match = parse(text, NOON).match
    except SearchQueryError as error:
        place = error.place
    assert 0 <= place <= len(text)
    if match is not None:
        index.execute("SELECT rowid, snippet(texts, 0, '<', '>', '', 9) FROM texts(?)", (match,)).fetchall()


words = st.sampled_from(["one", "two", "three", "four"])
expressions = st.recursive(
    words,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda two: f"({two[0]} {two[1]})"),
        st.tuples(inner, inner).map(lambda two: f"({two[0]} OR {two[1]})"),
        st.tuples(inner, inner).map(lambda two: f"({two[0]} -{two[1]})"),
    ),
    max_leaves=8,
)


@given(expressions)
@settings(max_examples=200, deadline=None)
def test_it_means_what_it_says(index: apsw.Connection, text: str) -> None:
    """FTS5's hits are those that plain logic gives."""
    logic = text.replace(" OR ", "|").replace(" -", "&~").replace(" ", "&")
    said = [str(row[0]).lower().split() for row in index.execute("SELECT message FROM texts ORDER BY rowid")]
    truth = [
        number
        for number, message in enumerate(said, 1)
        if eval(logic, {word: _Truth(word in message) for word in ("one", "two", "three", "four")}).true
    ]
    match = parse(text, NOON).match
    assert [row[0] for row in index.execute("SELECT rowid FROM texts(?) ORDER BY rowid", (match,))] == truth


class _Truth:
    """A truth value with the operators that the logic above is written in."""

    def __init__(self, true: bool) -> None:
        self.true = true

    def __and__(self, other: _Truth) -> _Truth:
        return _Truth(self.true and other.true)

    def __or__(self, other: _Truth) -> _Truth:
        return _Truth(self.true or other.true)

    def __invert__(self) -> _Truth:
        return _Truth(not self.true)
