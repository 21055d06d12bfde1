"""Databases as clients see them: connections with readable errors, catalogs, and which server's log this is.

    catalog.py    plain data: tables, columns, keys; identities and positions of a source's log
    postgres.py   PostgreSQL
    mariadb.py    MariaDB
    source.py     one captured database of either kind

Drivers (psycopg, PyMySQL) are imported here and in the targets' files only. This room reads and connects; it changes no
data and knows nothing of Kafka, mappings or targets. Another kind of source is one more file beside postgres.py.
"""
