"""What the copy that is compiled differs in: plain stores, and the same fields, defaults and types."""

import ast

from scripts.compile import with_plain_init

MODULE = '''
from dataclasses import dataclass, field
from typing import Annotated


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """A price."""

    value: Annotated[float, "in USD"]
    after: "Price | None" = None
    """The next one."""

    @property
    def twice(self) -> float:
        return self.value * 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Later(Price):
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    seen: dict[str, int] = field(default_factory=dict)
'''


def test_a_frozen_dataclass_gets_an_init_that_stores_its_fields() -> None:
    """Keywords only, in their order, with their defaults; the decorator makes none."""
    price = _classes(with_plain_init(MODULE))["Price"]
    assert "init=False" in ast.unparse(price.decorator_list[0])
    init = next(each for each in price.body if isinstance(each, ast.FunctionDef) and each.name == "__init__")
    assert ast.unparse(init.args) == "self, *, value: 'float', after: 'Price | None'=None"
    assert [ast.unparse(each) for each in init.body] == ["self.value = value", "self.after = after"]


def test_what_a_plain_init_would_not_do_is_left_to_the_generated_one() -> None:
    """A class that inherits, and one whose default is made anew."""
    before, after = _classes(MODULE), _classes(with_plain_init(MODULE))
    for name in ("Later", "Kept"):
        assert ast.unparse(after[name]) == ast.unparse(before[name])


def test_every_class_keeps_the_types_of_its_fields() -> None:
    """Compiled, a class forgets them; codecs and Parquet ask for them."""
    told = [ast.unparse(each) for each in ast.parse(with_plain_init(MODULE)).body if isinstance(each, ast.Expr)]
    assert (
        "setattr(Price, '__annotations__', {'value': \"Annotated[float, 'in USD']\", 'after': 'Price | None'})" in told
    )
    assert "setattr(Later, '__annotations__', {'at_ms': 'int'})" in told


def _classes(source: str) -> dict[str, ast.ClassDef]:
    return {node.name: node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
