# SPDX-License-Identifier: MIT
"""Parsers of a Kaitai description: its own compiler where there is one, and a small interpreter of what luoser uses.

The compiler is looked for on the PATH (`kaitai-struct-compiler`), then as a module of Node.js (NODE_PATH, or
`npm install --prefix build kaitai-struct-compiler`). What it makes needs kaitaistruct.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import CodeType, SimpleNamespace
from typing import Any

from tests.real import ROOT

__all__ = ["Parse", "compiled", "interpreted", "why_not"]

Json = dict[str, Any]
Parse = Callable[[str, bytes], Any]
"""(types, outermost first, with dots; bytes) to an object with the members as attributes."""

_DRIVER = """
const fs = require("fs"), compiler = require("kaitai-struct-compiler");
compiler.compile("python", JSON.parse(fs.readFileSync(process.argv[1])), null, false)
  .then(files => { for (const name in files) fs.writeFileSync(process.argv[2] + "/" + name, files[name]); })
  .catch(error => { console.error(String(error)); process.exit(1); });
"""
_MODULES = os.pathsep.join(
    filter(None, [os.environ.get("NODE_PATH"), *(str(ROOT / place / "node_modules") for place in ("build", "."))])
)
_NODE_ENV = {**os.environ, "NODE_PATH": _MODULES}


def why_not() -> str:
    """Why nothing can be compiled. Empty: it can."""
    if importlib.util.find_spec("kaitaistruct") is None:
        return "kaitaistruct is not installed"
    if shutil.which("kaitai-struct-compiler"):
        return ""
    node = shutil.which("node")
    found = node and subprocess.run(
        [node, "-e", 'require.resolve("kaitai-struct-compiler")'], env=_NODE_ENV, capture_output=True, check=False
    )
    return "" if found and found.returncode == 0 else "kaitai-struct-compiler is not installed"


def compiled(text: str, document: Json, place: Path) -> Parse:
    """What the compiler of Kaitai makes of a description. document: the same as objects."""
    name = document["meta"]["id"]
    if own := shutil.which("kaitai-struct-compiler"):
        (place / f"{name}.ksy").write_text(text)
        command = [own, "-t", "python", "-d", str(place), str(place / f"{name}.ksy")]
    else:
        (place / f"{name}.json").write_text(json.dumps(document))
        command = ["node", "-e", _DRIVER, str(place / f"{name}.json"), str(place)]
    done = subprocess.run(command, env=_NODE_ENV, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    spec = importlib.util.spec_from_file_location(name, place / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def parse(path: str, data: bytes) -> Any:
        from kaitaistruct import KaitaiStream

        made = getattr(module, _camel(name))
        for part in filter(None, path.split(".")):
            made = getattr(made, _camel(part))
        return made(KaitaiStream(io.BytesIO(data)))

    return parse


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def interpreted(document: Json) -> Parse:
    """What the description says, read as Kaitai's rules have it. Raises EOFError where the bytes end too early."""

    def parse(path: str, data: bytes) -> Any:
        scopes = [document]
        for part in filter(None, path.split(".")):
            scopes.append(scopes[-1]["types"][part])
        return _object(scopes, _Stream(data))

    return parse


class _Stream:
    def __init__(self, data: bytes) -> None:
        self.data, self.pos, self.bits, self.left = data, 0, 0, 0

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def eof(self) -> bool:
        return self.pos >= len(self.data)

    def take(self, size: int) -> bytes:
        assert not self.left, "bit-fields that do not fill their bytes"
        if self.pos + size > len(self.data):
            raise EOFError(f"expected {size} bytes at {self.pos}, found {len(self.data) - self.pos}")
        self.pos += size
        return self.data[self.pos - size : self.pos]

    def take_bits(self, width: int) -> int:
        """Bits, least significant first."""
        while self.left < width:
            left, self.left = self.left, 0
            self.bits |= self.take(1)[0] << left
            self.left = left + 8
        value, self.bits, self.left = self.bits & (1 << width) - 1, self.bits >> width, self.left - width
        return value


def _object(scopes: list[Json], stream: _Stream) -> SimpleNamespace:
    made = SimpleNamespace()
    for item in scopes[-1].get("seq", []):
        if "if" in item and not _value(item["if"], made, stream):
            continue
        value = _item(scopes, item, made, stream)
        if "id" in item:
            setattr(made, item["id"], value)
    for name, item in scopes[-1].get("instances", {}).items():
        if "value" in item:
            value = _value(item["value"], made, stream)
        else:
            other = _Stream(stream.data)
            other.pos = _value(item["pos"], made, stream)
            value = _item(scopes, item, made, other)
        setattr(made, name, value)
    return made


def _item(scopes: list[Json], item: Json, made: SimpleNamespace, stream: _Stream) -> Any:
    return _one(scopes, item, made, stream) if "repeat" not in item else list(_many(scopes, item, made, stream))


def _many(scopes: list[Json], item: Json, made: SimpleNamespace, stream: _Stream) -> Iterator[Any]:
    if item["repeat"] == "expr":
        for _ in range(_value(item["repeat-expr"], made, stream)):
            yield _one(scopes, item, made, stream)
        return
    index = 0
    while item["repeat"] == "until" or not stream.eof:
        value = _one(scopes, item, made, stream)
        yield value
        if "repeat-until" in item and _value(item["repeat-until"], made, stream, _=value, _index=index):
            return
        index += 1


def _one(scopes: list[Json], item: Json, made: SimpleNamespace, stream: _Stream) -> Any:
    kind = item.get("type")
    if "contents" in item:
        found = stream.take(len(item["contents"]))
        assert list(found) == item["contents"]
        return found
    if isinstance(kind, str) and (number := re.fullmatch(r"([us])([1248])(be)?", kind)):
        return int.from_bytes(stream.take(int(number[2])), "big" if number[3] else "little", signed=number[1] == "s")
    if isinstance(kind, str) and (width := re.fullmatch(r"b(\d+)", kind)):
        return stream.take_bits(int(width[1]))
    if kind == "strz" and "size" not in item:
        return stream.take(stream.data.index(0, stream.pos) - stream.pos + 1)[:-1].decode(item["encoding"])
    if item.get("size-eos"):
        return stream.take(stream.size - stream.pos)
    if "size" in item:
        raw = stream.take(_value(str(item["size"]), made, stream))
        if kind == "strz":
            return raw.split(b"\0")[0].decode(item["encoding"])
        return raw if kind is None else _object(_scope(scopes, kind), _Stream(raw))
    return _object(_scope(scopes, kind or ""), stream)


def _scope(scopes: list[Json], name: str) -> list[Json]:
    """The scopes of a type: looked for in the inner types first."""
    for depth in range(len(scopes), 0, -1):
        if name in scopes[depth - 1].get("types", {}):
            return [*scopes[:depth], scopes[depth - 1]["types"][name]]
    raise LookupError(name)


def _value(expression: str, made: SimpleNamespace, stream: _Stream, **more: Any) -> Any:
    """An expression of Kaitai: Python's, with C's conditional and a division of integers."""
    return eval(_code(expression), {"__builtins__": {}}, {**vars(made), "_io": stream, **more})


@cache
def _code(expression: str) -> CodeType:
    text = re.sub(r"^(.*) \? (.*) : (.*)$", r"(\2) if (\1) else (\3)", expression).replace(" / ", " // ")
    return compile(text, expression, "eval")
