"""``mdtool.records``: what the standard library's dataclasses do, they do."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys

import pytest

from mdtool import records
from mdtool.machine.tree import Node


@records.dataclass(frozen=True, slots=True)
class Frozen:
    name: str
    numbers: list[int] = records.field(default_factory=list, hash=False)
    place: str | None = records.field(default=None, compare=False, repr=False)


@records.dataclass(order=True)
class Open:
    first: int
    second: int = 2
    late: int = records.field(default=3, init=False)

    def __post_init__(self) -> None:
        self.sum = self.first + self.second


@records.dataclass(slots=True)
class Counted:
    number: int
    seen: list = records.field(default_factory=list, init=False)


class Named(records.NamedTuple):
    """Said."""

    name: str
    at: int = 0

    def twice(self) -> str:
        return self.name * 2


def test_a_record_is_made_compared_and_shown_as_a_dataclass_is():
    one = Frozen("a", place="b")
    assert one == Frozen("a") and hash(one) == hash(Frozen("a")) and one != Frozen("b") and one != ("a", [], "b")
    assert repr(one) == "Frozen(name='a', numbers=[])"
    assert one.numbers is not Frozen("a").numbers
    assert Open(1).sum == 3 and Open(1).late == 3 and Open(1) < Open(second=1, first=2)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'name'"):
        Frozen()
    with pytest.raises(TypeError, match="unhashable"):
        hash(Open(1))


def test_a_frozen_record_stays_as_it_is():
    one = Frozen("a")
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.name = "b"
    with pytest.raises(dataclasses.FrozenInstanceError):
        del one.name
    assert not hasattr(one, "__dict__")


def test_a_record_is_copied_and_pickled():
    one = Frozen("a", [1], "b")
    for other in (copy.deepcopy(one), pickle.loads(pickle.dumps(one)), records.replace(one)):
        assert other == one and other.place == "b"
    assert records.replace(one, name="c") == dataclasses.replace(one, name="c") == Frozen("c", [1])


@records.dataclass(frozen=True)
class Lonely:
    name: str | None = None


def test_a_record_of_one_field_is_copied_and_pickled_as_well():
    assert pickle.loads(pickle.dumps(Lonely("a"))) == records.replace(Lonely("b"), name="a") == Lonely("a")


def test_a_field_that_is_not_given_is_made_for_each_record():
    assert (one := Counted(1)).seen == [] and one.seen is not Counted(1).seen


def test_a_named_tuple_is_as_the_standard_librarys():
    one = Named("a")
    assert one == ("a", 0) and one.twice() == "aa" and Named.__doc__ == "Said." and repr(one) == "Named(name='a', at=0)"
    assert pickle.loads(pickle.dumps(one)) == one == copy.copy(one) and one._replace(at=1).at == 1
    assert isinstance(one, tuple) and Named._fields == ("name", "at") and Named.__module__ == __name__
    with pytest.raises(TypeError):
        Named()


def test_the_standard_library_takes_a_record_for_a_dataclass():
    assert [one.name for one in dataclasses.fields(Node)][:2] == ["driver", "id"]
    assert dataclasses.asdict(Frozen("a")) == {"name": "a", "numbers": [], "place": None}


def test_records_cost_no_inspection():
    code = "import sys, mdtool.machine.tree; sys.exit('dataclasses' in sys.modules or 'inspect' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
