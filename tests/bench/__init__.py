"""The benchmark: how fast this applier is beside Debezium's JDBC sink and beside the database's own limit.

`make bench` runs everything and keeps `results.json` and `results.svg`; `make bench-quick` runs the main workload in
under five minutes, and its last line is one JSON object. Absolute figures are those of a machine and a day; the ratios
are the result. One run does everything on one machine: its own stack, the same prefilled topics for every contender,
rounds that take turns, a fresh target database a run.

What the figures mean:

rows/s        records applied a second, from the first visible ones to the last: starting a process or a connector is
              not in it. For the applier by its watermarks, for the sink by its group's committed offsets (they follow
              within a second, at the first record as at the last)
cpu           seconds of CPU a million records: of the contender (applier processes; Kafka Connect for the sink), and of
              the target's PostgreSQL
memory        the largest resident size that one worker process reached, MB
latency       from the source's answer to COMMIT until another session of the target sees the row, ms; single-row
              transactions at a fixed rate, one partition, the same connector for all
from topic    the same, from the record's time in Kafka
ratio_…       rows/s of the applier (librdkafka, one worker) divided by those of …; for `limit` onto rows that exist

world.py       stack, sources, topics, targets     contenders.py  who runs what: applier.py, sink.py, limit.py (read.py)
workloads.py   what is in the topics               clock.py       how long it takes; usage.py: what it uses
latency.py     commit to visible                   report.py      table, JSON, plot
"""
