"""Facts as `lhc-run bench` gathers them, small and made up, for tests of what is made of them."""

from runtime.bench import measure

VERSIONS = dict.fromkeys(("lhc", "python", "numpy", "numba", "llvmlite", "system"), "1.2")


def run(engine, threads, milliseconds, **more):
    """A run of three calls."""
    seconds = [1e-3 * milliseconds * factor for factor in (0.9, 1.0, 1.3)]
    return {
        "engine": engine,
        "threads": threads,
        "streams": 1,
        "version": "3.1",
        "phases_s": {"import": 1.0, "compile": 0.5, "load": 0.25, "plan": 0.125, "first run": 0.0625},
        "memory_bytes": {"import": 40 * 2**20, "loaded": 60 * 2**20, "peak": 64 * 2**20},
        "answer": {"relative_difference": 1e-7, "share_of_bound": 0.1},
        "median_s": seconds[1],
        "low_s": seconds[0],
        "high_s": seconds[2],
        "count": 3,
        "batch_s": seconds[1],
        "images_per_s": 8 / seconds[1],
        "times_s": seconds,
        **more,
    }


def layer(name, density, seconds):
    """A convolution, or a pool where the density is None."""
    macs = 0 if density is None else 1_000_000
    real = 2 * 8 * macs * (density or 0) / seconds / 1e9
    return {
        "layer": name,
        "op": "max_pool" if density is None else "conv2d",
        "shape": [8, 8, 16],
        "out_shape": [8, 8, 32],
        "density": density,
        "macs_nominal": macs,
        "macs_kept": int(macs * (density or 0)),
        "macs_executed": int(macs * (density or 0)),
        "seconds": seconds,
        "dense_seconds": None if density is None else 4e-4,
        "share_of_run": 0.3,
        "real_gflops": real,
        "dense_equivalent_gflops": 2 * 8 * macs / seconds / 1e9,
        "weight_bytes": 1000,
        "moved_bytes": 100_000,
        "kernel": "f32_conv2d",
        "why": "density <low>",
        "least_s": seconds / 2,
        "limited_by": "multiply-adds",
        "share_of_roof": 0.5,
    }


def facts(**more):
    """A whole run: ours and two others on 1 and 2 threads, three layers, one layer shape."""
    runs = [run(name, n, ms / n) for name, ms in (("ours", 4), ("ours-dense", 16), ("torch", 12)) for n in (1, 2)]
    runs[0]["packed_bytes"] = 2 * 2**20
    return {
        "format": 1,
        "file": "nets/a <net>.lhc",
        "command": "lhc-run bench 'nets/a <net>.lhc'",
        "machine": {
            "cpu": "A CPU",
            "cores": 2,
            "threads": 2,
            "vectors": "AVX2",
            "lanes": 8,
            "quota_cores": None,
            "busy_cores": 0.0,
            "busy_cores_meanwhile": 0.0,
            "throttled_s": 0.0,
            "nearest_core_ns": 40.0,
            "farthest_core_ns": 170.5,
            "commit": None,
            **VERSIONS,
        },
        "setup": {
            "engines": ("ours", "ours-dense", "torch"),
            "threads": (1, 2),
            "scenario": "latency",
            "streams": None,
            "time_s": 1.0,
            "warmup_s": 0.5,
            "pin": "none",
            "batch": 8,
            "device": "cpu",
        },
        "model": {"file_bytes": 2**20, "inputs": {}, "outputs": {}, "weights": 1000, "weights_kept": 125},
        "notes": [],
        "failed": {},
        "runs": runs,
        "scaling": measure.scaling_facts(runs),
        "dense_profile": None,
        "profile": {"run_s": 2e-3, "import_s": 1e-4, "export_s": 1e-5, "rest_s": 2e-5, "threads": 2, "repeats": 9},
        "roof": {"threads": 2, "flops": 2e11, "bytes_per_s": [[16384, 2e11], [67108864, 1e10]]},
        "layers": [layer("conv1+relu1", 0.125, 1e-4), layer("pool", None, 2e-5), layer("conv2", 1.0, 4e-4)],
        "break_even": [
            {
                "layers": ["conv1"],
                "kernel": [3, 3, 16, 32],
                "shape": [8, 8, 16],
                "stride": [1, 1],
                "groups": [8, 8],
                "densities": [0.5, 1.0],
                "pool": None,
                "layer_s": [0.8e-4, 1.8e-4],
                "read_s": [1e-4, 2e-4],
                "dense_read_s": {"ours": 2e-4, "torch": 1.5e-4},
                "fastest_dense": "torch",
                "break_even": {"ours": 1.0, "fastest": 0.75},
            }
        ],
        "interrupted": False,
        **more,
    }


def nothing_measured():
    """Interrupted before any time was taken, by an engine that others' failures left alone."""
    untimed = {key: value for key, value in run("ours", 2, 1).items() if not key.endswith("_s") or key == "phases_s"}
    untimed["memory_bytes"] = {"import": 1, "loaded": 2}
    empty = {"runs": [untimed], "scaling": {}, "profile": None, "roof": None, "layers": [], "break_even": []}
    return facts(**empty, failed={"torch": "torch: no luck"}, notes=["left out: torch: no luck"], interrupted=True)
