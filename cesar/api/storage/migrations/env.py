"""Runs our migrations with Alembic: on the connection that `migrate` passes, each in its own transaction."""

from alembic import context

from cesar.api.storage.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=True,
    transactional_ddl=True,  # SQLite can, since we issue BEGIN ourselves
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
