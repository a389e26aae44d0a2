"""Signals that are put off until work can be left."""

import signal
import threading

import pytest

from resources.signals import DeferredSignals

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@pytest.fixture
def received():
    """The signals that reach the handlers which were there before."""
    found: list[int] = []
    before = {
        number: signal.signal(number, lambda each, _: found.append(each)) for number in (signal.SIGINT, signal.SIGTERM)
    }
    yield found
    for number, handler in before.items():
        signal.signal(number, handler)


@BOTH
def test_the_first_signal_is_noted_and_acts_when_it_is_delivered(received, number):
    with DeferredSignals() as signals:
        signal.raise_signal(number)
        assert signals.is_noted
        assert received == []
    signals.deliver()
    assert received == [number]
    signals.deliver()
    assert received == [number]


@BOTH
def test_a_second_signal_acts_at_once(received, number):
    with DeferredSignals():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(number)
        assert received == [number]


def test_behind_the_block_signals_act_as_before(received):
    with DeferredSignals() as signals:
        pass
    signal.raise_signal(signal.SIGTERM)
    assert received == [signal.SIGTERM]
    signals.deliver()
    assert received == [signal.SIGTERM]


def test_an_error_in_the_block_puts_the_handlers_back(received):
    with pytest.raises(ValueError, match="broken"), DeferredSignals():
        raise ValueError("broken")
    signal.raise_signal(signal.SIGINT)
    assert received == [signal.SIGINT]


def test_on_another_thread_nothing_is_noted(received):
    noted: list[bool] = []

    def work() -> None:
        with DeferredSignals() as signals:
            noted.append(signals.is_noted)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    signal.raise_signal(signal.SIGINT)
    assert (noted, received) == ([False], [signal.SIGINT])
