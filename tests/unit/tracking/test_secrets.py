"""No token and no password in a text that leaves the process."""

from __future__ import annotations

import logging

import pytest

from tracking.secrets import (
    RedactingFormatter,
    forget_secrets,
    holds_token,
    holds_userinfo,
    redact,
    redact_forms,
    redacted,
)

TOKEN = "hf_" + "aB3" * 11 + "z"
"""Of the length and letters of a real one."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"token {TOKEN} refused", "token *** refused"),
        (f"hf_oauth_{TOKEN[3:]}", "***"),
        ("Authorization: Bearer xyz.abc", "Authorization: Bearer ***"),
        ("Authorization: Basic bWU6cHc=", "Authorization: Basic ***"),
        ("https://me:word@host/x?X-Amz-Signature=abc&y=1", "https://***@host/x?X-Amz-Signature=***&y=1"),
        ("https://host/f?Signature=abc", "https://host/f?Signature=***"),
        ("postgresql://ann:wo@rd/x@host/db and more", "postgresql://***@host/db and more"),
        (f"https://{TOKEN}@host/", "https://***@host/"),
        ("https://user@host/", "https://***@host/"),
        ("host=db user=ann password=wo'rd", "host=db user=ann password=***'rd"),
        ("https://x?token=abc&y=1", "https://x?token=***&y=1"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str, expected: str) -> None:
    assert redact_forms(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "hf_home and hf_hub and org/hf_transformers",
        "sqlite:////tmp/a@b/mlflow.db",
        "hf://org/name@0123abc",
        "startline:/0123",
        "mail me@host",
        "http://127.0.0.1:5000/api",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact_forms(text) == text


def test_what_the_environment_holds_is_hidden_whatever_its_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "a-token-of-another-form")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "a-token-of")
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", "short")
    assert redact("a-token-of-another-form, a-token-of, short") == "***, ***, short"
    assert redact_forms("a-token-of-another-form") == "a-token-of-another-form"
    assert holds_token("x a-token-of-another-form") and not holds_token("a-token-of")


def test_nested_values_are_redacted() -> None:
    assert redacted({"a": [f"x {TOKEN}", 1, None], "b": {"c": "s3://k:s@b"}}) == {
        "a": ["x ***", 1, None],
        "b": {"c": "s3://***@b"},
    }


def test_forms_are_told_apart() -> None:
    assert holds_token(f"org/{TOKEN}") and not holds_token("org/hf_transformers")
    assert holds_userinfo("https://me:pw@host") and not holds_userinfo("https://host/a@b")


def test_logs_and_their_tracebacks_are_redacted() -> None:
    try:
        raise ValueError(f"refused {TOKEN}")
    except ValueError:
        import sys

        record = logging.LogRecord(
            "x", logging.ERROR, "f", 1, "asked %s", (f"https://me:pw@host {TOKEN}",), sys.exc_info()
        )
    text = RedactingFormatter("%(levelname)s %(message)s").format(record)
    assert TOKEN not in text and "pw" not in text and "ValueError: refused ***" in text


def test_a_worker_forgets_what_it_does_not_need() -> None:
    environment = {"HF_TOKEN": TOKEN, "MLFLOW_TRACKING_PASSWORD": "x", "RAY_AUTH_TOKEN": "needed", "PATH": "/bin"}
    forget_secrets(environment)
    assert environment == {"RAY_AUTH_TOKEN": "needed", "PATH": "/bin"}
