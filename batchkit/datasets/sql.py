"""A table that is the answer to an SQL query on a database of the user."""

import sqlalchemy  # noqa: F401
