"""The demo world: a telephone company's CRM and self-care portal (PostgreSQL) and its billing (MariaDB), and people at
work in all three.

    crm.sql, portal.sql, billing.sql   the schemas
    values.py                          names, texts, sums: pure functions of a random source
    rows.py                            one row of each table
    world.py                           what the worlds share: transactions as data, hot rows
    crm.py, portal.py, billing.py      what happens there: an endless, deterministic sequence of transactions
    prepare.py                         databases, roles, publications, first rows
    databases.py                       connections that run transactions, and read where a world stands
    load.py                            runs the worlds against real databases at a given rate
    golden.py                          what the golden customers must be, worked out from the three databases
    show.py                            all of it once, from nothing to the proof

Everything above prepare.py is pure: the same seed and the same starting rows give the same statements. Only
databases that `prepare` made are ever written to. Fault tests use `Load` too.
What may be changed here: more kinds of transactions are welcome, as long as a seed still tells them all.
"""
