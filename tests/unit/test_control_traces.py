"""cdc/control/traces.py: the line of a stack trace that says what is wrong."""

from __future__ import annotations

import pytest

from cdc.control.traces import meaning

PASSWORD = """org.apache.kafka.connect.errors.ConnectException: Could not initialize the connector
\tat io.debezium.connector.postgresql.PostgresConnectorTask.start(PostgresConnectorTask.java:155)
\tat java.base/java.lang.Thread.run(Thread.java:840)
Caused by: io.debezium.DebeziumException: Error connecting
\tat io.debezium.jdbc.X(X.java:1)
Caused by: org.postgresql.util.PSQLException: FATAL: password authentication failed for user "capture"
\tat org.postgresql.core.v3.ConnectionFactoryImpl.doAuthentication(ConnectionFactoryImpl.java:700)
\t... 21 more
"""

WRAPPED = """org.apache.kafka.connect.errors.ConnectException: An exception occurred in the change event producer. \
This connector will be stopped.
\tat io.debezium.pipeline.ErrorHandler.setProducerThrowable(ErrorHandler.java:67)
Caused by: io.debezium.DebeziumException: The db history topic is missing. You may attempt to recover it.
\tat io.debezium.x
"""


@pytest.mark.parametrize(
    ("trace", "expected"),
    [
        (PASSWORD, 'password authentication failed for user "capture"'),
        (WRAPPED, "The db history topic is missing. You may attempt to recover it."),
        ("java.lang.NullPointerException\n\tat x", "NullPointerException"),
        ("java.util.NoSuchElementException: null\n\tat x", "NoSuchElementException: null"),
        ("something without a class", "something without a class"),
        ("", ""),
    ],
)
def test_meaning(trace: str, expected: str) -> None:
    assert meaning(trace) == expected


def test_a_row_too_large_for_the_producer_comes_with_what_to_do() -> None:
    trace = (
        "org.apache.kafka.connect.errors.ConnectException: Unrecoverable exception from producer send callback\n"
        "Caused by: org.apache.kafka.common.errors.RecordTooLargeException: The message is 3148020 bytes when"
        " serialized which is larger than 1048576, which is the value of the max.request.size configuration.\n"
    )
    assert meaning(trace).startswith("The message is 3148020 bytes")
    assert "producer.override.max.request.size" in meaning(trace)
