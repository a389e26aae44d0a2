"""Polls one account at another system and publishes the records that are new, as they came, to the hub of glucose.

```
 requests ──▶ answers ──▶ records that were not seen ──▶ published ──▶ how far it came, into the account's file
```

So a poll that is killed loses nothing: the next one reads again what the file does not tell of, and the stream drops
what it has.
"""

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from assets.adapters.envelopes import RECORD
from assets.adapters.outcomes import GLUCOSE
from orchestration.hashed import hashed
from orchestration.sessions import Decision, Runs, decide
from resources import sources
from resources.account_state import MAX_SEEN, AccountState, load, save
from resources.accounts import Account, AccountError
from resources.device_apis import dexcom
from resources.device_apis.protocol import (
    AccessError,
    Answer,
    ApiError,
    Page,
    Request,
    Start,
    Tokens,
    encoded,
    instant_of,
    ms_of,
)
from resources.device_client import DeviceClient
from resources.event_source import HubUnavailableError, Publisher
from resources.leases import LeaseError, Lock
from resources.secrets import secret_of
from resources.settings import Settings

RECORDS = 100
"""How many records an event has at most."""
MAX_REQUESTS, MAX_REQUESTS_SINCE = 100, 10_000
"""How many requests a poll sends at most; what is left is for the next one. One that is given a beginning has more."""
AT_ONCE, PAUSE_S = 10, 0.5
"""How many requests follow each other without a pause."""
WIDE_EVERY = timedelta(hours=1)
FIRST_PAUSE, LAST_PAUSE, ACCESS_PAUSE = timedelta(minutes=1), timedelta(hours=1), timedelta(minutes=30)
"""After a failure, and after a refused login, which some systems lock an account for."""
MAX_ASKED_PAUSE = timedelta(days=1)
FIRST_LOOK = timedelta(days=1)
"""How far back the first poll of every system looks at most."""


@dataclass(frozen=True)
class Polled:
    """What a poll did.

    Attributes:
        account: its name.
        requests: how many it sent.
        records: how many it read.
        sent: how many of them were new, and are in the hub now.
        events: in how many events.
        too_large: how many records are larger than the hub takes.
        ended_early: why it did not read everything; empty if it did.
    """

    account: str
    requests: int = 0
    records: int = 0
    sent: int = 0
    events: int = 0
    too_large: int = 0
    ended_early: str = ""


class DevicePollError(RuntimeError):
    """A poll failed; `polled` is what it did before, which is kept."""

    def __init__(self, polled: Polled, reason: Exception, again: datetime | None = None) -> None:
        later = "" if again is None else f" It is asked again after {again:%Y-%m-%d %H:%M:%S} UTC."
        super().__init__(
            f"The poll of account '{polled.account}' ended after {polled.requests:,} requests; {polled.sent:,} records "
            f"were sent before, and the next poll sends the others. {str(reason).rstrip('.')}.{later}"
        )
        self.polled = polled


