from dataclasses import replace

import pytest

from cesar.engines.hardware import Hardware, choose
from cesar.errors import DeviceUnavailable

GIB = 2**30
TINY, BASE, LARGE = 75 * 2**20, 145 * 2**20, 3 * GIB
KINDS = {"cpu": frozenset({"int8", "float32"}), "cuda": frozenset({"float16", "int8_float16", "float32"})}


def machine(*, cores: int = 2, cards: int = 0, free: int = 16 * GIB, on_card: int = 0) -> Hardware:
    kinds = KINDS if cards else {"cpu": KINDS["cpu"]}
    return Hardware(cores, cards, kinds, {"cpu": free, "cuda": on_card})


def auto(hardware: Hardware, model_bytes: int, workers: int | None = None):
    return choose(hardware, device="auto", compute_type="auto", workers=workers, model_bytes=model_bytes)


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (2, 2), (6, 6), (64, 8)])
def test_a_worker_for_each_core_and_a_thread_for_each_worker(cores, workers):
    plan = auto(machine(cores=cores), BASE)
    assert (plan.workers, plan.threads_per_worker, plan.compute_type) == (workers, 1, "int8")


@pytest.mark.parametrize(
    ("model", "free", "batch_size"), [(TINY, 16 * GIB, 8), (BASE, 2 * GIB, 8), (LARGE, 16 * GIB, 5), (LARGE, GIB, 1)]
)
def test_batches_are_as_large_as_memory_allows(model, free, batch_size):
    assert auto(machine(free=free), model).batch_size == batch_size


def test_more_workers_share_the_memory():
    assert auto(machine(free=16 * GIB), LARGE, workers=8).batch_size == 1


def test_a_card_is_taken_where_there_is_one():
    plan = auto(machine(cards=1, on_card=24 * GIB), LARGE)
    assert (plan.device, plan.compute_type, plan.workers, plan.batch_size) == ("cuda", "float16", 1, 32)


@pytest.mark.parametrize(
    ("has_int8_products", "cards", "compute_type", "own_decoder"),
    [(True, 0, "int8", True), (False, 0, "int8", False), (True, 0, "float32", False), (True, 1, "int8_float16", False)],
)
def test_the_decoder_of_our_own_is_for_int8_on_a_processor_that_is_good_at_it(
    has_int8_products, cards, compute_type, own_decoder
):
    hardware = replace(machine(cards=cards), has_int8_products=has_int8_products)
    plan = choose(hardware, device="auto", compute_type=compute_type, workers=None, model_bytes=BASE)
    assert plan.own_decoder is own_decoder


def test_a_small_card_gets_small_batches():
    assert auto(machine(cards=1, on_card=7 * GIB), LARGE).batch_size == 2


@pytest.mark.parametrize(("device", "compute_type"), [("cuda", "auto"), ("cpu", "float16")])
def test_what_is_not_there_is_refused(device, compute_type):
    with pytest.raises(DeviceUnavailable):
        choose(machine(), device=device, compute_type=compute_type, workers=None, model_bytes=BASE)
