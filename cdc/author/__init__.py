"""The mapping author's loop: scaffold and test; preview, plan and apply will live here.

    scaffold.py    a first mapping, from the source's catalog
    explain.py     what each target column becomes, and the way back from each source column
    cases.py       tests of mappings: what mappings/tests/*.yaml may say
    script.py      a test made ready: its source tables, events and rows (sources.py, values.py: types and values as
                   people write them)
    keys.py        what tests mask with
    play.py        ... played through the engine's own intake, applier and retries, on a ground (grounds.py)
    testing.py     ... and compared with what it expects (differences.py)

What may be changed here: how things are arranged for a person. The language itself stays in cdc/mapping, the applying
of rows in cdc/engine: nothing here decides about a change a second time. Commands that change something (decision 16 of
the design) rehearse by default, take `--execute` and `--reason`, and leave an audit record.
"""
