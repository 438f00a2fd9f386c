# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest

from luoser.survey.tables import TABLES, empty


@pytest.mark.parametrize("name", TABLES)
def test_names_are_safe_in_sql_and_as_files(name: str) -> None:
    for one in (name, *(column.name for column in TABLES[name].columns)):
        assert one.isidentifier() and one.islower()


@pytest.mark.parametrize("name", TABLES)
def test_columns_have_a_type_and_a_meaning(name: str) -> None:
    columns = TABLES[name].columns
    assert len({column.name for column in columns}) == len(columns)
    assert {column.type for column in columns} <= {"text", "bool", "number", "texts"}
    assert all(column.doc for column in columns) and TABLES[name].doc
    assert set(TABLES[name].key) <= {column.name for column in columns}


def test_an_empty_survey_has_all_tables() -> None:
    first = empty()
    first["hosts"].append({})
    assert empty() == {name: [] for name in TABLES}
