import platform
import threading

import pytest
import torch

import made
from regard import processor, runtime
from regard.files import InputError
from regard.processor import bfloat16_units
from regard.runtime import choose_precision, fast_products, library
from regard.score import score_all
from test_globals import overlap

INTEL = "processor : 0\nvendor_id : GenuineIntel\nflags : fpu avx2 avx512f{}\n\nprocessor : 1\nflags : fpu\n"
AMD = "processor : 0\nvendor_id : AuthenticAMD\nflags : fpu avx2{}\n"
ARM = "processor : 0\nFeatures : fp asimd{}\n"


@pytest.fixture
def cpu(monkeypatch, tmp_path):
    """Return a function that gives this process another CPU, by the text of /proc/cpuinfo."""

    def become(text):
        (tmp_path / "cpuinfo").write_text(text)
        processor.cpu_features.cache_clear()
        runtime._onednn_pays.cache_clear()

    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    yield become
    monkeypatch.undo()
    processor.cpu_features.cache_clear()
    runtime._onednn_pays.cache_clear()


def setting():
    return runtime.ONEDNN.matmul.fp32_precision


def test_products_are_exact_and_the_setting_is_put_back():
    before = setting()
    first, second = torch.randn(64, 1024), torch.randn(1024, 96)
    with fast_products():
        found = first @ second
    wanted = first.double() @ second.double()
    assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max()
    assert setting() == before
    assert library() in ("oneDNN", "torch's default")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (AMD.format(" avx512f"), "oneDNN"),
        (AMD.format(""), "torch's default"),
        (INTEL.format(""), "torch's default"),
        (ARM.format(" bf16"), "torch's default"),
    ],
)
def test_the_library_follows_from_the_processor(text, expected, cpu, monkeypatch):
    """oneDNN where MKL uses half of the processor, and nothing is timed."""
    if bfloat16_units("cpu"):
        monkeypatch.setattr(runtime, "EXACT", 1.0)  # on this processor, oneDNN would use the units
    monkeypatch.setattr("time.perf_counter", None)
    cpu(text)
    assert library() == expected
    before = setting()
    with fast_products():
        assert setting() == ("bf16" if expected == "oneDNN" else before)


def test_a_product_that_is_not_exact_is_not_taken(cpu, monkeypatch):
    """As on a processor with bfloat16 units: here no product is exact enough."""
    monkeypatch.setattr(runtime, "EXACT", -1.0)
    cpu(AMD.format(" avx512f"))
    before = setting()
    assert library() == "torch's default"
    with fast_products():
        assert setting() == before


def test_the_setting_is_put_back_when_two_threads_overlap(monkeypatch):
    monkeypatch.setattr(runtime, "_onednn_pays", lambda: True)
    before = setting()
    assert overlap(fast_products, setting) == ["bf16", "bf16", "bf16", before]


def test_two_threads_that_score_leave_settings_and_threads_as_they_were(monkeypatch):
    monkeypatch.setattr(runtime, "_onednn_pays", lambda: True)
    model = made.model("scan")
    with torch.no_grad():
        images, texts = model.encode_images(made.images()), model.encode_texts(made.texts())
    before, threads, seen = setting(), torch.get_num_threads(), []
    inside, may_leave = ([threading.Event(), threading.Event()] for _ in range(2))

    def score(number):
        def progress(_):
            inside[number].set()
            may_leave[number].wait(60)
            seen.append(setting())

        score_all(model, images, texts, block=(len(images), len(texts)), progress=progress)

    workers = [threading.Thread(target=score, args=(number,)) for number in range(2)]
    for number, worker in enumerate(workers):
        worker.start()
        assert inside[number].wait(60)
    for number, worker in enumerate(workers):
        may_leave[number].set()
        worker.join(60)
    assert set(seen) == {"bf16"}
    assert (setting(), torch.get_num_threads()) == (before, threads)


@pytest.mark.parametrize(
    ("text", "expected", "reason"),
    [
        (INTEL.format(" avx512_bf16 amx_bf16"), "bfloat16", "this processor has AMX instructions"),
        (AMD.format(" avx512f avx512_bf16"), "bfloat16", "this processor has AVX-512 bfloat16 instructions"),
        (ARM.format(" bf16"), "bfloat16", "this processor has Arm bfloat16 instructions"),
        (INTEL.format(""), "float32", "this processor has no bfloat16 instructions"),
        (AMD.format(" avx512f"), "float32", "this processor has no bfloat16 instructions"),
    ],
)
def test_auto_is_bfloat16_where_the_processor_has_it(text, expected, reason, cpu):
    cpu(text)
    assert choose_precision("auto", "cpu") == (expected, f"Precision: {expected} ({reason})")
    assert choose_precision("float32", "cpu")[0] == "float32"
    assert choose_precision("bfloat16", "cpu")[0] == "bfloat16"


def test_features_come_from_torch_where_there_is_no_cpuinfo(cpu, monkeypatch, tmp_path):
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "none")
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: {"bf16": True, "sve": False, "l2_cache_size": 1}, raising=False
    )
    monkeypatch.setattr("platform.processor", lambda: "Intel64 Family 6, GenuineIntel")
    processor.cpu_features.cache_clear()
    features = processor.cpu_features()
    assert {"bf16", "genuineintel"} <= features
    assert not features & {"sve", "l2_cache_size"}


def test_auto_asks_the_gpu_for_units_and_not_for_emulation(monkeypatch):
    for native in (True, False):
        monkeypatch.setattr(
            torch.cuda,
            "is_bf16_supported",
            lambda including_emulation=True, native=native: including_emulation or native,
        )
        assert choose_precision("auto", "cuda")[0] == ("bfloat16" if native else "float32")


def test_tf32_is_allowed_on_cuda_alone_and_taken_back():
    before = torch.backends.cuda.matmul.fp32_precision
    allowed = overlap(lambda: fast_products("tf32", "cuda"), lambda: torch.backends.cuda.matmul.fp32_precision)
    assert allowed == ["tf32", "tf32", "tf32", before]
    for refuse in (lambda: choose_precision("tf32", "cpu"), lambda: fast_products("tf32", "cpu")):
        with pytest.raises(InputError, match="The precision tf32 requires a CUDA device, not cpu: use float32 or auto"):
            refuse()


def test_the_name_of_the_cpu_is_the_one_of_the_system(cpu):
    cpu("processor\t: 0\nmodel name\t: Example 9B45: 2.0 GHz\nflags\t: avx2\n")
    assert processor.cpu_name() == "Example 9B45: 2.0 GHz"
    cpu(ARM)  # which gives no name
    assert processor.cpu_name() == (platform.processor() or platform.machine())
