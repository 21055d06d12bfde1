"""The reading side: Kafka records become typed change events with a position.

    consumer.py (kafka_python.py, librdkafka.py)   records and rebalances as data, from a broker
    schema.py, envelope.py                         RawRecord -> ChangeEvent | Skip, or `Poison`
    values.py, types_postgres.py, types_mariadb.py columns: what arrives, what it becomes, what is refused and why
    described.py                                   a catalog's table -> the `TableSchema` that the stream gives
    positions.py                                   where a change stands in its source's log

The only room that imports a Kafka client for data. It knows sources and Debezium; it knows no mapping and no target.
What may be changed here: a new type is one entry in a `types_*` table; a new client is one adapter that passes the
conformance class of `tests/conformance/test_types_consumers.py`.
"""
