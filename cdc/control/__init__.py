"""Control: connectors and their sources on the one side, running pipelines on the other; asked, and moved on purpose.

The capturing side:

    connect.py        Kafka Connect's REST interface, typed, with bounded retries
    traces.py         a worker's stack trace -> the line that says what is wrong
    required.py       the connector settings that decide correctness, and what each is for
    types_page.py     connect-configs/TYPES.md: what every type becomes, and those settings
    registration.py   connect-configs/NAME.json -> a checked connector configuration -> a running connector
    findings.py       what a check found: what, why, and the text that mends it
    fitness.py        tables and servers that cannot be captured as they are, with the SQL that helps
    sources.py        the sources as they stand; all checks at once
    connector_states.py   the same in a word each, for status
    feeds.py          whether anything feeds a mapping
    load.py           read a table again while changes go on
    caught_up.py      "everything up to now has arrived"

Pipelines:

    run.py            what is looked at before workers start
    goal.py           whole pipelines caught up
    operate.py        what every command below needs: a pipeline's state in its target, its topics in Kafka
    status.py         what runs, what is behind, what was set aside
    parked.py  rewind.py  sweep.py  epoch.py   a plan (the rehearsal), and carrying it out

What may be changed here: a setting that proved to matter is one entry in required.py, with why, and then
`cdc types --write`. A new command is a plan that can be shown, and a function that carries it out; the command line
runs it `audited`.
"""
