"""Revocations are rows of their own, so that every process can read on what is new.

Those of today's holders are taken over; each is kept until the last sig that it can concern
has expired. Going back loses nothing: the holders' rows have ``revoked_at`` as before.

Revision: 0003, after 0002
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BYTES = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

SECOND = {
    "postgresql": "CAST(extract(epoch FROM clock_timestamp()) AS BIGINT)",
    "sqlite": "CAST(strftime('%s', 'now') AS INTEGER)",
}
GREATEST = {"postgresql": "greatest", "sqlite": "max"}


def upgrade() -> None:
    op.create_table(
        "revocations",
        sa.Column("sdkappid", sa.BigInteger, nullable=False),
        sa.Column("userid", BYTES, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.Column("forget_at", sa.BigInteger, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("sdkappid", "userid", name="pk_revocations"),
    )
    name = op.get_bind().dialect.name
    # Until a day after the last known expiry, and for the default life at the least.
    op.execute(
        "INSERT INTO revocations (sdkappid, userid, until, forget_at, at)"  # noqa: S608
        f" SELECT sdkappid, userid, max(revoked_at), {GREATEST[name]}(max(revoked_at) + 7776000,"
        f" max(expires_at)) + 86400, {SECOND[name]}"
        " FROM holders WHERE revoked_at > 0 GROUP BY sdkappid, userid"
    )
    op.create_index("ix_revocations_at", "revocations", ["at"])
    op.create_index("ix_revocations_forget", "revocations", ["forget_at"])


def downgrade() -> None:
    op.drop_table("revocations")
