# SPDX-License-Identifier: MIT
"""Sources of a kernel with a member elsewhere."""

from __future__ import annotations

import pytest

from tests.e2e.kernels import NoKernel
from tests.e2e.moved import with_moved

SOURCE = """struct other {
	u64 token;
};

struct luo_file_ser {
	char compatible[LIVEUPDATE_HNDL_COMPAT_LENGTH];
	u64 data;
	u64 token;
} __packed;
"""


def test_a_member_becomes_the_first_one() -> None:
    made = with_moved(SOURCE, "luo_file_ser", "token")
    assert made.splitlines()[4:] == [
        "struct luo_file_ser {",
        "\tu64 token;",
        "\tchar compatible[LIVEUPDATE_HNDL_COMPAT_LENGTH];",
        "\tu64 data;",
        "} __packed;",
    ]
    assert made.splitlines()[:4] == SOURCE.splitlines()[:4]


@pytest.mark.parametrize(("struct", "member"), [("luo_file_ser", "size"), ("luo_ser", "token")])
def test_a_member_that_is_not_there(struct: str, member: str) -> None:
    with pytest.raises(NoKernel, match=f"no struct {struct} with {member}"):
        with_moved(SOURCE, struct, member)
