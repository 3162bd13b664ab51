"""Facts in SQL: the only package that knows SQLAlchemy.

Where to look: ``engine`` opens a database and translates its errors; ``dialect`` holds all
that differs between SQLite and PostgreSQL; ``tables`` says what is kept; ``holders`` has
one function per statement; ``transaction``, ``stores``, ``outbox`` and ``feeds`` fulfil
the ports; ``catalog`` keeps apps, keys and tokens; ``migrate`` brings the schema up.

No sig is ever stored, and no rule lives here: what is due or alive was decided elsewhere
and lies in the columns.
"""
