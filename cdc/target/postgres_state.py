"""The engine's state in a PostgreSQL target: schema `cdc`, versioned migrations.

Two adjacent releases may run side by side: a migration only adds (tables, columns with defaults), and a later release
removes what the one before it stopped using.
"""

from __future__ import annotations

from typing import Any

import psycopg

from cdc.errors import Terminal

_VERSIONS: tuple[str, ...] = (
    """
    CREATE TABLE cdc.watermark (
        pipeline text NOT NULL, target text NOT NULL, topic text NOT NULL, partition integer NOT NULL,
        topic_id text NOT NULL,
        next bigint,
        fence bigint NOT NULL,
        tracker text NOT NULL DEFAULT '',
        time_us bigint,
        updated_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (pipeline, target, topic, partition)
    );
    COMMENT ON TABLE cdc.watermark IS 'Per topic partition: the next offset to apply, committed with the rows';
    CREATE TABLE cdc.target_table (
        id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        namespace text NOT NULL, name text NOT NULL,
        floor bytea NOT NULL DEFAULT '\\x',
        UNIQUE (namespace, name)
    );
    COMMENT ON COLUMN cdc.target_table.floor IS 'Position of the newest truncate: older changes are stale';
    CREATE TABLE cdc.moved (
        mapping text NOT NULL, old_key text NOT NULL, new_key text NOT NULL, place bytea NOT NULL,
        row_values jsonb NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (mapping, old_key, new_key, place)
    );
    COMMENT ON TABLE cdc.moved IS 'Last values of rows whose key changed, until the other half of the change took them';
    CREATE TABLE cdc.parked (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        pipeline text NOT NULL, target text NOT NULL, mapping text NOT NULL, hold text NOT NULL,
        topic text NOT NULL, partition integer NOT NULL, record_offset bigint NOT NULL,
        record_key bytea, record_value bytea, headers jsonb NOT NULL, timestamp_ms bigint NOT NULL,
        position bytea NOT NULL,
        reason text NOT NULL, error text NOT NULL,
        parked_at timestamptz NOT NULL DEFAULT now(),
        retry_requested_at timestamptz,
        UNIQUE (pipeline, target, mapping, topic, partition, record_offset, hold)
    );
    CREATE INDEX parked_by_key ON cdc.parked (mapping, md5(hold));
    COMMENT ON TABLE cdc.parked IS 'Records set aside with their key, and those held behind them';
    CREATE TABLE cdc.tally (
        pipeline text NOT NULL, target text NOT NULL, mapping text NOT NULL, topic text NOT NULL,
        partition integer NOT NULL, outcome text NOT NULL, reason text NOT NULL,
        number bigint NOT NULL,
        PRIMARY KEY (pipeline, target, mapping, topic, partition, outcome, reason)
    );
    COMMENT ON TABLE cdc.tally IS 'consumed = applied + superseded + skipped + parked, per partition and mapping';
    CREATE TABLE cdc.repeated_snapshot (
        pipeline text NOT NULL, target text NOT NULL, mapping text NOT NULL, topic text NOT NULL,
        position bytea NOT NULL,
        found_at timestamptz NOT NULL DEFAULT now(), swept_at timestamptz,
        PRIMARY KEY (pipeline, target, mapping, position)
    );
    COMMENT ON TABLE cdc.repeated_snapshot IS 'Snapshots that came again: deletes before them were never sent';
    CREATE TABLE cdc.source_epoch (
        pipeline text NOT NULL, target text NOT NULL, source text NOT NULL,
        epoch integer NOT NULL, identity text NOT NULL,
        decided_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (pipeline, target, source, epoch)
    );
    COMMENT ON TABLE cdc.source_epoch IS 'Which incarnation of a source database positions belong to';
    CREATE TABLE cdc.worker (
        pipeline text NOT NULL, target text NOT NULL, worker text NOT NULL,
        state text NOT NULL, error text NOT NULL,
        rows_per_second double precision NOT NULL, latency_ms jsonb NOT NULL, stages jsonb NOT NULL,
        partitions text[] NOT NULL,
        reported_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (pipeline, target, worker)
    );
    COMMENT ON TABLE cdc.worker IS 'What each worker last said of itself';
    """,
    """
    ALTER TABLE cdc.repeated_snapshot ADD COLUMN ends jsonb;
    COMMENT ON COLUMN cdc.repeated_snapshot.ends IS
        'Where the topic''s partitions ended when the snapshot was over: {partition: offset}';
    CREATE TABLE cdc.audit (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        at timestamptz NOT NULL DEFAULT now(), finished_at timestamptz,
        who text NOT NULL, command text NOT NULL, reason text NOT NULL,
        before jsonb NOT NULL, after jsonb, error text NOT NULL DEFAULT ''
    );
    COMMENT ON TABLE cdc.audit IS 'Who changed what by a command, when and why; not finished: it was interrupted';
    """,
    """
    CREATE TABLE cdc.delivery (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        pipeline text NOT NULL, target text NOT NULL, mapping text NOT NULL,
        hold text NOT NULL, key_hash text NOT NULL,
        idempotency_key text NOT NULL,
        operation text NOT NULL,
        position bytea NOT NULL,
        topic text NOT NULL, partition integer NOT NULL, record_offset bigint NOT NULL,
        state text NOT NULL DEFAULT 'sent',
        attempts integer NOT NULL DEFAULT 1,
        status integer, answer text NOT NULL DEFAULT '',
        request bytea,
        first_sent_at timestamptz NOT NULL DEFAULT now(), sent_at timestamptz NOT NULL DEFAULT now(),
        settled_at timestamptz,
        UNIQUE (pipeline, target, idempotency_key)
    );
    CREATE UNIQUE INDEX delivery_under_way ON cdc.delivery (pipeline, target, mapping, key_hash) WHERE state = 'sent';
    CREATE INDEX delivery_by_key ON cdc.delivery (pipeline, target, key_hash);
    CREATE INDEX delivery_by_time ON cdc.delivery (pipeline, target, settled_at);
    COMMENT ON TABLE cdc.delivery IS 'What was sent to a target without transactions, and what it answered';
    COMMENT ON COLUMN cdc.delivery.request IS 'What left, while no answer is known: it leaves again as it is';
    CREATE TABLE cdc.delivered (
        pipeline text NOT NULL, target text NOT NULL, mapping text NOT NULL, key_hash text NOT NULL,
        hold text NOT NULL,
        position bytea NOT NULL,
        idempotency_key text NOT NULL,
        present boolean NOT NULL,
        topic text NOT NULL, partition integer NOT NULL, record_offset bigint NOT NULL,
        at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (pipeline, target, mapping, key_hash)
    );
    COMMENT ON TABLE cdc.delivered IS 'What each row of a target without transactions was given last: older is stale';
    """,
    """
    CREATE TABLE cdc.contribution_table (
        id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        pipeline text NOT NULL, target text NOT NULL, mapping text NOT NULL,
        UNIQUE (pipeline, target, mapping)
    );
    COMMENT ON TABLE cdc.contribution_table IS 'Target tables of which several sources make the rows';
    CREATE TABLE cdc.contribution_shape (
        number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        table_id integer NOT NULL,
        shape text NOT NULL
    );
    CREATE UNIQUE INDEX contribution_shape_once ON cdc.contribution_shape (table_id, md5(shape));
    COMMENT ON TABLE cdc.contribution_shape IS 'What the values of contributions are: contributor and columns';
    CREATE TABLE cdc.contribution_floor (
        table_id integer NOT NULL, contributor text NOT NULL,
        position bytea NOT NULL,
        PRIMARY KEY (table_id, contributor)
    );
    COMMENT ON TABLE cdc.contribution_floor IS 'Position of the newest truncate of a source table: older is stale';
    CREATE TABLE cdc.contribution (
        table_id integer NOT NULL, key text COLLATE "C" NOT NULL,
        document bytea NOT NULL,
        memory_s bigint,
        PRIMARY KEY (table_id, key)
    ) WITH (fillfactor = 50); -- a document is written again and again: its next version finds room beside it
    CREATE INDEX contribution_by_memory ON cdc.contribution (table_id, memory_s) WHERE memory_s IS NOT NULL;
    COMMENT ON COLUMN cdc.contribution.memory_s IS 'Since when it holds words that were withdrawn, seconds since 1970';
    COMMENT ON TABLE cdc.contribution IS 'What each source last said about a target row (see cdc explain)';
    """,
    """
    CREATE TABLE cdc.park_request (
        pipeline text NOT NULL, target text NOT NULL, topic text NOT NULL, partition integer NOT NULL,
        record_offset bigint NOT NULL,
        who text NOT NULL, reason text NOT NULL,
        requested_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (pipeline, target, topic, partition, record_offset)
    );
    COMMENT ON TABLE cdc.park_request IS 'Records to set aside on purpose when they come';
    """,
    """
    CREATE TABLE cdc.conflict (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        at timestamptz NOT NULL DEFAULT now(),
        pipeline text NOT NULL, target text NOT NULL, mapping text NOT NULL, hold text NOT NULL,
        type text NOT NULL, action text NOT NULL, columns text[] NOT NULL,
        before jsonb, incoming jsonb, resulting jsonb,
        position bytea NOT NULL,
        topic text NOT NULL, partition integer NOT NULL, record_offset bigint NOT NULL
    );
    CREATE INDEX conflict_by_key ON cdc.conflict (md5(hold));
    COMMENT ON TABLE cdc.conflict IS 'Conflicts that were decided, the first of each batch, with values that differed';
    CREATE TABLE cdc.conflict_count (
        pipeline text NOT NULL, target text NOT NULL, mapping text NOT NULL,
        topic text NOT NULL, partition integer NOT NULL, type text NOT NULL, action text NOT NULL,
        hour timestamptz NOT NULL,
        number bigint NOT NULL,
        PRIMARY KEY (pipeline, target, mapping, topic, partition, type, action, hour)
    );
    COMMENT ON TABLE cdc.conflict_count IS 'How many conflicts were decided, and how, by the hour';
    """,
    """
    CREATE TABLE cdc.mapping_version (
        pipeline text NOT NULL, target text NOT NULL, number integer NOT NULL,
        file text NOT NULL, content text NOT NULL,
        who text NOT NULL, reason text NOT NULL, restores integer,
        at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (pipeline, target, number)
    );
    COMMENT ON TABLE cdc.mapping_version IS 'Versions of pipeline files that were deployed; workers run the newest';
    CREATE TABLE cdc.mapping_switch (
        pipeline text NOT NULL, target text NOT NULL, topic text NOT NULL, partition integer NOT NULL,
        number integer NOT NULL,
        next bigint, tracker text NOT NULL,
        PRIMARY KEY (pipeline, target, topic, partition, number)
    );
    COMMENT ON TABLE cdc.mapping_switch IS 'From which offset on a partition''s records were applied by a version';
    """,
    """
    CREATE TABLE cdc.history_truncate (
        table_id integer NOT NULL, position bytea NOT NULL,
        at timestamptz NOT NULL,
        PRIMARY KEY (table_id, position)
    );
    COMMENT ON TABLE cdc.history_truncate IS 'Truncates of tables of which a history is kept: they end late rows too';
    """,
)

_LOCK = 0x_CDC0_5747  # any number, the same for all releases


def migrate(connection: psycopg.Connection[Any]) -> None:
    """Bring schema `cdc` to this release's version. Raises `Terminal` when a newer release has been here."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        if connection.execute("SELECT to_regclass('cdc.state_version')").fetchone() == (None,):
            connection.execute("CREATE SCHEMA IF NOT EXISTS cdc")
            connection.execute("CREATE TABLE cdc.state_version (version integer PRIMARY KEY, at timestamptz NOT NULL)")
        row = connection.execute("SELECT coalesce(max(version), 0) FROM cdc.state_version").fetchone()
        current = int(row[0]) if row else 0
        if current > len(_VERSIONS) + 1:
            raise Terminal(
                f"the target's state has version {current}, this release knows {len(_VERSIONS)}",
                hint="run a release that is at most one version behind the newest that has run here",
            )
        for version in range(current + 1, len(_VERSIONS) + 1):
            connection.execute(_VERSIONS[version - 1])
            connection.execute("INSERT INTO cdc.state_version VALUES (%s, now())", (version,))
