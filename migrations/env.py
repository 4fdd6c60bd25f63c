"""Alembic's entry: always runs on a connection that batchkit hands over, inside its transaction."""

from alembic import context

from batchkit.store.tables import metadata

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("run `batchkit db upgrade`: migrations need the database that batchkit is set to")

context.configure(
    connection=connection, target_metadata=metadata, render_as_batch=True, transaction_per_migration=False
)
context.run_migrations()
