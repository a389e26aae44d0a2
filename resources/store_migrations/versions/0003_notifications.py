"""The outbox: who is told of which transition of an alarm."""

import sqlalchemy as sa
from alembic import op

from resources.store_migrations.steps import create_table
from resources.store_tables import CODE, INSTANT, KEY, NUMBER, WORDS

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates what is not there: MySQL commits each statement, and this may have been interrupted."""
    create_table(
        "notification",
        sa.Column("notification_id", NUMBER, autoincrement=True, nullable=False),
        sa.Column("alarm_id", CODE, nullable=False),
        sa.Column("transition_index", sa.BigInteger(), nullable=False),
        sa.Column("subscriber_id", sa.BigInteger(), nullable=False),
        sa.Column("channel", KEY, nullable=False),
        sa.Column("details", WORDS, nullable=False),
        sa.Column("severity_rank", sa.BigInteger(), nullable=False),
        sa.Column("state", CODE, nullable=False),
        sa.Column("reason", CODE, nullable=True),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("next_attempt_at", INSTANT, nullable=True),
        sa.Column("give_up_at", INSTANT, nullable=False),
        sa.Column("ended_at", INSTANT, nullable=True),
        sa.Column("message_id", CODE, nullable=True),
        sa.Column("problem", WORDS, nullable=True),
        sa.PrimaryKeyConstraint("notification_id"),
        sa.UniqueConstraint("alarm_id", "transition_index", "subscriber_id", "channel", name="uq_notification"),
    )
    there = {each["name"] for each in sa.inspect(op.get_bind()).get_indexes("notification")}
    for name, columns in (
        ("ix_notification_channel", ["channel", "state"]),
        ("ix_notification_state", ["state", "created_at"]),
    ):
        if name not in there:
            op.create_index(name, "notification", columns)
