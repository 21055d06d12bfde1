"""cdc/settings.py: references, secrets that never show, errors with a place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cdc.errors import CdcError, Usage
from cdc.references import STACK_KEYS, References, Secret
from cdc.settings import Settings, load

SECRET = "hunter2-and-more"

FULL = """
kafka:
  bootstrap: ${env:KAFKA:-one:9092,two:9092}
  tls: {mode: verify-full, ca: /etc/ca.pem}
  sasl: {mechanism: SCRAM-SHA-512, user: cdc, password: "${env:SECRET}"}
connect:
  url: https://connect:8083
  account: {user: cdc, password: "${env:SECRET}"}
sources:
  crm:
    kind: postgresql
    host: db
    port: 5432
    database: crm
    user: capture
    password: ${file:secrets.properties:crm.password}
  billing:
    kind: mariadb
    host: ${env:BILLING_HOST}
    port: 3306
    database: [billing, archive]
    user: capture
    password: ${env:SECRET}
targets:
  hub:
    kind: postgresql
    host: db
    port: 5432
    database: hub
    user: apply
    password: ${env:SECRET}
    session: {synchronous_commit: "off"}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "connections.yaml"
    path.write_text(text, encoding="utf-8")
    (folder / "secrets.properties").write_text(f"# crm.password=no\ncrm.password = {SECRET}\n", encoding="utf-8")
    return path


def loaded(folder: Path, text: str = FULL, **environ: str) -> Settings:
    return load(written(folder, text), {"SECRET": SECRET, "BILLING_HOST": "ledger", **environ})


def failure(folder: Path, text: str) -> Usage:
    with pytest.raises(Usage) as caught:
        loaded(folder, text)
    return caught.value


def test_everything_that_can_be_said(tmp_path: Path) -> None:
    settings = loaded(tmp_path)
    assert settings.kafka.bootstrap == "one:9092,two:9092"
    assert settings.kafka.protocol == "SASL_SSL"
    assert settings.source("crm").connector == tmp_path / "crm.json"
    assert settings.source("billing").databases == ("billing", "archive")
    assert settings.source("billing").host == "ledger"
    assert settings.target("hub").session == {"synchronous_commit": "off"}
    assert settings.control is settings.target("hub")


def test_a_secret_is_looked_up_late_and_each_time(tmp_path: Path) -> None:
    path = written(tmp_path, FULL)
    environ = {"SECRET": "first", "BILLING_HOST": "ledger"}
    password = load(path, environ).source("billing").password
    assert password is not None
    assert password.resolve().get_secret_value() == "first"
    environ["SECRET"] = "second"
    assert password.resolve().get_secret_value() == "second"


def test_a_properties_file(tmp_path: Path) -> None:
    password = loaded(tmp_path).source("crm").password
    assert password is not None
    assert password.resolve().get_secret_value() == SECRET


def test_no_secret_is_ever_shown(tmp_path: Path) -> None:
    settings = loaded(tmp_path)
    source = settings.source("crm")
    assert source.password is not None
    shown = [
        repr(source),
        str(source.model_dump()),
        source.model_dump_json(),
        json.dumps(settings.describe()),
        repr(settings.kafka),
        repr(source.password.resolve()),
        f"{source.password} {source.password!r}",
        repr(Secret.of(SECRET)),
    ]
    assert not [text for text in shown if SECRET in text]
    assert "${file:secrets.properties:crm.password}" in source.model_dump_json()


def test_the_default_of_a_secret_is_not_shown_either(tmp_path: Path) -> None:
    text = FULL.replace("password: ${env:SECRET}", f'password: "${{env:GONE:-{SECRET}}}"')
    source = loaded(tmp_path, text).source("billing")
    assert source.password is not None
    assert SECRET not in repr(source)
    assert source.password.resolve().get_secret_value() == SECRET


def test_a_password_in_the_file_is_refused_without_showing_it(tmp_path: Path) -> None:
    error = failure(tmp_path, FULL.replace("${file:secrets.properties:crm.password}", SECRET))
    assert SECRET not in str(error)
    assert error.where == f"{tmp_path / 'connections.yaml'}:16:15"
    assert "must be a reference" in error.what


def test_a_missing_secret_is_an_error_when_it_is_used_and_names_its_place(tmp_path: Path) -> None:
    settings = load(written(tmp_path, FULL), {"BILLING_HOST": "ledger"})
    password = settings.source("billing").password
    assert password is not None
    with pytest.raises(Usage) as caught:
        password.resolve()
    assert caught.value.where == f"{tmp_path / 'connections.yaml'}:23:15"
    assert "SECRET" in caught.value.what


