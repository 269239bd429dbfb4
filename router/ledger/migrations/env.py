"""What Alembic runs to take a step. The connection, and its transaction, are the caller's."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=False)
context.run_migrations()
