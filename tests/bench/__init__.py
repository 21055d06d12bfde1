"""The benchmark: how fast this applier is beside Debezium's JDBC sink and beside the database's own limit.

`make bench` runs everything in about 40 minutes and keeps `results.json` and `results.svg` (written after each step: a
run that breaks off has lost nothing; what failed is in it, with its reason). `make bench-quick` runs the main workload
in under five minutes; its last line is one JSON object. Absolute figures are those of a machine and a day; the ratios
are the result. One run does everything on one machine: its own stack, the same prefilled topics for every contender,
rounds that take turns, a fresh target database a run.

    python -m tests.bench --durable         databases that wait for their disk → results-durable.json
    python -m tests.bench --search-sink     what of the JDBC sink's settings makes it faster → results.json: sink_search
    python -m tests.bench --workload NAME   only this one: snapshot, expressions, remote, mixed, wide, large, many;
                                            growth, startup, latency, backlog
    python -m tests.bench.postgres          a target's write path alone, fed with ready rows, beside its server's own
    python -m tests.bench.mariadb           bulk statements; what they share: ready.py
    python -m tests.bench.sources           rows of three sources, beside one (`make bench` begins with all three)

What the figures mean:

rows/s        records applied a second, from the first visible ones to the last: starting a process or a connector is
              not in it. For the applier by its watermarks, for the sink by its group's committed offsets (they follow
              within a second, at the first record as at the last)
MB/s read     the same, of the records as the broker keeps and sends them (lz4)
CPU           seconds of CPU a million records, between the same two moments: of the contender (applier processes; Kafka
              Connect for the sink), and of the target's PostgreSQL
peak MB       the largest resident size that one worker process reached (for the sink: Kafka Connect, since its start)
latency       from the source's answer to COMMIT until another session of the target sees the row, ms; single-row
              transactions at a fixed rate by one session, one partition, the same connector for all
from topic    the same, from the record's time in Kafka
sustained     the source took 95 % of the rate asked for, all became visible, p99 from COMMIT within a second; each
              contender is asked for higher rates until one is not sustained
first row     seconds from the start of the process (or of the connector, in a Connect worker that runs already)
backlog gone  seconds from that start until the contender is within 1,000 records of the topics' ends, while single-row
              transactions go on at 500 a second through the connector
remote        the target behind a proxy that holds everything back for 2 ms in each direction
ratio_…       rows/s of the applier (librdkafka, one worker) divided by those of …; for `limit` onto rows that exist

session.py     one run, step by step              contenders.py  who runs what: applier.py, sink.py, limit.py (read.py)
world.py       stack, sources, topics, targets    clock.py       how long it takes; usage.py: what it uses
workloads.py   what is in the topics              latency.py     commit to visible; backlog.py, startup.py
delay.py       a target that is far away          results.py     JSON; report.py: tables; plot.py: SVG
search.py      the sink's settings
"""
