"""Servers on 127.0.0.1 that answer as systems with readings of devices do."""

from base64 import b64encode
from datetime import UTC, datetime, timedelta
from hashlib import sha1, sha256
from typing import Any

from tests.services.loopback import Asked, Loopback, Reply

SECRET = "a-secret-of-some-length"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class FakeSystem(Loopback):
    """`with FakeNightscout() as server: ...`."""

    def take(self) -> list[str]:
        """The paths that were asked for since the last call."""
        paths = [each.path for each in self.asked]
        self.asked.clear()
        return paths


def ms(at: datetime) -> int:
    return (at - EPOCH) // timedelta(milliseconds=1)


class FakeNightscout(FakeSystem):
    """A site: v1 with the API secret, v3 with tokens that hold until `forget` is called."""

    def __init__(self, limit: int = 1000) -> None:
        super().__init__()
        self.limit = limit
        self.entries: list[dict[str, Any]] = []
        self.jwt = "jwt-1"

    def add(self, at: datetime, value: Any = 100, *, modified: datetime | None = None, **more: Any) -> dict[str, Any]:
        entry = {
            "type": "sgv",
            "sgv": value,
            "date": ms(at),
            "device": "phone",
            "identifier": f"{ms(at)}",
            "srvModified": ms(modified or at),
        } | more
        self.entries.append(entry)
        return entry

    def forget(self) -> None:
        self.jwt = f"{self.jwt}1"

    def reply(self, asked: Asked) -> Reply:
        match asked.path.split("/")[1:]:
            case ["api", "v2", "authorization", "request", token]:
                return Reply(200, {"token": self.jwt}) if token == SECRET else Reply(401, {"status": 401})
            case ["api", "v3", "entries", "history", since]:
                if asked.headers.get("authorization") != f"Bearer {self.jwt}":
                    return Reply(401, {"status": 401})
                later = sorted(
                    (each for each in self.entries if each["srvModified"] > int(since)),
                    key=lambda each: each["srvModified"],
                )
                return Reply(200, {"status": 200, "result": later[: self.limit]})
            case ["api", "v1", "entries.json"]:
                if asked.headers.get("api-secret") != sha1(SECRET.encode()).hexdigest():
                    return Reply(401, {"status": 401})
                first, last = int(asked.query["find[date][$gte]"]), int(asked.query.get("find[date][$lt]", 10**15))
                found = [each for each in self.entries if first <= each["date"] < last]
                found.sort(key=lambda each: -int(each["date"]))
                return Reply(200, found[: int(asked.query["count"])])
        return Reply(404)