def poll(
    settings: Settings,
    account: Account,
    *,
    since: datetime | None = None,
    name: str = "",
    progress: Callable[[str], None] = lambda _: None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Polled:
    """Sends what an account has new to the hub of glucose.

    Args:
        settings: where the hub and the accounts' files are.
        account: which one.
        since: where to begin, by default where the last poll ended.
        name: of this process, for another poll that is refused.
        progress: is told after each page how far the poll has come.
        clock: the time of day.

    Raises:
        AccountError, AccountStateError: before anything was asked.
        LeaseError: another poll of the account is at work.
        HubUnavailableError: before anything was asked.
        DevicePollError: the system or the hub failed later.
    """
    if not account.is_on:
        raise AccountError(
            f"Account '{account.name}' is off, so it was not polled: {account.system.name} is no interface for others, "
            "and its owner's terms of use may forbid it. If you answer for that, add accepts_terms = true to it."
        )
    secrets = account.secrets(partial(secret_of, settings))
    lock = _locked(settings, account, name)
    try:
        state = load(settings.accounts_state, account.name)
        if clock() < (due := instant_of(state.not_before_ms)):
            early = f"{account.system.name} is not to be asked before {due:%Y-%m-%d %H:%M:%S} UTC; nothing was asked."
            return Polled(account.name, ended_early=f"{early} {state.failure}".strip())
        with sources.publisher(settings, GLUCOSE) as publisher, DeviceClient(account.url) as client:
            publisher.publish([], [])
            keep = Keeper(settings.accounts_state, account.name, state)
            return Poll(account, secrets, keep, client, publisher, progress, clock).run(since)
    finally:
        lock.release()


def allow(settings: Settings, account: Account, code: str, redirect_uri: str) -> None:
    """Gets the first tokens of an account at Dexcom.

    Args:
        settings: where the accounts' files are.
        account: which one.
        code: that the person got who allowed the access.
        redirect_uri: where that person was led to.

    Raises:
        AccountError, AccountStateError, LeaseError: before anything was asked.
        DevicePollError: the code was refused.
    """
    secrets = account.secrets(partial(secret_of, settings))
    lock = _locked(settings, account, "")
    try:
        keep = Keeper(settings.accounts_state, account.name, load(settings.accounts_state, account.name))
        request = dexcom.token_request(secrets, dexcom.code_grant(code, redirect_uri))
        try:
            with DeviceClient(account.url) as client:
                tokens = dexcom.tokens_of(client.ask(request))
        except ApiError as error:
            raise DevicePollError(Polled(account.name, requests=1), error) from error
        # The person who agreed may be another one than before.
        keep.state = _anew(keep.state, _declared(account, secrets), datetime.now(UTC))
        keep.save(tokens=dict(tokens.values), failures=0, failure="", not_before_ms=0)
    finally:
        lock.release()


def _locked(settings: Settings, account: Account, name: str) -> Lock:
    lock = settings.lease(f"account_{account.name}", name or f"process {os.getpid()}").active
    if not lock.take():
        raise LeaseError(
            f"'{lock.last_holder()}' polls account '{account.name}' at this moment. Nothing was done; try again when "
            "it has ended."
        )
    return lock


def _declared(account: Account, secrets: Mapping[str, str]) -> str:
    """Tells accounts apart that had the same name: tokens belong to one, and what it sent belongs to one patient."""
    said = [account.system.name, account.url, account.patient, dict(account.options), dict(secrets)]
    return hashlib.sha256(encoded(said)).hexdigest()


def _anew(state: AccountState, declared: str, now: datetime) -> AccountState:
    """The state of an account that may be another one than before: of this one nothing was read.

    How far the other one was read stays if a first poll would look less far back, since a site that moved has what came
    meanwhile.
    """
    until = None if state.until_ms is None or instant_of(state.until_ms) > now - FIRST_LOOK else state.until_ms
    return msgspec.structs.replace(
        state, declared=declared, tokens={}, seen=[], until_ms=until, ended_ms=None, wide_ms=None
    )


class Keeper:
    """The state of an account, and its file."""

    def __init__(self, folder: Path, account: str, state: AccountState) -> None:
        self._folder, self._account, self.state = folder, account, state

    def save(self, **changes: Any) -> None:
        """Changes the state and writes it."""
        self.state = msgspec.structs.replace(self.state, **changes)
        save(self._folder, self._account, self.state)


class Poll:
    """One poll, for whoever holds the account's lock.

    Args:
        account: which one.
        secrets: of it, by the names of its system.
        keep: how far it was read.
        client, publisher: where records come from and go to.
        progress: is told after each page how far the poll has come.
        clock: the time of day.
        sleep: for tests.
    """

    def __init__(
        self,
        account: Account,
        secrets: Mapping[str, str],
        keep: Keeper,
        client: DeviceClient,
        publisher: Publisher,
        progress: Callable[[str], None],
        clock: Callable[[], datetime],
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._account, self._secrets, self._keep = account, secrets, keep
        self._client, self._publisher, self._progress = client, publisher, progress
        self._clock, self._sleep = clock, sleep
        self._done = Polled(account.name)
        self._since: datetime | None = None
        self._seen: dict[str, None] = {}

    def run(self, since: datetime | None = None) -> Polled:
        """Asks the system until it has nothing more.

        Args:
            since: where to begin, by default where the last poll ended.

        Raises:
            DevicePollError: the system or the hub failed.
        """
        now = self._clock()
        declared = _declared(self._account, self._secrets)
        if self._keep.state.declared != declared:
            self._keep.state = _anew(self._keep.state, declared, now)
        state = self._keep.state
        is_wide = state.wide_ms is None or ms_of(now) - state.wide_ms >= WIDE_EVERY // timedelta(milliseconds=1)
        self._since = since
        start = Start(
            now,
            self._secrets,
            self._account.options,
            state.tokens,
            state.until_ms,
            None if since is None else ms_of(since),
            state.ended_ms,
            is_wide,
        )
        try:
            self._follow(start)
        except (ApiError, HubUnavailableError) as error:
            raise self._failed(error) from error
        again = self._clock() + self._account.system.least
        ended: dict[str, Any] = {} if self._done.ended_early or since else {"ended_ms": ms_of(now)}
        if is_wide and ended:
            # What a wide poll did not see is older than any poll looks back for.
            ended |= {"wide_ms": ms_of(now), "seen": list(self._seen)[-MAX_SEEN:] or state.seen}
        self._keep.save(not_before_ms=ms_of(again), failures=0, failure="", **ended)
        return self._done

    def _follow(self, start: Start) -> None:
        steps = self._account.system.poll(start)
        step = next(steps, None)
        while step is not None:
            answer: Answer | None = None
            if isinstance(step, Request):
                most = MAX_REQUESTS_SINCE if self._since else MAX_REQUESTS
                if self._done.requests >= most:
                    self._done = replace(self._done, ended_early=f"{most:,} requests were sent; the next poll goes on.")
                    steps.close()
                    return
                if self._done.requests >= AT_ONCE:
                    self._sleep(PAUSE_S)
                self._done = replace(self._done, requests=self._done.requests + 1)
                answer = self._client.ask(step)
            elif isinstance(step, Tokens):
                self._keep.save(tokens=dict(step.values))
            else:
                self._take(step)
            try:
                step = next(steps) if answer is None else steps.send(answer)
            except StopIteration:
                return

    def _take(self, page: Page) -> None:
        """Publishes what is new of a page, and then keeps how far it was read."""
        state = self._keep.state
        known = dict.fromkeys(state.seen)
        digests = {hashed(encoded(record)): record for record in page.records}
        new = [record for digest, record in digests.items() if digest not in known]
        parts = [new[first : first + RECORDS] for first in range(0, len(new), RECORDS)]
        too_large = self._publish([page.document(part) for part in parts])
        # One large record must not cost those beside it.
        alone = [[record] for number in too_large for record in parts[number]]
        lost = len(self._publish([page.document(part) for part in alone]))
        self._seen |= dict.fromkeys(digests)
        done = self._done
        self._done = replace(
            done,
            records=done.records + len(page.records),
            sent=done.sent + len(new) - lost,
            events=done.events + len(parts) - len(too_large) + len(alone) - lost,
            too_large=done.too_large + lost,
        )
        until = self._until(page.until_ms)
        if new or until != state.until_ms:
            self._keep.save(
                until_ms=until, seen=[*(each for each in known if each not in digests), *digests][-MAX_SEEN:]
            )
        done = self._done
        self._progress(f"{done.account}: {done.requests:,} requests, {done.records:,} records, {done.sent:,} sent")

    def _until(self, reached_ms: int | None) -> int | None:
        """Up to where everything was read, after a page that reaches to an instant."""
        until = self._keep.state.until_ms
        if reached_ms is None:
            return until
        # A system whose clock is ahead must not hide what comes until then.
        reached_ms = min(reached_ms, ms_of(self._clock()))
        if until is None:
            return reached_ms
        # Behind a gap that nobody read it would say that the gap was.
        return until if self._since and ms_of(self._since) > until else max(until, reached_ms)

    def _publish(self, documents: Sequence[Any]) -> list[int]:
        if not documents:
            return []
        key = hashed((self._account.patient or self._account.name).encode())
        return self._publisher.publish([self._event(each) for each in documents], [key] * len(documents))

    def _event(self, document: Any) -> bytes:
        account, now = self._account, self._clock()
        data = encoded(document)
        # What was asked for from a date on is old and comes late: only what comes by itself is live.
        received = {} if self._since else {"received": now.isoformat(timespec="milliseconds")}
        whose = {"binding": account.patient, "authority": True} if account.patient else {}
        zone = {"zone": account.zone} if account.zone else {}
        envelope = {
            "specversion": "1.0",
            "type": RECORD,
            "source": f"pulselake/poll/{account.name}",
            "id": hashlib.sha256(data).hexdigest()[:32],
            "format": account.system.format,
            **whose,
            **zone,
            **received,
        }
        return msgspec.json.encode(envelope | {"data": msgspec.Raw(data)})

    def _failed(self, error: ApiError | HubUnavailableError) -> DevicePollError:
        """Lets more time pass after each failure, and as much as the system asks for."""
        failures = self._keep.state.failures + 1
        if isinstance(error, HubUnavailableError):
            # The system did nothing wrong: it is asked again as soon as it may be.
            pause = self._account.system.least
        else:
            first = ACCESS_PAUSE if isinstance(error, AccessError) else max(FIRST_PAUSE, self._account.system.least)
            pause = min(first * 2 ** min(failures - 1, 10), LAST_PAUSE)
            # A number in Retry-After may be larger than any time can be.
            pause = max(pause, timedelta(seconds=min(error.wait_s or 0, MAX_ASKED_PAUSE.total_seconds())))
        again = self._clock() + pause
        failed = DevicePollError(self._done, error, again)
        self._keep.save(failures=failures, failure=str(error), not_before_ms=ms_of(again))
        return failed


def decide_device_poll(account: Account, state: AccountState, runs: Runs, now: datetime) -> Decision:
    """Starts a poll when the last one is long enough ago, the system may be asked, and none is at work.

    Args:
        account: which one.
        state: how the last polls ended.
        runs: the job's run records.
        now: the time of day.
    """
    due = instant_of(state.not_before_ms)
    if state.ended_ms is not None and not state.failures:
        due = max(due, instant_of(state.ended_ms) + timedelta(seconds=account.every_s))
    if now < due:
        why = (
            f"the last {state.failures} poll(s) failed, the runs say why"
            if state.failures
            else "the last one is recent"
        )
        return Decision(False, f"The next poll is due at {due:%H:%M:%S} UTC: {why}.")
    # How long to wait after failures of the system is decided above; runs may fail before they ask it.
    return decide(1, "poll due", replace(runs, failures=0) if state.failures else runs, now)
