"""A transition that was decided otherwise after a crash is another notification: kind and severity are in the key."""

import sqlalchemy as sa
from alembic import op

from resources.store_tables import CODE

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLE, BEFORE, AFTER = "notification", "uq_notification", "uq_notification_kind"
KEY = ["alarm_id", "transition_index", "kind", "severity_rank", "subscriber_id", "channel"]
_MYSQL = ("mysql", "mariadb")
_KINDS = {
    "sqlite": "CASE WHEN json_valid(details) THEN json_extract(details, '$.transition') END",
    "mssql": "CASE WHEN ISJSON(details) = 1 THEN JSON_VALUE(details, '$.transition') END",
}
_KIND_OF_MYSQL = "CASE WHEN JSON_VALID(details) THEN JSON_UNQUOTE(JSON_EXTRACT(details, '$.transition')) END"


def upgrade() -> None:
    """Goes on where it was interrupted: MySQL commits each statement, the others all of them or none."""
    inspector, dialect = sa.inspect(op.get_bind()), op.get_bind().dialect.name
    if "kind" not in {each["name"] for each in inspector.get_columns(TABLE)}:
        op.add_column(TABLE, sa.Column("kind", CODE, nullable=True))
    kind = _KINDS.get(dialect, _KIND_OF_MYSQL)
    op.execute(f"UPDATE {TABLE} SET kind = COALESCE({kind}, 'unknown') WHERE kind IS NULL")
    there = {each["name"] for each in inspector.get_indexes(TABLE)} if dialect in _MYSQL else {BEFORE}
    with op.batch_alter_table(TABLE) as table:
        table.alter_column("kind", existing_type=CODE, nullable=False)
        if AFTER not in there:
            table.create_unique_constraint(AFTER, KEY)
        if BEFORE in there:
            table.drop_constraint(BEFORE, type_="unique")
