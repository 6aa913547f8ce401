"""Which blocks of ended weights are wanted again, and how soon."""

from dataclasses import replace
from math import inf

from flashmem_lab.plan.timeline import Pool
from flashmem_lab.program.program import DeviceObject, ObjectKind
from flashmem_lab.runtime.opencl.foresight import AHEAD, Foresight, geometry

WIDE = DeviceObject("", ObjectKind.IMAGE2D, Pool.TEXTURE, 100, 5, 1, "float32")
TALL = replace(WIDE, width=1, height=5)
SMALL = replace(WIDE, bytes=10, width=1)
ORDER = [
    replace(WIDE, name="a"),
    replace(SMALL, name="b"),
    replace(TALL, name="c"),
    replace(WIDE, name="d"),
]
WHOLE = 310


def test_how_soon_a_block_will_do_is_counted_in_bytes_made_until_then() -> None:
    foresight = Foresight(ORDER, room=100)
    assert foresight.until("a", geometry(WIDE), 0) == 0
    assert foresight.until("a", geometry(SMALL), 0) == 100
    assert foresight.until("b", geometry(WIDE), 0) == 110
    assert foresight.until("c", geometry(TALL), 0) == 0


def test_the_next_of_the_same_geometry_serves_later_and_in_the_next_runs() -> None:
    foresight = Foresight(ORDER, room=100)
    assert [foresight.until("a", geometry(WIDE), which) for which in range(4)] == [
        0,
        210,
        WHOLE,
        WHOLE + 210,
    ]
    assert foresight.until("d", geometry(SMALL), 0) == 200
    assert foresight.until("d", geometry(SMALL), 2) == 200 + 2 * WHOLE


def test_what_no_weight_takes_is_never_wanted() -> None:
    assert Foresight(ORDER, room=100).until("a", geometry(replace(WIDE, width=7)), 0) == inf


def test_what_is_soon_goes_by_the_room() -> None:
    assert Foresight(ORDER, room=100).soon == AHEAD * 100


def test_a_live_weight_of_the_same_geometry_ends_sooner_or_later() -> None:
    foresight = Foresight(ORDER, room=100)
    assert not foresight.ends_soon(ORDER[3])
    foresight.began(ORDER[0])
    assert foresight.ends_soon(ORDER[3])
    foresight.ended(ORDER[0])
    assert not foresight.ends_soon(ORDER[3])
