"""Pre-training on the ultrasound of other organs: what a scan line, a shadow and an outline look like."""

from __future__ import annotations

import dataclasses

from bcseg_train.models import find_spec
from bcseg_train.pretraining_sets import CLASSES, hold_out, read_pretraining_sets
from bcseg_train.resume import checkpoint_to_resume
from bcseg_train.train import TrainingData, TrainOptions, TrainResult, fit, recipe_of


def pretrain(options: TrainOptions) -> TrainResult:
    """Teach a network to tell thyroid nodules, nerves and vessels, and fetal heads from background.

    Args:
        options: `data` is the folder of the pre-training sets; `train` takes the checkpoint as `pretrained`.

    Raises:
        DataError: as `train` does, and where the folder has no index.
    """
    spec = dataclasses.replace(find_spec(options.model), lesion_class_head=False)
    recipe = recipe_of(options)
    checkpoint = checkpoint_to_resume(options.output, options.resume, spec, recipe)
    training, validation = hold_out(read_pretraining_sets(options.data), options.seed)
    data = TrainingData(training, validation, classes=CLASSES).thinned(options.max_images)
    return fit(options, spec, recipe, data, checkpoint)
