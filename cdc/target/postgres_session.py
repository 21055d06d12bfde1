"""What a worker's sessions on a PostgreSQL target are like, and how stuck ones of others are ended."""

# A frozen worker must not keep its locks: the server ends its session, whether it sleeps between statements or inside
# a COPY. Plans: a staging table has no statistics, and an index walk per staged row is right at every size.
SESSION = {
    "idle_in_transaction_session_timeout": "5s",
    "statement_timeout": "120s",
    "lock_timeout": "10s",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
    "synchronous_commit": "on",
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "application_name": "cdc-applier",
    # A machine that vanished says no goodbye; its session and locks go after 25 s.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
# While it waits for COPY data the server obeys neither cancels nor timeouts: a worker that froze there would keep its
# locks for as long as its machine lives. Only ending its session helps, and any other worker may do that.
END_STUCK_COPIES = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    " AND datname = current_database() AND usename = current_user"
    f" AND application_name = '{SESSION['application_name']}'"
    " AND state = 'active' AND wait_event = 'ClientRead' AND state_change < now() - interval '10s'"
)
