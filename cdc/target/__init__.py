"""Target systems: where mapped rows are kept, with the watermarks and everything else that must agree with them.

    base.py             the contract of a target, its failure modes, and the values it stores
    operator.py         the contract of what on-call does to stored state, and of the audit trail
    rows.py             the contract of reading a target's rows back, to compare them
    versions.py         deployed versions of mappings: what holds for them in every target
    outlook.py, beside.py   what a mapping would mean for a table, and what it makes beside the table's rows
    lines.py            rows as lines of text between tabs, by generated functions: what COPY and LOAD DATA read
    memory.py           the reference target, which can inject faults; memory_rules.py: its tables with conflict rules
    postgres.py         PostgreSQL: the connection and its transactions
    postgres_round.py   ... one round of a batch: COPY into a staging table, a few guarded statements
    postgres_found.py   ... a table as it is found, and what would make writing to it wrong
    postgres_ruled_*.py ... the same for tables with conflict rules: statements, and what is decided on what they meet
    postgres_*.py       ... types, statements, tables, state in schema `cdc`, parked records, errors, operations
    sqlstate*.py        state in tables `cdc_…` of any database with a DB-API driver: worker's and operator's side
    sqlround.py         ... and one round of a batch there
    sqlstaged.py        ... and what targets share that write rounds through staging tables there
    sqlcompose.py       ... what statements of these rounds are worded alike
    sqlrows.py          ... reading rows back there
    sqlite*.py          SQLite
    delivery.py         what targets without transactions keep on record, in which order, and the ledger's contract
    rest.py             a REST API: guard and ledger in a state store beside it; postgres_ledger.py keeps them
    rest_*.py           ... requests of rows, values as JSON, sending, answers, pace, accounts
    mariadb*.py         MariaDB and MySQL

How to add a target:

1.  **Does it have transactions** that hold rows and watermarks together? Then everything the engine must remember
    goes into them, and a change takes effect exactly once. If it speaks SQL through a DB-API driver, most of that is
    there: write a `Database` (connection, errors, the few words that differ; see sqlite_database.py) and inherit from
    `SqlTarget`. What remains is yours: a type for every `Kind` and the exact form of its values (`…_types.py`), create
    and check tables (`…_tables.py`), and the guarded statements of a round (`…_statements.py`,
    `sqlround.Statements`). Without transactions the state is kept beside it, and the promise is at least once.
2.  **Settings**: a class in `cdc/settings.py` and its line in `TARGET_KINDS`; its class here, its operator and its
    audit trail in `cdc/engine/targets.py`, the one place that knows kinds.
3.  **The suite**: a `Bench` and its line in `TARGETS` of tests/fix_targets.py. Then
    `pytest tests/conformance -k NAME` plays every tape, fault, value and question of an operator on it, and says what
    is missing. What it cannot hold is parked with a reason, and declared in the bench's `differences`.
4.  **The rest**: `cdc compare` reads rows back by `TargetRows`; a kill test on the real stack
    (tests/faults/test_sqlite.py shows how little that needs); a demo pipeline in mappings/; a row in the README.

Errors decide what the engine does, so translate all of them, by code and never by text (base.py says which is which).
The hot path is `Transaction.write`: a number of statements that does not depend on the number of rows.

What may be changed here: the engine reads `capabilities`, never a class. Each target writes its own upserts. A change
of the state tables is a new numbered migration, which two adjacent releases can run on side by side.
"""
