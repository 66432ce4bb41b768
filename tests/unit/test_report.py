"""REPORT is an interface: its schema and two documents stand in golden files.

A change of these files is a change of the interface. Adding a field is one that readers bear; for anything else raise
SCHEMA. To write them anew: UPDATE_EXPECTED=1 pytest tests/unit/test_report.py, then read the diff.
"""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libo2cb.service.report import SCHEMA, O2cbReport, Ocfs2Report, ReportError, dump, parse, utc_text
from protocol import client, framing
from tests.unit import samples

EXPECTED = Path(__file__).parent / "expected"


def golden(name: str, document: object) -> None:
    file = EXPECTED / name
    text = json.dumps(document, indent=1, sort_keys=True) + "\n"
    if os.environ.get("UPDATE_EXPECTED"):
        file.write_text(text, "utf-8")
    assert text == file.read_text("utf-8")


def test_the_schema_is_the_golden_one() -> None:
    kinds = (O2cbReport, Ocfs2Report)
    golden("report-schema.json", {kind.__name__: kind.model_json_schema(mode="serialization") for kind in kinds})


def test_the_documents_are_the_golden_ones() -> None:
    facts = samples.queued()
    assert facts.o2cb is not None
    assert facts.ocfs2 is not None
    golden("report-o2cb.json", json.loads(dump(facts.o2cb)))
    golden("report-ocfs2.json", json.loads(dump(facts.ocfs2)))


def test_golden_documents_are_read_back_as_the_same_reports() -> None:
    facts = samples.queued()
    assert parse((EXPECTED / "report-o2cb.json").read_text("utf-8"), O2cbReport) == facts.o2cb
    assert parse((EXPECTED / "report-ocfs2.json").read_text("utf-8"), Ocfs2Report) == facts.ocfs2


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=600))
def test_a_report_travels_through_records_whatever_its_names(name: str) -> None:
    report = samples.o2cb(local_name=name)
    reader, decoder = client.ListReader(), framing.Decoder()
    items = None
    for record in client.document(dump(report)):
        (text,) = decoder.feed(record)
        items = reader.feed(client.parse(text))
    assert items is not None
    assert parse("".join(items), O2cbReport) == report


def test_bytes_that_are_no_utf8_are_escaped() -> None:
    report = samples.o2cb(local_name=b"n\xff".decode("utf-8", "surrogateescape"))
    assert report.local_name == "n\\xff"
    assert parse(dump(report), O2cbReport) == report


def test_a_field_of_a_later_version_is_passed_over() -> None:
    document = json.loads(dump(samples.o2cb()))
    document["weather"] = "fine"
    document["engine"]["mood"] = 3
    assert parse(json.dumps(document), O2cbReport) == samples.o2cb()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": SCHEMA + 1}, "has schema 2, this program reads 1"),
        ({"schema": None}, "has schema None"),
        ({"pid": "many"}, "wrong at pid"),
        ({"nodes": [{"name": "n1"}]}, "wrong at nodes.0.number"),
        ({"daemon": "ocfs2_controld"}, "wrong at daemon"),
        ({"uptime": float("inf")}, "wrong at uptime"),
    ],
)
def test_what_cannot_be_read_says_where(change: dict[str, object], says: str) -> None:
    document = json.loads(dump(samples.o2cb())) | change
    with pytest.raises(ReportError, match=says.replace("(", r"\(")):
        parse(json.dumps(document), O2cbReport)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 5000])
def test_no_report_at_all(text: str) -> None:
    with pytest.raises(ReportError, match="no JSON"):
        parse(text, O2cbReport)


def test_a_moment_is_utc_with_milliseconds() -> None:
    assert utc_text(1_795_000_000.125) == "2026-11-18T11:06:40.125Z"
