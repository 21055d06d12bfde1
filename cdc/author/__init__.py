"""The mapping author's loop: what a mapping would do to real data, and how it gets into a running pipeline.

    changes.py      two versions compared: what changes, and what that means for rows that are there
    plan.py         that, with the target's side of it: a plan, made for one state of the world
    apply.py        carrying a plan out; bringing an older version back
    deployment.py   what is deployed, and what `cdc run` makes of a file that says something else
    preview.py      the last real events through a changed mapping, beside what runs and beside the target's rows

The language itself stays in cdc/mapping, the applying of rows in cdc/engine; how versions are kept, and why they need
no worker to stop, is told in cdc/target/versions.py. This room arranges them for a person, and may use control/ and
reconcile/ for what on-call has as well: a pipeline's state, its topics, its source tables.

What may be changed here: a new key of the language has its meaning for rows that are there in changes.py; without an
entry it needs a re-load. As every command that changes something, those here rehearse by default, take `--execute` and
`--reason`, and leave an audit record.
"""
