"""Target systems: where mapped rows are kept, with the watermarks and everything else that must agree with them.

    base.py             the contract of a target, its failure modes, and the values it stores
    operator.py         the contract of what on-call does to stored state: watermarks, parked records, requests
    memory.py           the reference target, which can inject faults
    postgres.py         PostgreSQL: the connection and its transactions
    postgres_round.py   ... one round of a batch: COPY into a staging table, a few guarded statements
    postgres_*.py       ... types, statements, tables, state in schema `cdc`, parked records, errors, operations
    delivery.py         what targets without transactions keep on record, in which order, and the ledger's contract
    rest.py             a REST API: guard and ledger in a state store beside it; postgres_ledger.py keeps them
    rest_*.py           ... requests of rows, values as JSON, sending, answers, pace, accounts

What may be changed here: a new kind of target is one file (or one prefix) beside these, plus its line in the
conformance suite (tests/conformance/test_tapes_*.py); the engine reads `capabilities`, never a class. Each target
writes its own upserts. A change of the state tables is a new numbered migration, which two adjacent releases can run
on side by side.
"""
