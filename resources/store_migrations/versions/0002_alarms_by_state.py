"""Open alarms are found without a look at all others."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the index unless it is there."""
    if "ix_Alerts_state" not in {each["name"] for each in sa.inspect(op.get_bind()).get_indexes("Alerts")}:
        op.create_index("ix_Alerts_state", "Alerts", ["state"])
