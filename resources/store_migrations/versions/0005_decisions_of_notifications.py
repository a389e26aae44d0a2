"""What is decided once more after a crash, with something else in between, is another notification."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLE, BEFORE, AFTER = "notification", "uq_notification_kind", "uq_notification_decision"
KEY = ["alarm_id", "transition_index", "kind", "severity_rank", "subscriber_id", "channel", "decision"]


def upgrade() -> None:
    """Goes on where it was interrupted: MySQL commits each statement, the others all of them or none."""
    inspector, dialect = sa.inspect(op.get_bind()), op.get_bind().dialect.name
    if "decision" not in {each["name"] for each in inspector.get_columns(TABLE)}:
        op.add_column(TABLE, sa.Column("decision", sa.BigInteger(), nullable=False, server_default="0"))
    there = {each["name"] for each in inspector.get_indexes(TABLE)} if dialect in ("mysql", "mariadb") else {BEFORE}
    with op.batch_alter_table(TABLE) as table:
        if AFTER not in there:
            table.create_unique_constraint(AFTER, KEY)
        if BEFORE in there:
            table.drop_constraint(BEFORE, type_="unique")
