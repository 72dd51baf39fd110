"""Which nets, batches, threads and engines the benchmarks measure that time engines beside each other."""

from collections.abc import Iterator

from benchmarks import floors
from benchmarks.environments import ENVIRONMENT_OF
from benchmarks.measuring import Case, How

EVERY_ENGINE = ("ours", *ENVIRONMENT_OF)
DENSITIES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1)
GROUPS = ((1, 1), (1, 8), (8, 1), (4, 4), (8, 8), (16, 16), (32, 16), (16, 32), (64, 64))
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
NET = "vgg16_cifar"
SPARSE_NET = "vgg16_cifar_d0.1"
FAMILIES = ("densenet40_cifar", "mobilenet2_imagenet", "efficientnet0_imagenet", "unet")


def speed(how: How) -> Iterator[Case]:
    """The nets whose speed is held to limits, against DeepSparse and the fastest dense engine."""
    for problem, batch in [(SPARSE_NET, 17), (SPARSE_NET, 1)] if how.toy else floors.SPEED:
        yield Case(problem, batch, how.threads, EVERY_ENGINE)


def density(how: How) -> Iterator[Case]:
    """How much of a net has to be missing before it is faster."""
    for value in DENSITIES[1::8] if how.toy else DENSITIES:
        yield Case(
            f"{NET}_d{value:g}", 4 if how.toy else 64, how.threads, ("ours", "deepsparse", *floors.DENSE_ENGINES[:2])
        )


def groups(how: How) -> Iterator[Case]:
    """What it costs that fewer channels share a pattern."""
    for group_in, group_out in GROUPS[:1] if how.toy else GROUPS:
        for size in (4,) if how.toy else (64, 1):
            yield Case(f"{SPARSE_NET}_g{group_in}x{group_out}", size, how.threads, ("ours", "deepsparse"))


def patterns(how: How) -> Iterator[Case]:
    """Other kinds of sparsity, and the other nets."""
    kinds = ("2of4", "1of4", "hetconv4", "hetconv8", "unstructured_d0.1")
    names = [f"{NET}_{kind}" for kind in kinds] + ["vgg19_cifar_d0.1", "resnet50_cifar_d0.1"]
    for problem in names[2:3] if how.toy else names:
        for size in (4,) if how.toy else (64, 1):
            yield Case(problem, size, how.threads, ("ours", "deepsparse", "onnxruntime"))


def batch(how: How) -> Iterator[Case]:
    """How the time grows with the batch."""
    for value in (3,) if how.toy else BATCHES:
        yield Case(SPARSE_NET, value, how.threads, ("ours", "deepsparse", "onnxruntime"))


def threads(how: How) -> Iterator[Case]:
    """What more cores bring."""
    counts = sorted({1, 2, *(2**n for n in range(2, 10) if 2**n < how.threads), how.threads})
    for size in (4,) if how.toy else (64, 16, 1):
        for count in (1, 2) if how.toy else (c for c in counts if c <= how.threads):
            yield Case(SPARSE_NET, size, count, ("ours", "deepsparse", "onnxruntime"))


def dense(how: How) -> Iterator[Case]:
    """Nets and layers that have all their weights: stems, shortcuts, and nets that were never pruned."""
    cases = [
        ("vgg16_cifar_d1", 64),
        ("vgg16_cifar_d1", 1),
        ("resnet34_cifar_d1", 64),
        ("resnet34_cifar_d1", 1),
        ("conv_3x64_k3s1_32_d1", 64),
        ("conv_3x64_k7s2_224_d1", 8),
        ("conv_256x512_k1s2_56_d1", 8),
    ]
    for problem, size in cases[4:5] if how.toy else cases:
        yield Case(problem, min(size, 4) if how.toy else size, how.threads, ("ours", *floors.DENSE_ENGINES[:3]))


def families(how: How) -> Iterator[Case]:
    """Nets other than VGG and ResNet, pruned and with all their weights."""
    kinds = (("d0.2_g16x8", 16), ("d0.2_g16x8", 1), ("d1", 1))
    cases = [(f"{net}_{pattern}", size) for net in FAMILIES for pattern, size in kinds]
    engines = ("ours", "deepsparse", *floors.DENSE_ENGINES[:2])
    for problem, size in [("efficientnet0_imagenet_d0.5_g4x4", 3), ("unet_d1", 1)] if how.toy else cases:
        yield Case(problem, size, how.threads, engines, may_refuse=("deepsparse",))


def memory(how: How) -> Iterator[Case]:
    """Resident memory of each engine."""
    yield Case(floors.MEMORY[0], 4 if how.toy else floors.MEMORY[1], how.threads, ("ours", *ENVIRONMENT_OF))
