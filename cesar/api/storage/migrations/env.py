"""How Alembic runs our migrations: on the connection that `migrate` hands over, each in a transaction of its own."""

from alembic import context

from cesar.api.storage.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=True,
    transactional_ddl=True,  # SQLite can, once BEGIN is said by us and not by its Python driver
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
