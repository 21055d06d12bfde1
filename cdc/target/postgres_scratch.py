"""A scratch place in PostgreSQL (see scratch.py): schemas, and what schema `cdc` remembers of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from psycopg import sql

from cdc.entries import PostgresTargetSettings
from cdc.errors import Terminal
from cdc.model import TargetTable
from cdc.target.postgres_errors import translated
from cdc.target.postgres_statements import POSITION, identifier, tombstone_name
from cdc.target.scratch import Text


class PostgresScratch:
    """A `Scratch`. `connect` opens a connection in autocommit mode; `name`: of the pipeline that is played there."""

    def __init__(
        self, settings: PostgresTargetSettings, connect: Callable[[], psycopg.Connection[Any]], name: str
    ) -> None:
        self.settings = settings
        self._name = name
        self._namespaces: set[str] = set()
        with translated():
            self._connection = connect()
            allowed = self._one("SELECT has_database_privilege(current_database(), 'CREATE')")
            self._had_state = self._one("SELECT to_regnamespace('cdc') IS NOT NULL")
        if not allowed:
            database, user = settings.database, settings.user
            self._connection.close()
            raise Terminal(
                "this account may not make a schema to play the tests in",
                where=settings.where,
                hint=f"GRANT CREATE ON DATABASE {database} TO {user}; or test on another target",
            )

    def namespace(self, name: str) -> str:
        made = f"{self._name}_{name}"
        if made not in self._namespaces:
            self._namespaces.add(made)
            with translated():
                self._connection.execute(sql.SQL("CREATE SCHEMA {}").format(identifier(made)))
        return made

    def disown(self, table: TargetTable) -> None:
        name = identifier(table.namespace, table.name)
        with translated():
            self._connection.execute(sql.SQL("UPDATE {} SET {} = NULL").format(name, identifier(POSITION)))

    def texts(self, table: TargetTable, columns: Sequence[str]) -> list[tuple[Text, ...]]:
        cells = sql.SQL(", ").join(sql.SQL("{}::text").format(identifier(column)) for column in columns)
        name = identifier(table.namespace, table.name)
        with translated():
            return self._connection.execute(sql.SQL("SELECT {} FROM {}").format(cells, name)).fetchall()

    def remove(self) -> None:
        with self._connection as connection, translated(), connection.transaction():
            for namespace in self._namespaces:
                connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(identifier(namespace)))
            if self._had_state:
                self._forget()
            else:
                connection.execute("DROP SCHEMA IF EXISTS cdc CASCADE")

    def _forget(self) -> None:
        """What schema `cdc`, which others use too, holds of this pipeline and its tables."""
        connection, namespaces = self._connection, list(self._namespaces)
        ids = connection.execute("SELECT id FROM cdc.target_table WHERE namespace = ANY(%s)", (namespaces,)).fetchall()
        for (table_id,) in ids:
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(identifier("cdc", tombstone_name(table_id))))
        connection.execute("DELETE FROM cdc.target_table WHERE namespace = ANY(%s)", (namespaces,))
        contributions = "(SELECT id FROM cdc.contribution_table WHERE pipeline = %s)"
        for table in self._with_column("table_id"):
            statement = sql.SQL("DELETE FROM {} WHERE table_id IN " + contributions).format(identifier("cdc", table))
            connection.execute(statement, (self._name,))
        connection.execute("DELETE FROM cdc.moved WHERE mapping LIKE %s", (f"{self._name}/%",))
        for table in self._with_column("pipeline"):
            statement = sql.SQL("DELETE FROM {} WHERE pipeline = %s").format(identifier("cdc", table))
            connection.execute(statement, (self._name,))

    def _with_column(self, name: str) -> list[str]:
        rows = self._connection.execute(
            "SELECT c.relname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
            " WHERE c.relnamespace = 'cdc'::regnamespace AND c.relkind IN ('r', 'p') AND a.attname = %s",
            (name,),
        ).fetchall()
        return [table for (table,) in rows]

    def _one(self, query: str) -> bool:
        row = self._connection.execute(query.encode()).fetchone()
        return bool(row and row[0])
