"""How Alembic runs the migrations: on the connection and in the transaction that `pacsd.index.migrate` hands over."""

from alembic import context

from pacsd.index.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    compare_type=True,
    compare_server_default=True,
    transactional_ddl=False,
)
context.run_migrations()
