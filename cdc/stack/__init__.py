"""The local real stack: Kafka, Kafka Connect with Debezium, PostgreSQL, MariaDB and a partner's REST API as ordinary
processes, no Docker.

For the demo, for developing, and for every test that must not trust a stand-in. `Stack(home).up()` starts what is
missing, `.endpoints` says where it is, `.kill(part)` breaks it, `.down()` stops it. The data stays in `home` until
`.reset(execute=True)`.

This room stands alone: it knows nothing of mappings or pipelines, and only the command line and the tests import it.
What may be changed here: versions in pom.xml (a new hash is a new cache folder), the settings in the part files.
To look at what a setting is for, see the comment beside it; those that decide correctness must stay as they are.

    stack.py       start, stop, status, faults          part.py        what the parts share
    kafka.py  connect.py  postgres.py  mariadb.py  partner.py      the settings, the first start, "do you answer?"
    partner_server.py, partner_store.py    the partner itself, its faults; tests run it in their own process too
    home.py        the folder of one stack: choices, records of what runs
    components.py  the download and its shared cache    process.py     processes that are never mistaken for others
"""

from .components import DownloadProgress
from .endpoints import Endpoints, Server
from .errors import StackError
from .part import PartName
from .stack import PARTS, PartStatus, Progress, Stack

__all__ = [
    "PARTS",
    "DownloadProgress",
    "Endpoints",
    "PartName",
    "PartStatus",
    "Progress",
    "Server",
    "Stack",
    "StackError",
]
