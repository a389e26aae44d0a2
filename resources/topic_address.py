"""The name and the brokers of a Kafka topic, and errors that say what failed there."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, KafkaException

from resources.event_source import HubUnavailableError

_OUTSIDE = (KafkaException, OSError, LookupError, ValueError)


@dataclass
class Heard:
    """The newest error that a client told in passing. The error of a call often says only that it took too long.

    Attributes:
        also: called with each error, too.
    """

    also: Callable[[KafkaError], None] = lambda _: None
    error: KafkaError | None = field(default=None, init=False)

    def __call__(self, error: KafkaError) -> None:
        """What the client calls."""
        if error.code() != KafkaError._ALL_BROKERS_DOWN or self.error is None:
            self.error = error
        self.also(error)


@dataclass(frozen=True)
class TopicAddress:
    """Which topic is meant.

    Attributes:
        topic: its name.
        brokers: hosts and ports, without a password.
    """

    topic: str
    brokers: str

    def __str__(self) -> str:
        return f"Kafka topic '{self.topic}' at {self.brokers}"

    @contextmanager
    def explained(self, what: str, heard: Heard | None = None) -> Iterator[None]:
        """Turns what the outside raises in the block into an error that names topic, brokers, time and remedy.

        Args:
            what: is tried, as the subject of a sentence.
            heard: what the client told in passing.

        Raises:
            HubUnavailableError: the block failed.
        """
        began = time.monotonic()
        try:
            yield
        except HubUnavailableError:
            raise
        except _OUTSIDE as error:
            raise self.unavailable(what, error, time.monotonic() - began, heard) from error

    def unavailable(
        self, what: str, error: Exception, seconds: float, heard: Heard | None = None
    ) -> HubUnavailableError:
        """What was tried, for how long, why it failed, and what to do next."""
        return HubUnavailableError(
            f"{self}: {what} failed after {seconds:.1f} s: {reason(error, heard)}. Check that the topic exists, that "
            "the brokers run, and that PULSELAKE_KAFKA_BOOTSTRAP and the other settings PULSELAKE_KAFKA_… are theirs; "
            "nothing was lost."
        )


def reason(error: Exception, heard: Heard | None = None) -> str:
    """An error's text, and behind it what the client had told before."""
    told = [_text(error)]
    if heard is not None and heard.error is not None and heard.error.str() not in told[0]:
        told.append(heard.error.str())
    return "; ".join(" ".join(text.split()).rstrip(". ") for text in told)


def _text(error: Exception) -> str:
    if isinstance(error, KafkaException) and error.args and isinstance(error.args[0], KafkaError):
        return error.args[0].str()
    return str(error) or type(error).__name__
