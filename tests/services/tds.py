"""A server of the protocol of SQL Server (TDS 7.4) on 127.0.0.1, over a DuckDB database in memory.

It proves the wire, types and parameters with the unmodified driver; not what T-SQL means, TLS or locks. T-SQL becomes
DuckDB's SQL by sqlglot.
"""

import datetime as dt
import decimal
import re
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import duckdb
import sqlglot

COLLATION = bytes([0x09, 0x04, 0xD0, 0x00, 0x34])
DONE, DONE_OF_PROCEDURE, DONE_IN_PROCEDURE = 0xFD, 0xFE, 0xFF
PRELOGIN, LOGIN, BATCH, PROCEDURE, TRANSACTION, ATTENTION = 0x12, 0x10, 0x01, 0x03, 0x0E, 0x06
EXECUTE_SQL, PREPARE, EXECUTE, PREPARE_AND_EXECUTE = 10, 11, 12, 13
PROCEDURES = {"sp_executesql": 10, "sp_prepare": 11, "sp_execute": 12, "sp_prepexec": 13, "sp_unprepare": 15}
VARIABLE = (0xE7, 0xEF, 0xA7, 0xAF, 0xA5, 0xAD)
WIDE = (0xE7, 0xEF)
FIXED = {0x1F: 0, 0x30: 1, 0x32: 1, 0x34: 2, 0x38: 4, 0x3B: 4, 0x3D: 8, 0x3E: 8, 0x7F: 8}
IGNORED = re.compile(
    r"^\s*(set\s|use\s|if\s+@@|begin\s+tran|commit|rollback|declare\s+@|exec\s+sp_|dbcc)", re.IGNORECASE
)
GLOBALS = {
    "@@version": "'Microsoft SQL Server 2022 (RTM) - 16.0.1000.6 (X64)'",
    "@@trancount": "0",
    "@@spid": "51",
    "@@max_precision": "38",
}
SET_UP = (
    "create macro serverproperty(p) as '16.0.1000.6'",
    "create macro schema_name() as 'dbo'",
    "create schema sys",
    "create table sys.system_views(name varchar)",
    "create schema dbo",
)

Encoder = Callable[[Any], bytes]


class TdsServer:
    """`with TdsServer() as server: ...`; rows are put into `database` with DuckDB's SQL.

    Attributes:
        database: what is served.
        asked: the statements of all clients.
    """

    def __init__(self) -> None:
        self.database = duckdb.connect()
        self.asked: list[str] = []
        self.lock = threading.Lock()
        for statement in SET_UP:
            self.database.execute(statement)
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.tds = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def port(self) -> int:
        port: int = self._server.server_address[1]
        return port

    @property
    def url(self) -> str:
        return f"mssql+pymssql://sa:secret-word@127.0.0.1:{self.port}/hospital?tds_version=7.4&encryption=off"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self.database.close()

    def run(self, statement: str, values: Sequence[Any] = (), *, in_procedure: bool = False) -> bytes:
        """The tokens that answer a statement."""
        self.asked.append(statement)
        done, text = DONE_IN_PROCEDURE if in_procedure else DONE, statement.strip().rstrip(";")
        if not text or IGNORED.match(text):
            return _done(done)
        for name, value in GLOBALS.items():
            text = re.sub(name, value, text, flags=re.IGNORECASE)
        answer = b""
        with self.lock:
            cursor = self.database.cursor()
            for each in sqlglot.transpile(text, read="tsql", write="duckdb"):
                cursor.execute(each, list(values))
                columns = [(name, *_type(str(type_))) for name, type_, *_ in cursor.description or []]
                rows = cursor.fetchall()
                answer += _columns(columns)
                answer += b"".join(
                    b"\xd1" + b"".join(encode(value) for value, (_, _, encode) in zip(row, columns, strict=True))
                    for row in rows
                )
                answer += _done(done, 0x10, 0xC1, len(rows))
        return answer


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    tds: TdsServer


