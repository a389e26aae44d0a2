"""A database like one of the OMOP common data model 5.4: its 39 tables, 22 of them empty, with what is hard to copy.

The same statements make it in SQLite and in MariaDB. What a row must be in the lake is computed here by the rows that
were inserted, and not by what reads them.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

Row = tuple[Any, ...]

CONCEPTS, SEED = 300, 20261129
NAMES = (
    "Żółć",
    "Ångström",
    "糖尿病",
    "😀 smile",
    "O'Brien",
    "back\\slash",
    'quo"te',
    "100 % sure",
    "tab\tand\nline",
    "",
)
DAY = date(2020, 2, 29)

COLUMNS = {
    "person": "person_id INTEGER NOT NULL PRIMARY KEY, gender_concept_id INTEGER NOT NULL, year_of_birth INTEGER, "
    "birth_datetime DATETIME(6), person_source_value VARCHAR(50), is_deceased BIT(1)",
    "observation_period": "observation_period_id INTEGER NOT NULL PRIMARY KEY, person_id INTEGER, "
    "observation_period_start_date DATE NOT NULL, observation_period_end_date DATE",
    "visit_occurrence": "visit_occurrence_id BIGINT NOT NULL PRIMARY KEY, person_id INTEGER, visit_start_date DATE, "
    "visit_start_datetime DATETIME, visit_source_value VARCHAR(50)",
    "condition_occurrence": "condition_occurrence_id BIGINT NOT NULL PRIMARY KEY, person_id INTEGER, "
    "condition_start_date DATE, stop_reason VARCHAR(20)",
    "measurement": "measurement_id BIGINT NOT NULL PRIMARY KEY, person_id INTEGER, measurement_date DATE, "
    "value_as_number NUMERIC(38,18), range_low NUMERIC(10,2), value_as_double DOUBLE, unit_source_value VARCHAR(50)",
    "note": "note_id INTEGER NOT NULL PRIMARY KEY, person_id INTEGER, note_title VARCHAR(250), note_text TEXT, "
    "note_scan BLOB",
    "death": "person_id INTEGER NOT NULL, death_date DATE NOT NULL, cause_source_value VARCHAR(50)",
    "location": "location_id INTEGER NOT NULL PRIMARY KEY, city VARCHAR(50), latitude NUMERIC(9,6)",
    "care_site": "care_site_id INTEGER NOT NULL PRIMARY KEY, care_site_name VARCHAR(255)",
    "provider": "provider_id INTEGER NOT NULL PRIMARY KEY, provider_name VARCHAR(255), npi VARCHAR(20)",
    "concept": "concept_id INTEGER NOT NULL PRIMARY KEY, concept_name VARCHAR(255) NOT NULL, valid_start_date DATE, "
    "invalid_reason VARCHAR(1)",
    "vocabulary": "vocabulary_id VARCHAR(20) NOT NULL PRIMARY KEY, vocabulary_name VARCHAR(255)",
    "domain": "domain_id VARCHAR(20) NOT NULL, domain_name VARCHAR(255), UNIQUE (domain_id)",
    "concept_ancestor": "ancestor_concept_id INTEGER NOT NULL, descendant_concept_id INTEGER NOT NULL, "
    "min_levels_of_separation INTEGER NOT NULL, PRIMARY KEY (ancestor_concept_id, descendant_concept_id)",
    "fact_relationship": "domain_concept_id_1 INTEGER, fact_id_1 INTEGER, fact_id_2 INTEGER",
    "cost": "cost_id INTEGER NOT NULL PRIMARY KEY, total_charge NUMERIC(19,4), currency_concept_id INTEGER",
    "cdm_source": "cdm_source_name VARCHAR(255), source_release_date DATE, cdm_version VARCHAR(10)",
}
"""The tables that have rows."""

EMPTY = {
    **dict.fromkeys(
        (
            "visit_detail",
            "drug_exposure",
            "procedure_occurrence",
            "device_exposure",
            "observation",
            "note_nlp",
            "specimen",
            "payer_plan_period",
            "drug_era",
            "dose_era",
            "condition_era",
            "episode",
            "episode_event",
            "metadata",
            "concept_class",
            "concept_relationship",
            "relationship",
            "concept_synonym",
            "source_to_concept_map",
            "drug_strength",
            "cohort",
        ),
        "id BIGINT NOT NULL PRIMARY KEY, since DATE, at_time DATETIME, amount NUMERIC(20,6), named VARCHAR(50), "
        "raw BLOB",
    ),
    "cohort_definition": "cohort_definition_id INTEGER NOT NULL, cohort_definition_syntax TEXT",
}


def rows_of(table: str, size: int) -> Iterator[Row]:
    """The rows of a table, as Python has them.

    Args:
        table: its name.
        size: of the largest one; others are smaller.
    """
    return _MAKERS[table](random.Random(f"{SEED}{table}"), size)


def _name(number: int) -> str | None:
    return None if number % 7 == 3 else NAMES[number % len(NAMES)]


def _maybe(value: Any, number: int) -> Any:
    return None if number % 5 == 2 else value


def _person(random: random.Random, size: int) -> Iterator[Row]:
    for number in range(50):
        born = datetime(1900 + number * 2, 1, 31, 23, 59, 59, number * 19_999)
        yield number * 3 - 5, 8507, born.year, _maybe(born, number), _name(number), number % 3 == 0


def _period(random: random.Random, size: int) -> Iterator[Row]:
    for number in range(50):
        yield number, number, DAY + timedelta(days=number * 97), _maybe(date(9999, 12, 31), number)


def _visit(random: random.Random, size: int) -> Iterator[Row]:
    for number in range(200):
        at = datetime(1582, 10, 15) + timedelta(days=number * 701, seconds=number)
        yield 2**40 + number, number, at.date(), _maybe(at, number), _name(number)


def _condition(random: random.Random, size: int) -> Iterator[Row]:
    for number in range(size // 10):
        yield number, number, DAY + timedelta(days=number % 9000), _name(number)


def _measurement(random: random.Random, size: int) -> Iterator[Row]:
    for number in range(size // 4):
        exact = Decimal(random.randrange(-(10**20), 10**20)).scaleb(-18)
        low = Decimal(random.randrange(0, 100_000)).scaleb(-2)
        yield (
            number * 11,
            number,
            DAY,
            _maybe(exact, number),
            _maybe(low, number + 1),
            _maybe(random.gauss(0, 1e10), number),
            _name(number),
        )


def _note(random: random.Random, size: int) -> Iterator[Row]:
    for number in range(120):
        text = _maybe("".join(NAMES) * (number % 40), number)
        yield number, number, _name(number), text, _maybe(random.randbytes(number * 10), number + 1)


def _death(random: random.Random, size: int) -> Iterator[Row]:
    # Without a key, and two rows are equal in all columns.
    for number in range(30):
        yield number // 2, DAY, _name(number // 2)


def _location(random: random.Random, size: int) -> Iterator[Row]:
    for number in range(20):
        yield number, _name(number), _maybe(Decimal(number * 1_234_567 % 90_000_000).scaleb(-6), number)


def _named(random: random.Random, size: int) -> Iterator[Row]:
    for number in range(20):
        yield number, _name(number)


def _provider(random: random.Random, size: int) -> Iterator[Row]:
    for number in range(20):
        yield number, _name(number), f"{number:010}"


def _concept(random: random.Random, size: int) -> Iterator[Row]:
    for number in range(CONCEPTS):
        yield number, NAMES[number % len(NAMES)] + str(number), DAY, _maybe("D", number)


def _vocabulary(random: random.Random, size: int) -> Iterator[Row]:
    for number in range(60):
        yield f"{NAMES[number % 8]} {number}"[:20], _name(number)


def _ancestor(random: random.Random, size: int) -> Iterator[Row]:
    for number in range(size):
        yield number // 37, number % 37, number % 5


def _fact(random: random.Random, size: int) -> Iterator[Row]:
    for number in range(size // 20):
        yield 21, _maybe(number, number), number + 1


def _cost(random: random.Random, size: int) -> Iterator[Row]:
    for number in range(40):
        yield number, _maybe(Decimal(number * 99_999_999).scaleb(-4), number), 44818668


def _source(random: random.Random, size: int) -> Iterator[Row]:
    yield "Synthetic hospital", DAY, "5.4"


_MAKERS: dict[str, Callable[[random.Random, int], Iterator[Row]]] = {
    "person": _person,
    "observation_period": _period,
    "visit_occurrence": _visit,
    "condition_occurrence": _condition,
    "measurement": _measurement,
    "note": _note,
    "death": _death,
    "location": _location,
    "care_site": _named,
    "provider": _provider,
    "concept": _concept,
    "vocabulary": _vocabulary,
    "domain": _vocabulary,
    "concept_ancestor": _ancestor,
    "fact_relationship": _fact,
    "cost": _cost,
    "cdm_source": _source,
}


def fill(connection: Any, *, mark: str, size: int, is_sqlite: bool) -> None:
    """Makes all tables and their rows, by a connection of a driver.

    Args:
        connection: of sqlite3 or PyMySQL.
        mark: what stands for a value in a statement.
        size: see `rows_of`.
        is_sqlite: SQLite has no decimals and no dates: they are stored as text.
    """
    cursor = connection.cursor()
    for table, columns in {**COLUMNS, **EMPTY}.items():
        cursor.execute(f"CREATE TABLE {table} ({columns})")
    cursor.execute("CREATE VIEW deceased AS SELECT * FROM person WHERE is_deceased = 1")
    for table in COLUMNS:
        rows = list(rows_of(table, size))
        places = ", ".join([mark] * len(rows[0]))
        plain: Sequence[Row] = [tuple(map(_as_text, row)) for row in rows] if is_sqlite else rows
        cursor.executemany(f"INSERT INTO {table} VALUES ({places})", plain)
    connection.commit()


def _as_text(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    return str(value) if isinstance(value, date | Decimal) else value


def plain(rows: Iterable[Row]) -> list[Row]:
    """Rows in an order, so that those of a database and of the lake can be compared."""
    return sorted((tuple(map(_plain, row)) for row in rows), key=repr)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    # Decimals of one value and other places have other texts.
    return value.normalize() if isinstance(value, Decimal) else value


def held_by_sqlite(table: str, rows: Iterable[Row]) -> list[Row]:
    """What SQLite gave, as its declared types mean it."""
    kinds = [each.split()[1] for each in COLUMNS[table].split(", ") if each[0].islower() and len(each.split()) > 1]
    return [tuple(_meant(kind, value) for kind, value in zip(kinds, row, strict=True)) for row in rows]


def _meant(kind: str, value: Any) -> Any:
    if value is None:
        return None
    if kind.startswith("NUMERIC"):
        return Decimal(repr(value))
    if kind == "DATE":
        return date.fromisoformat(value)
    if kind.startswith("DATETIME"):
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    return bool(value) if kind.startswith("BIT") else value
