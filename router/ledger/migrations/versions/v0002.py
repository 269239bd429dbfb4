"""Clients' keys, their secrets, and a version that counts their changes"""

import sqlalchemy as sa
from alembic import op

revision = "v0002"
down_revision = "v0001"
branch_labels = None
depends_on = None

_TEXT = sa.Text(collation="C").with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("name", _TEXT, primary_key=True, nullable=False),
        sa.Column("terms", sa.Text(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("changed_us", sa.BigInteger(), nullable=False),
        sa.Column("revoked_us", sa.BigInteger(), nullable=True),
    )
    op.create_table(
        "api_secrets",
        sa.Column("sha256", _TEXT, primary_key=True, nullable=False),
        sa.Column("name", _TEXT, sa.ForeignKey("api_keys.name"), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("ends_us", sa.BigInteger(), nullable=True),
    )
    op.create_index("api_secrets_name", "api_secrets", ["name"])
    versions = op.create_table("api_keys_version", sa.Column("version", sa.BigInteger(), nullable=False))
    op.bulk_insert(versions, [{"version": 0}])