def test_an_entry_that_cannot_be_looked_up_disturbs_only_its_users(tmp_path: Path) -> None:
    settings = load(written(tmp_path, FULL), {"SECRET": SECRET})
    assert settings.source("crm").host == "db"
    assert settings.sources == ("crm", "billing")
    with pytest.raises(Usage, match="BILLING_HOST") as caught:
        settings.source("billing")
    assert caught.value.where == f"{tmp_path / 'connections.yaml'}:19:11"


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("port: 5432\n    database: crm", "port: 99999\n    database: crm", 13, "less than or equal to 65535"),
        ("kind: mariadb", "kind: oracle", 18, "postgresql' or 'mariadb"),
        ("user: apply", "usr: apply", 30, "unknown key 'targets.hub.usr'"),
        ("url: https://connect:8083", "url: connect:8083", 7, "connect.url"),
        ("targets:", "tragets:", 24, "unknown section 'tragets'"),
        ("database: crm", "database: [crm, two]", 14, "captures one database"),
        ("database: hub", "name: other\n    database: hub", 29, "unknown key 'name'"),
    ],
)
def test_mistakes_have_a_place(tmp_path: Path, old: str, new: str, line: int, said: str) -> None:
    error = failure(tmp_path, FULL.replace(old, new))
    assert said in error.what
    assert error.where is not None
    assert int(error.where.split(":")[-2]) == line


def test_unknown_names_list_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(Usage, match="crm, billing"):
        loaded(tmp_path).source("shop")


def test_which_target_keeps_the_control_tables(tmp_path: Path) -> None:
    second = FULL + "  mart:\n    kind: postgresql\n    host: db\n    port: 1\n    database: mart\n    user: apply\n"
    with pytest.raises(Usage, match="which target"):
        _ = loaded(tmp_path, second).control
    assert loaded(tmp_path, second + "control: {target: mart}\n").control.database == "mart"


def test_the_stack_s_values(tmp_path: Path) -> None:
    choices = {
        "ports": {"kafka": 1, "connect": 2, "postgres": 3, "mariadb": 4, "partner": 5},
        "postgres_password": "p",
        "mariadb_password": "m",
        "partner_secret": "s",
        "masking_key": "k" * 64,
    }
    (tmp_path / "stack.json").write_text(json.dumps(choices), encoding="utf-8")
    references = References(environ={"CDC_STACK_HOME": str(tmp_path)})
    found = {key: references.fill(f"${{stack:{key}}}") for key in STACK_KEYS}
    assert found["kafka"] == "127.0.0.1:1"
    assert found["connect"] == "http://127.0.0.1:2"
    assert (found["postgres.port"], found["postgres.password"]) == ("3", "p")
    assert (found["mariadb.user"], found["mariadb.password"]) == ("root", "m")
    assert (found["partner"], found["partner.secret"]) == ("http://127.0.0.1:5", "s")
    assert found["masking.key"] == "k" * 64
    assert found["secrets"] == str(tmp_path / "secrets.properties")


def test_no_stack(tmp_path: Path) -> None:
    with pytest.raises(CdcError, match="cdc stack up"):
        References(environ={"CDC_STACK_HOME": str(tmp_path)}).fill("${stack:kafka}")


def test_references_for_the_worker_are_kept_and_may_hold_ours() -> None:
    references = References(environ={"CDC_STACK_HOME": "/home/stack", "X": "x"})
    text = "${file:${stack:secrets}:key} ${env:X} ${vault:a:b} ${source:host}"
    filled = references.fill_only(text, {"source": lambda key: f"<{key}>"})
    assert filled == "${file:/home/stack/secrets.properties:key} ${env:X} ${vault:a:b} <host>"


def test_the_shipped_file_fits_a_stack(tmp_path: Path) -> None:
    choices = {
        "ports": {"kafka": 1, "connect": 2, "postgres": 3, "mariadb": 4, "partner": 5},
        "postgres_password": "p",
        "mariadb_password": "m",
        "partner_secret": "s",
        "masking_key": "k" * 64,
    }
    (tmp_path / "stack.json").write_text(json.dumps(choices), encoding="utf-8")
    settings = load(environ={"CDC_STACK_HOME": str(tmp_path)})
    assert {name: settings.source(name).port for name in settings.sources} == {"crm": 3, "portal": 3, "billing": 4}
    assert settings.control.database == "hub"


MASKING = """
masking:
  default:
    current: v2
    versions: { v1: "${env:OLD_KEY}", v2: "${env:NEW_KEY}" }
"""
KEYS_SET = {"OLD_KEY": "o" * 32, "NEW_KEY": "n" * 32}


def test_masking_keys_are_references_with_versions(tmp_path: Path) -> None:
    path = tmp_path / "connections.yaml"
    path.write_text(FULL + MASKING, encoding="utf-8")
    settings = load(path, KEYS_SET)
    assert (settings.keys.names, settings.keys.versions("default")) == (("default",), ("v1", "v2"))
    assert settings.keys.version("default") == "v2"
    made = {settings.keys.key("default", version, purpose) for version in ("v1", "v2") for purpose in ("a", "b")}
    assert len(made) == 4
    assert settings.keys.key("default", "current", "a") == settings.keys.key("default", "v2", "a")
    assert "o" * 32 not in json.dumps(settings.describe())
    with pytest.raises(Usage, match="NEW_KEY is not set") as raised:
        load(path, {}).keys.key("default", "current", "a")
    assert raised.value.where is not None
    assert raised.value.where.startswith(f"{path}:")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("current: v2", "current: v3", "there is no version 'v3'"),
        ('"${env:OLD_KEY}"', "in clear", "'v1' must be a reference"),
        ("current: v2", "currant: v2", "unknown key"),
    ],
)
def test_mistakes_in_masking_keys(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "connections.yaml"
    path.write_text(FULL + MASKING.replace(old, new), encoding="utf-8")
    with pytest.raises(Usage, match=message):
        load(path, KEYS_SET)
