from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from outcrop.storage.database import METADATA
from outcrop.storage.documents import Documents, DocumentTransaction
from outcrop.storage.sqlite import SqliteDatabase


async def test_a_document_comes_back_as_it_was_written(documents: Documents) -> None:
    record = {"agentName": "Ärger 🙂", "n": 1.5, "list": [{"a": None}, True], "big": 2**53}
    await documents.write(lambda docs: docs.put("agent", "A", record))
    assert await documents.read(lambda docs: docs.get("agent", "A")) == record
    assert await documents.read(lambda docs: docs.get("agent", "B")) is None
    assert await documents.read(lambda docs: docs.get("other", "A")) is None


async def test_writing_again_replaces_the_whole_document_its_parent_and_its_name(documents: Documents) -> None:
    await documents.write(lambda docs: docs.put("alias", "1", {"a": 1, "b": 2}, parent="p", name="old"))
    await documents.write(lambda docs: docs.put("alias", "1", {"a": 3}, parent="q", name="new"))
    assert await documents.read(lambda docs: docs.get("alias", "1")) == {"a": 3}
    assert await documents.read(lambda docs: docs.named("alias", "old", parent="p")) is None
    assert await documents.read(lambda docs: docs.named("alias", "new", parent="q")) == {"a": 3}
    assert await documents.read(lambda docs: docs.list("alias", parent="p")) == []


async def test_names_are_found_under_their_parent_only(documents: Documents) -> None:
    def both(docs: DocumentTransaction) -> None:
        docs.put("alias", "1", {"of": "A"}, parent="A", name="PROD")
        docs.put("alias", "2", {"of": "B"}, parent="B", name="PROD")

    await documents.write(both)
    assert await documents.read(lambda docs: docs.named("alias", "PROD", parent="B")) == {"of": "B"}
    assert await documents.read(lambda docs: docs.named("alias", "PROD")) is None


async def test_a_shared_name_means_the_one_unchanged_the_longest(documents: Documents) -> None:
    def three(docs: DocumentTransaction) -> None:
        for n in range(3):
            docs.put("k", str(n), {"n": n}, name="same")
        docs.put("k", "0", {"n": 0}, name="same")

    await documents.write(three)
    assert await documents.read(lambda docs: docs.named("k", "same")) == {"n": 1}
    assert await documents.read(lambda docs: docs.oldest("k")) == ("1", {"n": 1})
    assert await documents.read(lambda docs: docs.oldest("k", parent="elsewhere")) is None


async def test_lists_begin_with_the_last_changed_and_number_the_changes(documents: Documents) -> None:
    def changes(docs: DocumentTransaction) -> None:
        for id in "abca":
            docs.put("k", id, {"id": id}, parent="p")
        docs.put("k", "other", {"id": "other"}, parent="q")

    await documents.write(changes)
    assert await documents.read(lambda docs: docs.numbered("k", parent="p")) == [
        (4, {"id": "a"}),
        (3, {"id": "c"}),
        (2, {"id": "b"}),
    ]
    assert await documents.read(lambda docs: docs.list("k", parent="q")) == [{"id": "other"}]


async def test_the_number_of_a_document_s_last_change_grows_with_each(documents: Documents) -> None:
    numbers: list[int | None] = [await documents.read(lambda docs: docs.changed("k", "a"))]
    for _ in range(2):
        await documents.write(lambda docs: docs.put("k", "a", {}, parent="p"))
        numbers.append(await documents.read(lambda docs: docs.changed("k", "a")))
    assert numbers == [None, 1, 2]


async def test_deleting_says_whether_there_was_anything(documents: Documents) -> None:
    await documents.write(lambda docs: docs.put("k", "a", {}))
    assert await documents.write(lambda docs: docs.delete("k", "a")) is True
    assert await documents.write(lambda docs: docs.delete("k", "a")) is False


async def test_a_work_that_raises_leaves_nothing(documents: Documents) -> None:
    def half(docs: DocumentTransaction) -> None:
        docs.put("k", "a", {})
        raise LookupError

    with pytest.raises(LookupError):
        await documents.write(half)
    assert await documents.read(lambda docs: docs.get("k", "a")) is None


def test_no_question_that_operations_ask_looks_at_every_document() -> None:
    database = SqliteDatabase("sqlite:///:memory:")
    database.once(METADATA.create_all)
    plans: list[str] = []
    with database.engine.connect() as connection:
        docs = DocumentTransaction(connection)
        raw = connection.connection.driver_connection
        assert raw is not None
        statements: list[str] = []
        raw.set_trace_callback(statements.append)
        docs.put("k", "a", {}, parent="p", name="n")
        docs.named("k", "n", parent="p")
        docs.list("k", parent="p")
        docs.oldest("k", parent="p")
        docs.delete("k", "a")
        raw.set_trace_callback(None)
        for statement in statements:
            if statement.split()[0].lower() in {"select", "update", "delete"}:
                rows = connection.execute(text("explain query plan " + statement.replace(":", "\\:")))
                plans += [row[3] for row in rows]
    database.stop()
    assert len(plans) >= 5
    assert [plan for plan in plans if plan.startswith("SCAN") and "CONSTANT" not in plan] == []


_text = st.text(st.characters(exclude_categories=["Cs"]))
_scalar = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
_json = st.recursive(
    _scalar | _text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_text, inner, max_size=4),
    max_leaves=12,
)


@given(record=st.dictionaries(_text, _json, max_size=5))
def test_any_json_object_survives(record: dict[str, object]) -> None:
    database = SqliteDatabase("sqlite:///:memory:")
    database.once(METADATA.create_all)
    with database.engine.connect() as connection:
        docs = DocumentTransaction(connection)
        docs.put("k", "a", record)
        assert docs.get("k", "a") == record
    database.stop()
