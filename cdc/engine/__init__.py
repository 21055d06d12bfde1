"""The loop: records in, durable rows and watermarks out, exactly once; and the oracle that says what must come out.

    worker.py                   one member of the consumer group; the turn of the loop
    partitions.py, epochs.py    may this partition be read from here? is this still the same source?
    intake.py, plans.py         records -> events -> mapped rows; where a batch is cut
    writer.py, apply.py, fold.py   a batch -> one target transaction; bad rows are isolated and parked
    parked.py                   retries of parked keys, from their original records through the guard
    oracle.py                   the pure model: tape of rows -> rows and decisions. Every write path must equal it
    supervisor.py, build.py     worker processes: from files to running workers, restarted and stopped
    meter.py, logs.py           what a worker says of itself
    failpoints.py               named points where tests stop, freeze or kill a worker

What may be changed here: speed and batching, freely, as long as the tapes (tests/tapes.py), the simulator and the fault
tests stay equal to the oracle. A change of what must come out begins in oracle.py, with a named case. Only plain
protocols are known here (`cdc.source.consumer.Consumer`, `cdc.target.base.Target`); build.py alone names real ones.
"""
