"""Does the target hold what its sources hold, seen through the mapping?

    compare.py      all mappings: one pass over everything, then again over the keys that differed until they settle
    comparison.py   one mapping's part of it
    report.py       what it found, as plain values
    columns.py      how each type is read by SQL and becomes its canonical value: one table per kind of source
    source_rows.py  the rows of a source table, streamed
    staging.py      expected rows beside the target's own, in the target, compared by the target (staging_sql.py)
    local_staging.py   the same for targets that do not compare by themselves, in a scratch database here

What may be changed here: a new type of a source is one entry in columns.py, beside the one in `cdc/source/types_*`.
Nothing here writes to a source or to a target's tables: it reads, and keeps what it expects in temporary tables.
"""
