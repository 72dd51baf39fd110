"""Faults in optimizer, schedule, selection of epochs, checkpoints, nets and export."""

from tests.meta.mutants import Mutant

OPTIM = ("tests/lhc_ref/test_optim.py",)
SCHEDULE = ("tests/lhc_ref/test_schedule.py",)
TRAINING_TESTS = ("tests/lhc_ref/test_training.py",)
TRAJECTORIES = ("tests/lhc_ref/test_trajectories.py",)
LAYERS = ("tests/lhc_ref/test_layers.py",)
NETS = ("tests/lhc_ref/test_nets.py",)
SURVIVORS = ("tests/lhc_ref/test_survivors.py",)
CHECKPOINT = ("tests/lhc_ref/test_checkpoint.py",)
TAPE = ("tests/lhc_ref/test_tape.py",)
GRADCHECK = ("tests/lhc_ref/test_gradcheck.py",)

TRAINING = (
    # --- Steps ----------------------------------------------------------------------------------------------------
    Mutant(
        "momentum-without-nesterov", "lhc_ref/optim.py",
        "weight += self.momentum * velocity - step", "weight += velocity", OPTIM, quick=True,
    ),
    Mutant(
        "rate-outside-the-velocity", "lhc_ref/optim.py",
        "weight += self.momentum * velocity - step", "weight += rate * (self.momentum * velocity - gradient)", OPTIM,
    ),
    Mutant(
        "trajectory-without-nesterov", "lhc_ref/optim.py",
        "weight += self.momentum * velocity - step", "weight += velocity", TRAJECTORIES,
    ),
    Mutant(
        "warm-up-one-epoch-early", "lhc_ref/schedule.py",
        "epoch / enable_epochs", "(epoch + 1) / enable_epochs", SCHEDULE,
    ),
    Mutant(
        "regularizer-in-the-first-epoch", "lhc_ref/schedule.py",
        "epoch == 0", "epoch < 0", SCHEDULE, within="strength",
    ),
    Mutant(
        "ramp-without-an-end", "lhc_ref/schedule.py",
        "min(epoch, ramp_epochs)", "epoch", SCHEDULE, within="strength",
    ),
    Mutant(
        "base-strength-by-the-smaller-side", "lhc_ref/schedule.py",
        "max(1.0 - target_density, target_density)", "min(1.0 - target_density, target_density)", SCHEDULE,
    ),
    Mutant(
        "first-epoch-at-the-full-rate", "lhc_ref/schedule.py",
        "self.first if epoch == 0 else 1.0", "1.0", SCHEDULE,
    ),
    Mutant(
        "plateau-counts-equal-as-better", "lhc_ref/schedule.py",
        "accuracy > best", "accuracy >= best", SCHEDULE, within="_plateau",
    ),
    Mutant(
        "enabled-drawn-in-the-fine-stage", "lhc_ref/training.py",
        'self.progress.stage == "coarse"', "True", TRAINING_TESTS, within="_begin_epoch",
    ),
    Mutant(
        "regularizer-left-out-of-the-loss", "lhc_ref/training.py",
        "apply(ops.add, loss, apply(ops.scale, penalty, factor=strength))", "loss", TRAINING_TESTS,
    ),
    Mutant(
        "images-without-their-labels", "lhc_ref/batches.py",
        'self._dataset.y["train"][chosen]', 'self._dataset.y["train"][start : start + len(chosen)]', TRAINING_TESTS,
    ),
    Mutant(
        "last-epoch-taken-for-the-best", "lhc_ref/training.py",
        "before is None or merit(record, config) > merit(before, config)", "True", TRAINING_TESTS,
    ),
    Mutant(
        "masks-not-frozen-in-the-fine-stage", "lhc_ref/training.py",
        "self.net.freeze_masks()", "pass", TRAINING_TESTS, within="_end_stage",
    ),
    Mutant(
        "accuracy-before-enabled", "lhc_ref/selection.py",
        'record["all_enabled"]', "True", TRAINING_TESTS, within="merit",
    ),
    Mutant(
        "density-limit-ignored", "lhc_ref/selection.py",
        'max(0.0, record["density"] - density_limit(config))', "0.0", TRAINING_TESTS,
    ),
    Mutant(
        "captured-state-ahead-of-its-step", "lhc_ref/batches.py",
        "copy.deepcopy(batch.rng)", "batch.rng", TRAINING_TESTS,
    ),
    Mutant(
        "nested-channels-drawn-anew", "lhc_ref/schedule.py",
        "np.random.default_rng([seed, 2, layer])",
        "np.random.default_rng([seed, 2, layer, epoch])", SCHEDULE,
    ),
    Mutant(
        "flip-upside-down", "lhc_ref/augment.py",
        "x[:, :, ::-1]", "x[:, ::-1]", ("tests/lhc_ref/test_augment.py",),
    ),
    Mutant(
        "cifar-channels-last", "lhc_ref/data_files.py",
        "whole[:, 1:].reshape(-1, *CIFAR_SHAPE).transpose(0, 2, 3, 1)", "whole[:, 1:].reshape(-1, 32, 32, 3)",
        ("tests/lhc_ref/test_data_files.py",),
    ),
    # --- What a checkpoint holds -------------------------------------------------------------------------------------
    Mutant(
        "checkpoint-without-enabled", "lhc_ref/training.py",
        'self.net.load(part("weights", arrays), part("state", arrays))',
        'self.net.load(part("weights", arrays), self.net.state)', TRAINING_TESTS,
    ),
    Mutant(
        "checkpoint-without-random-state", "lhc_ref/batches.py",
        "self.order, self.rng.bit_generator.state = order, rng_state", "self.order = order", TRAINING_TESTS,
    ),
    Mutant(
        "checkpoint-without-the-order-of-images", "lhc_ref/batches.py",
        "self.order, self.rng.bit_generator.state = order, rng_state", "self.rng.bit_generator.state = rng_state",
        TRAINING_TESTS,
    ),
    Mutant(
        "checkpoint-without-velocity", "lhc_ref/training.py",
        'self.optimizer.velocity, self.best, self.progress = velocity, part("best", arrays), progress',
        'self.best, self.progress = part("best", arrays), progress', TRAINING_TESTS,
    ),
    Mutant(
        "checkpoint-without-the-best-so-far", "lhc_ref/training.py",
        'self.optimizer.velocity, self.best, self.progress = velocity, part("best", arrays), progress',
        'self.optimizer.velocity, self.progress = velocity, progress', SURVIVORS,
    ),
    Mutant(
        "checkpoint-damage-unnoticed", "lhc_ref/checkpoint.py",
        'metadata.get("fingerprint") != _fingerprint(arrays, text)', "False", CHECKPOINT,
    ),
    # --- Layers and nets ---------------------------------------------------------------------------------------------
    Mutant(
        "running-statistics-weighted-wrongly", "lhc_ref/norm.py",
        "keep * old_mean + (1 - keep) * mean", "(1 - keep) * old_mean + keep * mean", LAYERS,
    ),
    Mutant(
        "batch-norm-predicts-with-the-batch", "lhc_ref/layers.py",
        "ops.batch_norm_inference(x, gamma, beta, *running)", "ops.batch_norm(x, gamma, beta)", LAYERS,
    ),
    Mutant(
        "he-normal-not-cut", "lhc_ref/layers.py",
        "abs(values) > 2.0", "abs(values) > 1e9", LAYERS,
    ),
    Mutant(
        "scores-fan-in-by-channels", "lhc_ref/layers.py",
        "int(np.prod(choices)) * gi", "int(np.prod(choices)) * c_in", LAYERS,
    ),
    Mutant(
        "freezing-forgets-enabled", "lhc_ref/nets.py",
        'layer.state["enabled"][...] = True', "pass", NETS, within="freeze_masks",
    ),
    Mutant(
        "tape-keeps-the-last-cotangent-alone", "lhc_ref/tape.py",
        "cotangents[index] + cotangent if index in cotangents else cotangent", "cotangent", TAPE,
    ),
    Mutant(
        "gradcheck-accepts-anything-undecided", "lhc_ref/gradcheck.py",
        'verdict = "undecided"', 'verdict = "ok"', GRADCHECK,
    ),
    Mutant(
        "gradcheck-budget-a-million-times-too-wide", "lhc_ref/gradcheck.py",
        "abs(analytic - numeric) <= budget", "abs(analytic - numeric) <= 1e6 * budget", GRADCHECK,
    ),
)  # fmt: skip