class _Handler(socketserver.BaseRequestHandler):
    request: socket.socket
    server: _Server

    def setup(self) -> None:
        self._prepared = ""
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def handle(self) -> None:
        try:
            while packet := self._receive():
                self._send(self._answer(*packet))
        except OSError:
            return

    def _receive(self) -> tuple[int, bytes] | None:
        body = b""
        while header := self._exactly(8):
            body += self._exactly(struct.unpack(">H", header[2:4])[0] - 8)
            if header[1] & 1:
                return header[0], body
        return None

    def _exactly(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            received = self.request.recv(count - len(found))
            if not received:
                return b""
            found += received
        return found

    def _send(self, data: bytes, size: int = 4096 - 8) -> None:
        pieces = [data[start : start + size] for start in range(0, len(data), size)] or [b""]
        for number, piece in enumerate(pieces, start=1):
            is_last = int(number == len(pieces))
            header = struct.pack(">BBHHBB", 4, is_last, len(piece) + 8, 51, number & 255, 0)
            self.request.sendall(header + piece)

    def _answer(self, kind: int, body: bytes) -> bytes:
        if kind == PRELOGIN:
            return _prelogin()
        if kind == LOGIN:
            return _login()
        if kind == ATTENTION:
            return _done(DONE, 0x20)
        headers = struct.unpack_from("<I", body)[0]
        if kind == TRANSACTION:
            request = struct.unpack_from("<H", body, headers)[0]
            begun = b"\x08" + struct.pack("<Q", 1)
            return (_change(8, begun) if request == 5 else _change(9 if request == 7 else 10, b"\0", begun)) + _done()
        try:
            if kind == BATCH:
                return self.server.tds.run(body[headers:].decode("utf-16-le"))
            if kind == PROCEDURE:
                return self._procedure(body, headers)
        except (duckdb.Error, sqlglot.ParseError) as error:
            return _error(f"{type(error).__name__}: {error}"[:400])
        return _error(f"packet {kind:#x} is not known")

    def _procedure(self, body: bytes, at: int) -> bytes:
        length = struct.unpack_from("<H", body, at)[0]
        at += 2
        if length == 0xFFFF:
            number = struct.unpack_from("<H", body, at)[0]
            at += 2
        else:
            number = PROCEDURES.get(body[at : at + 2 * length].decode("utf-16-le").lower(), 0)
            at += 2 * length
        at += 2
        given: list[tuple[str, Any]] = []
        while at < len(body):
            size = body[at]
            name = body[at + 1 : at + 1 + 2 * size].decode("utf-16-le")
            at += 2 + 2 * size
            type_, at = _read_type(body, at)
            value, at = _read_value(type_, body, at)
            given.append((name, value))
        ended = b"\x79" + struct.pack("<I", 0) + _done(DONE_OF_PROCEDURE, 0, 0xE0)
        if number in (PREPARE, PREPARE_AND_EXECUTE):
            self._prepared = given[2][1]
        if number == PREPARE:
            return _handle() + ended
        if number not in (EXECUTE_SQL, EXECUTE, PREPARE_AND_EXECUTE):
            return ended
        statement = given[0][1] if number == EXECUTE_SQL else self._prepared
        arguments = given[{EXECUTE_SQL: 2, EXECUTE: 1, PREPARE_AND_EXECUTE: 3}[number] :]
        names, values = [name for name, _ in arguments], list[Any]()

        def place(found: re.Match[str]) -> str:
            position = names.index(found[0]) if found[0] in names else int(found[0][2:]) - 1
            values.append(arguments[position][1])
            return "?"

        text = re.sub(r"@[Pp]\w*", place, statement) if arguments else statement
        answer = self.server.tds.run(text, values, in_procedure=True)
        return answer + (_handle() if number == PREPARE_AND_EXECUTE else b"") + ended


def _wide(text: str) -> bytes:
    return text.encode("utf-16-le")


def _short(text: str) -> bytes:
    return bytes([len(text)]) + _wide(text)


def _change(kind: int, new: bytes, old: bytes = b"\0") -> bytes:
    body = bytes([kind]) + new + old
    return b"\xe3" + struct.pack("<H", len(body)) + body


def _done(token: int = DONE, status: int = 0, command: int = 0xC1, rows: int = 0) -> bytes:
    return bytes([token]) + struct.pack("<HHQ", status, command, rows)


def _error(text: str) -> bytes:
    body = struct.pack("<iBB", 50_000, 1, 16) + struct.pack("<H", len(text)) + _wide(text)
    body += _short("tds") + _short("") + struct.pack("<I", 1)
    return b"\xaa" + struct.pack("<H", len(body)) + body + _done(DONE, 2)


def _handle() -> bytes:
    return b"\xac" + struct.pack("<H", 0) + _short("") + b"\1" + struct.pack("<IH", 0, 0) + b"\x26\4\4\1\0\0\0"


def _prelogin() -> bytes:
    options = [(0, b"\x10\x00\x03\xe8\x00\x00"), (1, b"\x02"), (2, b"\x00"), (3, b""), (4, b"\x00")]
    head, body, offset = b"", b"", 5 * len(options) + 1
    for token, value in options:
        head += struct.pack(">BHH", token, offset + len(body), len(value))
        body += value
    return head + b"\xff" + body


def _login() -> bytes:
    changes = _change(1, _short("hospital"), _short("master")) + _change(7, b"\x05" + COLLATION)
    changes += _change(2, _short("us_english")) + _change(4, _short("4096"), _short("4096"))
    loaded = b"\x01" + bytes([0x74, 0, 0, 4]) + _short("Microsoft SQL Server") + bytes([16, 0, 3, 0xE8])
    return changes + b"\xad" + struct.pack("<H", len(loaded)) + loaded + _done()


def _columns(columns: Sequence[tuple[str, bytes, Encoder]]) -> bytes:
    found = b"\x81" + struct.pack("<H", len(columns))
    for name, type_, _ in columns:
        found += struct.pack("<IH", 0, 0x0009) + type_ + _short(name)
    return found


def _type(name: str) -> tuple[bytes, Encoder]:
    """The bytes that name a type, and what writes a value of it."""
    name = name.upper()
    whole = {"TINYINT": 2, "SMALLINT": 2, "INTEGER": 4, "BIGINT": 8, "HUGEINT": 8}
    if name == "BOOLEAN":
        return b"\x68\x01", _whole(1)
    if name in whole:
        return bytes([0x26, whole[name]]), _whole(whole[name])
    if name in ("DOUBLE", "FLOAT"):
        return b"\x6d\x08", lambda value: b"\0" if value is None else b"\x08" + struct.pack("<d", value)
    if name == "DATE":
        return b"\x28", lambda value: b"\0" if value is None else b"\x03" + _days(value)
    if name.startswith("TIMESTAMP"):
        return b"\x2a\x07", _instant
    if found := re.match(r"DECIMAL\((\d+),\s*(\d+)\)", name):
        return bytes([0x6C, 17, int(found[1]), int(found[2])]), _decimal(int(found[2]))
    if name == "BLOB":
        return b"\xa5" + struct.pack("<H", 8000), _sized
    return b"\xe7" + struct.pack("<H", 8000) + COLLATION, lambda value: _sized(
        None if value is None else _wide(str(value))
    )


def _whole(size: int) -> Encoder:
    def encode(value: int | None) -> bytes:
        return b"\0" if value is None else bytes([size]) + int(value).to_bytes(size, "little", signed=size > 1)

    return encode


def _decimal(scale: int) -> Encoder:
    def encode(value: decimal.Decimal | None) -> bytes:
        if value is None:
            return b"\0"
        number = int(value.scaleb(scale))
        return b"\x11" + bytes([number >= 0]) + abs(number).to_bytes(16, "little")

    return encode


def _sized(value: bytes | None) -> bytes:
    return b"\xff\xff" if value is None else struct.pack("<H", len(value)) + bytes(value)


def _days(value: dt.date) -> bytes:
    return (value.toordinal() - 1).to_bytes(3, "little")


def _instant(value: dt.datetime | None) -> bytes:
    if value is None:
        return b"\0"
    ticks = ((value.hour * 60 + value.minute) * 60 + value.second) * 10_000_000 + value.microsecond * 10
    return b"\x08" + ticks.to_bytes(5, "little") + _days(value.date())


def _read_type(body: bytes, at: int) -> tuple[tuple[int, ...], int]:
    kind = body[at]
    at += 1
    if kind in (0xE7, 0xEF, 0xA7, 0xAF):
        return (kind, struct.unpack_from("<H", body, at)[0]), at + 7
    if kind in (0xA5, 0xAD):
        return (kind, struct.unpack_from("<H", body, at)[0]), at + 2
    if kind in (0x6C, 0x6A):
        return (kind, body[at], body[at + 1], body[at + 2]), at + 3
    if kind == 0x28 or kind in FIXED:
        return (kind,), at
    return (kind, body[at]), at + 1


def _read_value(type_: tuple[int, ...], body: bytes, at: int) -> tuple[Any, int]:
    kind = type_[0]
    if kind in VARIABLE:
        found, at = _read_variable(type_, body, at)
        if found is None or kind in (0xA5, 0xAD):
            return found, at
        return found.decode("utf-16-le" if kind in WIDE else "cp1252"), at
    size, at = (FIXED[kind], at) if kind in FIXED else (body[at], at + 1)
    value, at = body[at : at + size], at + size
    if not size:
        return None, at
    if kind in (0x26, 0x30, 0x34, 0x38, 0x7F):
        return int.from_bytes(value, "little", signed=size > 1), at
    if kind in (0x68, 0x32):
        return bool(value[0]), at
    if kind in (0x6D, 0x3E, 0x3B):
        return struct.unpack("<d" if size == 8 else "<f", value)[0], at
    if kind in (0x6A, 0x6C):
        number = int.from_bytes(value[1:], "little")
        return decimal.Decimal(number if value[0] else -number).scaleb(-type_[3]), at
    day = dt.date.fromordinal(int.from_bytes(value[-3:], "little") + 1)
    if kind == 0x28:
        return day, at
    if kind == 0x2A:
        ticks = int.from_bytes(value[:-3], "little") * 10 ** (7 - type_[1])
        return dt.datetime.combine(day, dt.time()) + dt.timedelta(microseconds=ticks // 10), at
    raise ValueError(f"a parameter of the type {kind:#x}")


def _read_variable(type_: tuple[int, ...], body: bytes, at: int) -> tuple[bytes | None, int]:
    if type_[1] != 0xFFFF:
        size = struct.unpack_from("<H", body, at)[0]
        at += 2
        return (None, at) if size == 0xFFFF else (body[at : at + size], at + size)
    total = struct.unpack_from("<Q", body, at)[0]
    at += 8
    if total == 2**64 - 1:
        return None, at
    found = b""
    while size := struct.unpack_from("<I", body, at)[0]:
        found += body[at + 4 : at + 4 + size]
        at += 4 + size
    return found, at + 4
