"""Control of the capturing side: Kafka Connect, connectors and their settings, positions of sources.

    connect.py        Kafka Connect's REST interface, typed, with bounded retries
    traces.py         a worker's stack trace -> the line that says what is wrong
    required.py       the connector settings that decide correctness, and what each is for
    registration.py   connect-configs/NAME.json -> a checked connector configuration -> a running connector
    findings.py       what a check found: what, why, and the text that mends it
    fitness.py        tables and servers that cannot be captured as they are, with the SQL that helps
    sources.py        the sources as they stand; all checks at once
    caught_up.py      "everything up to now has arrived"

What may be changed here: a setting that proved to matter is one entry in required.py, with why.
"""
