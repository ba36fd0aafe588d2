"""`regard bench`."""

import json

from commands import refused, regard


def test_bench_prints_and_writes_its_rows(tmp_path):
    out, png = tmp_path / "bench.json", tmp_path / "bench.png"
    result = regard("bench", "--quick", "--models", "vse_infinity", "--dim", 8, "--json", out, "--png", png)
    assert result.code == 0
    assert "| vse_infinity |" in result.out
    (row,) = json.loads(out.read_text())
    assert {
        "model",
        "direction",
        "seconds_per_million_pairs",
        "floor_ratio",
        "floor_ratio_min",
        "products_percent",
        "loop_speedup",
        "peak_mib",
    } <= row.keys()
    assert png.stat().st_size > 1000
    assert "Did you mean 'scan'?" in refused("bench", "--models", "scam")
