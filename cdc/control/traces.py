"""A worker's stack trace made readable: the deepest cause that says something a person can act on."""

from __future__ import annotations

import re

# 'org.x.SomeException: text' or 'Caused by: org.x.SomeException: text'
_LINE = re.compile(
    r"^(?:Caused by: |Suppressed: )?(?:[\w$]+\.)+(?P<cls>[\w$]+(?:Exception|Error|Throwable))(?:: (?P<text>.*))?$"
)
# Server errors carry the server's own words behind one of these.
_SERVER = re.compile(r"^(?:FATAL|ERROR|PANIC): +")
_WRAPPERS = re.compile(
    r"^(?:Exiting WorkerSourceTask due to unrecoverable exception|An exception occurred in the change event producer"
    r"|Tolerance exceeded in error handler|Unable to initialize and start connector's task|Failed to start connector).*"
)

_TOO_LARGE = (
    "(a row is larger than the producer may send: raise producer.override.max.request.size, and"
    " producer.override.buffer.memory with it, in the connector's JSON, and max.message.bytes of the topic; register,"
    " then restart the task)"
)


def meaning(trace: str) -> str:
    """The first meaningful line of a trace: the innermost cause with a text, without class names and frames.

    'password authentication failed for user "x"', not 'ConnectException: Exiting WorkerSourceTask …'. '' for ''.
    """
    causes = [match for line in trace.splitlines() if (match := _LINE.match(line.strip()))]
    texts = [(match["cls"], _SERVER.sub("", (match["text"] or "").strip())) for match in causes]
    telling = [(cls, text) for cls, text in texts if text and not _WRAPPERS.match(text)]
    if any(cls == "RecordTooLargeException" for cls, _ in telling):
        text = next(text for cls, text in telling if cls == "RecordTooLargeException")
        return f"{text} {_TOO_LARGE}"
    if telling:
        cls, text = telling[-1]
        # A bare word ('null', a number) needs its class to say anything.
        return text if len(text.split()) > 1 else f"{cls}: {text}"
    if texts:
        return f"{texts[-1][0]}: {texts[-1][1]}".removesuffix(": ")
    lines = [line.strip() for line in trace.splitlines() if line.strip()]
    return lines[0] if lines else ""
