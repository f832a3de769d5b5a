"""How fast a forwarder goes, by a clock and a chance of the test's own."""

from __future__ import annotations

from codex_ingestd.forward.pace import BackOff, Batches, BatchSize, Rate


def test_tries_come_ever_less_often_and_never_in_step() -> None:
    """Up to 30 s apart, each by chance down to half of it; from the begin again once it went well."""
    longest, shortest = BackOff(lambda: 1.0), BackOff(lambda: 0.0)
    assert [longest.next() for _ in range(9)] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0]
    assert [shortest.next() for _ in range(3)] == [0.1, 0.2, 0.4]
    longest.reset()
    assert longest.next() == 0.2


def test_a_batch_grows_where_a_transaction_is_quick_and_shrinks_where_it_is_slow() -> None:
    """Within bounds; a small one, of which there was no more, tells nothing."""
    size = BatchSize(Batches())
    begin = size.events
    size.took(10, 0.001)
    assert size.events == begin
    for _ in range(20):
        size.took(size.events, 0.1)
    assert size.events == 20_000
    size.took(size.events, 0.5)
    assert size.events == 20_000
    for _ in range(20):
        size.took(size.events, size.events * 0.003)
    assert size.events == 500


def test_a_batch_stays_large_where_the_transaction_itself_is_slow() -> None:
    """As where many nodes take part in it: half as many events took as long. Once it is quick again all begins anew."""
    size = BatchSize(Batches())
    seen = []
    for _ in range(10):
        seen.append(size.events)
        size.took(size.events, 2.0 + size.events * 1e-5)
    assert seen == [5000, 2500, *[5000] * 8]
    size.took(size.events, 0.1)
    size.took(size.events, 30.0)
    assert size.events == 5000
    size.took(size.events, 15.0)
    assert size.events == 2500


def test_an_engine_tells_how_small_a_batch_may_be() -> None:
    """One for which a small batch takes as long as a great one never gets a small one for being slow."""
    size = BatchSize(Batches(3000, 2000, 4000))
    assert size.events == 3000
    size.took(3000, 60.0)
    assert size.events == 2000
    for _ in range(3):
        size.took(size.events, 0.1)
    assert size.events == 4000


def test_a_limit_is_kept_over_time() -> None:
    """With a second's worth at once after a rest; without one nobody waits."""
    rate = Rate(1000.0)
    assert rate.wait(100.0) == 0.0
    rate.sent(1000, 100.0)
    assert rate.wait(100.0) == 0.0
    rate.sent(500, 100.0)
    assert rate.wait(100.0) == 0.5
    assert rate.wait(100.5) == 0.0
    free = Rate(None)
    free.sent(1 << 40, 100.0)
    assert free.wait(100.0) == 0.0
