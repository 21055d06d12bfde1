"""Databases as clients see them: connections with readable errors, catalogs, and which server's log this is.

    catalog.py    plain data: tables, columns, keys; identities and positions of a source's log
    postgres.py   PostgreSQL
    mariadb.py    MariaDB
    source.py     one captured database of either kind

Drivers (psycopg, PyMySQL) are imported here and in the targets' files only. This room connects and reads; all it
writes are marks in a source's log. It knows nothing of Kafka, mappings or targets.
What may be changed here: another kind of source is one more file beside postgres.py, and a branch in source.py.
"""