class FakeDexcom(FakeSystem):
    """Records by their system time; each refresh token holds for one time, each access token until `expire`."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[tuple[datetime, dict[str, Any]]] = []
        self.refresh, self.access = "refresh-0", "access-0"
        self._number = 0

    def add(self, at: datetime, value: Any = 100, *, came: datetime, said: str | None = None) -> None:
        """A record that the system got at an instant."""
        record = {
            "recordId": f"{ms(at)}",
            "systemTime": said or at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "transmitterId": "t" * 64,
            "value": value,
            "unit": "mg/dL",
            "status": "ok",
        }
        self.records.append((came, record))

    def expire(self) -> None:
        self.access = "nothing"

    def reply(self, asked: Asked) -> Reply:
        if asked.path == "/v3/oauth2/token":
            said = asked.body
            granted = said.get("refresh_token") == self.refresh or said.get("code") == "one-code"
            if (said["client_id"], said["client_secret"]) != ("app", SECRET) or not granted:
                return Reply(400, {"error": "invalid_grant"})
            self._number += 1
            self.refresh, self.access = f"refresh-{self._number}", f"access-{self._number}"
            return Reply(200, {"access_token": self.access, "refresh_token": self.refresh, "expires_in": 7200})
        if asked.headers.get("authorization") != f"Bearer {self.access}":
            return Reply(401, {"fault": "expired"})
        if asked.path == "/v3/users/self/dataRange":
            since = datetime.fromisoformat(asked.query["lastSyncTime"]).replace(tzinfo=UTC)
            times = sorted(record["systemTime"] for came, record in self.records if came > since)
            egvs = {"start": {"systemTime": times[0]}, "end": {"systemTime": times[-1]}} if times else None
            return Reply(200, {"recordType": "dataRange", "userId": "u-1", "egvs": egvs})
        first, last = (datetime.fromisoformat(asked.query[name]) for name in ("startDate", "endDate"))
        if last - first > timedelta(days=30) or first >= last:
            return Reply(400, {"error": "the window is too long"})
        found = [
            record
            for _, record in self.records
            if first <= datetime.fromisoformat(record["systemTime"]).replace(tzinfo=None) < last
        ]
        return Reply(200, {"recordType": "egv", "recordVersion": "3.0", "userId": "u-1", "records": found})


class FakeShare(FakeSystem):
    """Readings of the last minutes, the newest first."""

    def __init__(self) -> None:
        super().__init__()
        self.readings: list[dict[str, Any]] = []
        self.session = "session-1"
        self.now = EPOCH

    def add(self, at: datetime, value: int = 100) -> None:
        self.readings.append({"ST": f"Date({ms(at)})", "WT": f"Date({ms(at)})", "Value": value, "Trend": "Flat"})

    def reply(self, asked: Asked) -> Reply:
        service = asked.path.rpartition("/")[2]
        if service == "AuthenticatePublisherAccount":
            if asked.body["password"] != SECRET:
                return Reply(500, {"Code": "AccountPasswordInvalid", "Message": "user@example.org"})
            return Reply(200, "account-1")
        if service == "LoginPublisherAccountById":
            return Reply(200, self.session)
        if asked.query["sessionId"] != self.session:
            return Reply(500, {"Code": "SessionNotValid"})
        oldest = ms(self.now) - int(asked.query["minutes"]) * 60_000
        found = [each for each in self.readings if int(each["ST"][5:-1]) >= oldest]
        found.sort(key=lambda each: each["ST"], reverse=True)
        return Reply(200, found[: int(asked.query["maxCount"])])


class FakeLibreLinkUp(FakeSystem):
    """One person's graph, and the newest point beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.points: list[dict[str, Any]] = []
        self.token = "token-1"
        self.people = ["person-1"]

    def add(self, at: datetime, value: int = 100) -> None:
        text = at.strftime("%m/%d/%Y %I:%M:%S %p").lstrip("0").replace("/0", "/")
        self.points.append({"FactoryTimestamp": text, "ValueInMgPerDl": value, "GlucoseUnits": 1, "Value": value})

    def reply(self, asked: Asked) -> Reply:
        if asked.headers.get("version") != "4.16.0" or asked.headers.get("product") != "llu.android":
            return Reply(403, {"status": 920})
        if asked.path == "/llu/auth/login":
            if asked.body["password"] != SECRET:
                return Reply(200, {"status": 2, "error": {"message": "notAuthenticated"}})
            ticket = {"token": self.token, "expires": 1, "duration": 1}
            return Reply(200, {"status": 0, "data": {"user": {"id": "user-1"}, "authTicket": ticket}})
        is_known = asked.headers.get("account-id") == sha256(b"user-1").hexdigest()
        if asked.headers.get("authorization") != f"Bearer {self.token}" or not is_known:
            return Reply(401, {"message": "invalid or expired jwt"})
        if asked.path == "/llu/connections":
            return Reply(200, {"status": 0, "data": [{"patientId": each, "firstName": "Ada"} for each in self.people]})
        connection = {
            "patientId": asked.path.split("/")[3],
            "firstName": "Ada",
            "lastName": "Byron",
            "sensor": {"sn": "sensor-1"},
            "glucoseMeasurement": self.points[-1] | {"TrendArrow": 3} if self.points else None,
        }
        return Reply(200, {"status": 0, "data": {"connection": connection, "graphData": self.points}})


class FakeTidepool(FakeSystem):
    """One user's data."""

    def __init__(self) -> None:
        super().__init__()
        self.data: list[dict[str, Any]] = []
        self.token = "token-1"

    def add(self, at: datetime, value: float, **more: Any) -> None:
        time = at.strftime("%Y-%m-%dT%H:%M:%S.000Z")
        own = {"type": "cbg", "units": "mmol/L", "value": value, "time": time, "deviceId": "dev-1", "id": time}
        self.data.append(own | more)

    def reply(self, asked: Asked) -> Reply:
        if asked.path == "/auth/login":
            basic = b64encode(f"user@example.org:{SECRET}".encode()).decode()
            if asked.headers.get("authorization") != f"Basic {basic}":
                return Reply(401)
            return Reply(200, {"userid": "user-1"}, {"x-tidepool-session-token": self.token})
        if asked.headers.get("x-tidepool-session-token") != self.token:
            return Reply(401)
        assert asked.path == "/data/user-1"
        types = asked.query["type"].split(",")
        found = [
            each
            for each in self.data
            if each["type"] in types and asked.query["startDate"] <= each["time"] <= asked.query["endDate"]
        ]
        return Reply(200, found)
