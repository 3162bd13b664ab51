"""Facts in SQL: the only package that knows SQLAlchemy.

``engine`` opens a database and ``translation`` its errors; ``dialect`` holds what differs between
SQLite and PostgreSQL; ``tables`` is the schema; ``holders`` has one function per statement;
``transaction``, ``stores``, ``outbox`` and ``feeds`` fulfil the ports; ``catalog`` keeps apps, keys
and tokens; ``migrate`` upgrades the schema.

No sig is stored, and no rule lives here: columns hold what was decided elsewhere.
"""
