# SPDX-License-Identifier: MIT
"""Names that programs of user space give: schemes, and tokens that are hashes."""

from __future__ import annotations

import pytest

from luoser.abi.names import SCHEMES, SYSTEMD, criu_image
from tests.real import ROOT

PAGE = (ROOT / "docs/abi/names.md").read_text()


def hashed(name: str) -> int:
    """As CRIU's pull request has it, in the arithmetic of a u64."""
    made = 0
    for character in name:
        made = (made * 33 + ord(character)) % 2**64
    return made


@pytest.mark.parametrize("name", ["inventory.img", "core-7549.img", "pages-1.img", "pagemap-shmem-12.img"])
@pytest.mark.parametrize("index", [0, 1, 300])
@pytest.mark.parametrize("later", [False, True])
def test_a_token_of_criu_is_the_name_of_an_image(name: str, index: int, later: bool) -> None:
    token = hashed(name) ^ (index << 48) ^ ((index + 1) << 32 if later else 0)
    assert criu_image(token, index, 7549) == name
    assert criu_image(token ^ 1, index, 7549) is None
    assert criu_image(token, index + 1, 7549) is None


def test_an_image_of_another_process_is_not_guessed() -> None:
    assert criu_image(hashed("core-7550.img"), 0, 7549) is None


def test_each_scheme_has_a_source_and_is_on_the_page() -> None:
    for scheme in SCHEMES:
        assert scheme.source and scheme.seen_in and scheme.status in ("released", "posted", "development-branch")
        assert scheme.name in PAGE and all(f"`{token:#x}`" in PAGE for token in scheme.tokens), scheme.name


def test_a_name_has_to_match_whole() -> None:
    assert SYSTEMD.session is not None
    assert SYSTEMD.session.fullmatch("systemd") and not SYSTEMD.session.fullmatch("systemd-2")
