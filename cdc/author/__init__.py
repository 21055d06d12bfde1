"""The mapping author's loop: write and test a mapping, see what it would do, get it into a running pipeline.

    scaffold.py     a first mapping, from the source's catalog
    explain.py      what each target column becomes, and the way back from each source column
    cases.py        tests of mappings: what mappings/tests/*.yaml may say
    script.py       a test made ready: its source tables, events and rows (sources.py, values.py: types and values as
                    people write them)
    keys.py         what tests mask with
    play.py         ... played through the engine's own intake, applier and retries, on a ground (grounds.py)
    testing.py      ... and compared with what it expects (differences.py)
    changes.py      two versions compared: what changes, and what that means for rows that are there
    plan.py         that, with the target's side of it: a plan, made for one state of the world
    apply.py        carrying a plan out; bringing an older version back
    deployment.py   what is deployed, and what `cdc run` makes of a file that says something else
    preview.py      the last real events through a changed mapping, beside what runs and beside the target's rows

The language itself stays in cdc/mapping, the applying of rows in cdc/engine: nothing here decides about a change a
second time. How versions are kept, and why they need no worker to stop, is told in cdc/target/versions.py. This room
arranges all that for a person, and may use control/ and reconcile/ for what on-call has as well: a pipeline's state,
its topics, its source tables.

What may be changed here: a new key of the language has its meaning for rows that are there in changes.py; without an
entry it needs a re-load. As every command that changes something, those here rehearse by default, take `--execute` and
`--reason`, and leave an audit record.
"""
