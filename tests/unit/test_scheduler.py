"""Who is next: by due time, each once, nobody starves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from codex_ingestd.watch.scheduler import Scheduler


def test_due_longest_goes_first() -> None:
    """Items come by the time they were due at, and those of one time in the order of their marks."""
    scheduler: Scheduler[str] = Scheduler()
    for item, at in (("late", 3.0), ("first", 1.0), ("second", 1.0)):
        scheduler.mark(item, at)
    assert [scheduler.next(5.0) for _ in range(4)] == ["first", "second", "late", None]


def test_nothing_comes_before_its_time() -> None:
    """An item is not given before it is due, and `wait` tells for how long."""
    scheduler: Scheduler[str] = Scheduler()
    assert scheduler.wait(0.0) is None
    scheduler.mark("item", 2.0)
    assert (scheduler.next(1.5), scheduler.wait(1.5), scheduler.wait(9.0)) == (None, 0.5, 0.0)
    assert scheduler.next(2.0) == "item"
    assert scheduler.wait(2.0) is None


def test_a_mark_moves_only_forward() -> None:
    """An earlier mark replaces a later one, a later one changes nothing, and the item comes once."""
    scheduler: Scheduler[str] = Scheduler()
    for at in (5.0, 1.0, 3.0):
        scheduler.mark("item", at)
    assert (len(scheduler), scheduler.wait(0.0)) == (1, 1.0)
    assert [scheduler.next(9.0), scheduler.next(9.0)] == ["item", None]


def test_a_busy_item_starves_nobody() -> None:
    """An item that is marked again at each turn lets one that came later go after one more turn."""
    scheduler: Scheduler[str] = Scheduler()
    scheduler.mark("backlog", 0.0)
    assert scheduler.next(0.0) == "backlog"
    scheduler.mark("backlog", 1.0)
    scheduler.mark("small", 1.1)
    assert [scheduler.next(2.0), scheduler.next(2.0)] == ["backlog", "small"]


def test_marks_take_no_room_for_ever() -> None:
    """An item that is due in a minute, and then now, time after time within that minute, leaves nothing behind."""
    scheduler: Scheduler[str] = Scheduler()
    for turn in range(10_000):
        now = turn / 1000
        scheduler.mark("item", now + 60)
        scheduler.mark("item", now)
        assert scheduler.next(now) == "item"
    assert len(scheduler._heap) < 100


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans())))
def test_like_a_plain_list(steps: list[tuple[int, int, bool]]) -> None:
    """Whatever is marked and taken: it gives what a plain list, searched for its least entry, gives."""
    scheduler: Scheduler[int] = Scheduler()
    due: dict[int, tuple[int, int]] = {}
    for turn, (item, time, taking) in enumerate(steps):
        if not taking:
            scheduler.mark(item, time)
            if item not in due or time < due[item][0]:
                due[item] = (time, turn)
            continue
        expected = min((key for key in due if due[key][0] <= time), key=lambda key: due[key], default=None)
        assert scheduler.next(time) == expected
        due.pop(expected, None)  # type: ignore[arg-type]
        assert len(scheduler) == len(due)
        assert scheduler.wait(time) == (max(0, min(due.values())[0] - time) if due else None)
