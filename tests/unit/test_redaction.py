"""cryossl.redaction: of an address scheme, host, port and database are shown, of secrets nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typed_commands import call

from cryossl import redaction
from cryossl.errors import ConfigError
from cryossl.machine.tracking_store import check_tracking
from cryossl.redaction import redacted, remember, shown
from cryossl.tracking.address import store_name, store_uri
from cryossl.tracking.store.views import AXES, page

PROJECT = Path(__file__).resolve().parents[2]
SECRET = "hunter2"
COMMANDS = (("compare",), ("runs",), ("run", "--dry-run"), ("sync",), ("doctor",))
PLANTED = [
    "http://me:hunter2@127.0.0.1:9",
    "http://127.0.0.1:9/?password=hunter2",
    "http://127.0.0.1:9?token=hunter2",
    "http://127.0.0.1:9/#hunter2",
    "http://127.0.0.1:9/base/hunter2",
    "http://me:hun/hunter2@127.0.0.1:9",
    "http://me:1/hunter2@127.0.0.1:9",
    "http://me:hun?hunter2@127.0.0.1:9",
    "http://me:hun#hunter2@127.0.0.1:9",
    "http://me:hun@hunter2@127.0.0.1:9",
    "http://me:hun%40hunter2@127.0.0.1:9",
    "http://127.0.0.1:hunter2",
    "http://hunter2 127.0.0.1:9",
    "me:hunter2@127.0.0.1:9",
    "//me:hunter2@127.0.0.1:9",
    "http:me:hunter2@127.0.0.1:9",
    "http:/me:hunter2@127.0.0.1:9",
    "http:\\\\me:hunter2@127.0.0.1:9",
    "127.0.0.1:9?token=hunter2",
    "postgresql://me:hunter2@127.0.0.1:9/db",
    "postgresql://127.0.0.1:9/db?password=hunter2",
    "postgresql://127.0.0.1:9/db?sslmode=require&sslkey=hunter2&sslpassword=hunter2",
    "postgresql://me:1/hunter2@127.0.0.1:9/db",
    "postgresql://127.0.0.1:nine:hunter2/db",
    "mysql+pymysql://me:hunter2@127.0.0.1:9/db?ssl_key=hunter2",
    "mssql+pyodbc://me:hunter2@127.0.0.1:9/db?driver=x",
    "sqlite:///mlflow.db?password=hunter2",
    "sqlite://me:hunter2@/mlflow.db",
    "s3://me:hunter2@bucket/a",
    "databricks://hunter2@",
]


@pytest.fixture(autouse=True, scope="module")
def nothing_known() -> Iterator[None]:
    """What these tests remember is hidden in them alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redaction, "_known", set())
        yield


def is_taken(uri: str) -> bool:
    try:
        store_uri(uri)
    except ConfigError:
        return False
    return True


@pytest.mark.parametrize("uri", PLANTED)
def test_an_address_is_shown_without_its_secrets(uri: str) -> None:
    assert SECRET not in shown(uri)
    assert SECRET not in store_name(uri)
    if " " not in uri:
        remember(uri)
        assert SECRET not in redacted(f"no answer of ('{uri}'); again")


@pytest.mark.parametrize("uri", [uri for uri in PLANTED if not is_taken(uri)])
@pytest.mark.parametrize("place", ["option", "environment"])
def test_an_address_with_a_secret_in_the_wrong_place_is_refused_and_not_repeated(
    place: str, uri: str, monkeypatch
) -> None:
    if place == "environment":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    for command in COMMANDS:
        done = call(*command, *(("--tracking-uri", uri) if place == "option" else ()))
        assert (done.code, done.err.count("\n"), "is no tracking address" in done.err) == (
            2,
            1,
            True,
        )
        assert SECRET not in done.out + done.err, command


@pytest.mark.parametrize("uri", [uri for uri in PLANTED if is_taken(uri) and ":9" in uri])
def test_commands_of_a_store_that_is_away_print_and_leave_no_secret(
    uri: str, monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    done = call("compare", "--tracking-uri", uri)
    assert SECRET not in done.out + done.err
    assert SECRET not in str(check_tracking(store_uri(uri)))
    assert list(tmp_path.rglob("*hunter*")) == []


@pytest.mark.parametrize(
    ("uri", "seen"),
    [
        ("http://me:pw@host:5000/base/?x=y", "http://host:5000"),
        ("https://[::1]:5000", "https://[::1]:5000"),
        ("postgresql+psycopg://me:pw@host:5432/db?a=b", "postgresql+psycopg://host:5432/db"),
        ("sqlite:////data/a @b/mlflow.db", "sqlite:////data/a @b/mlflow.db"),
        ("file:///data/runs", "file:///data/runs"),
        ("databricks", "databricks"),
        ("s3://bucket/key", "s3://bucket"),
    ],
)
def test_what_is_shown_of_an_address(uri: str, seen: str) -> None:
    assert shown(uri) == seen


def test_stores_that_are_shown_alike_have_names_of_their_own_that_outlast_a_new_password() -> None:
    names = {store_name(f"http://me:{pw}@host/{base}") for pw in ("a", "b") for base in ("x", "y")}
    assert len(names) == 2
    assert store_name("http://host:5000") == "http://host:5000"


@given(secret=st.text(min_size=8, max_size=20).filter(lambda text: text.strip() == text))
def test_whatever_a_password_holds_it_is_not_shown_once_it_is_known(secret: str) -> None:
    uri = f"postgresql://me:{secret}@host/db"
    remember(uri)
    text = redacted(f"FATAL: no {uri} and no {secret!r} and no ({secret})")
    assert secret not in text


def test_a_page_of_the_views_keeps_its_query_and_no_other_address_does() -> None:
    link = page("http://127.0.0.1:5000", "1", AXES)
    assert redacted(f"see {link}", paths=True) == f"see {link}"
    for other in (f"{link}&token=hunter2", link.replace("CHART", SECRET), f"{link}/hunter2"):
        assert SECRET not in redacted(other, paths=True)
    assert SECRET not in redacted(link.replace("//", f"//me:{SECRET}@", 1), paths=True)


def test_secrets_of_the_environment_are_hidden_in_any_text(monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "hunter2-of-the-token")
    assert redacted("Bearer hunter2-of-the-token was refused") == "Bearer *** was refused"


@pytest.mark.parametrize("uri", ["http://h/?token=hunter2", "me:hunter2@h", "http://h:hunter2"])
def test_a_refused_address_is_not_repeated_and_the_line_says_what_is_wrong(uri: str) -> None:
    with pytest.raises(ConfigError, match="is no tracking address: it") as caught:
        store_uri(uri)
    assert SECRET not in str(caught.value)


def test_words_that_no_command_takes_are_repeated_without_secrets() -> None:
    done = call("compare", "http://me:hunter2@host/?token=hunter2")
    assert (done.code, SECRET in done.err) == (2, False)


def test_a_traceback_has_none_either() -> None:
    code = (
        "import cli, sys\n"
        "from cryossl.tracking.address import store_uri\n"
        "def broken(): store_uri('postgresql://me:hunter2@host/db?sslkey=hunter2-key')\n"
        "cli.main = lambda: (broken(), exec('raise ValueError(\"hunter2 and hunter2-key\")'))\n"
        "cli.program()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert "ValueError: *** and ***" in done.stderr
    assert SECRET not in done.stderr
