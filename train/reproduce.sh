#!/bin/sh
# Train the paper's models by its recipe and print its Table 3 beside ours: `reproduce.sh DATA RUNS ENCODER EPOCHS MODEL ...`
#   DATA     folder with busi/ in it
#   RUNS     folder for the runs paper-MODEL; one that was stopped goes on where it was
#   ENCODER  imagenet (as the paper; downloads), none, or a file of encoder weights
#   EPOCHS   up to which to train; the paper's are 100
#   MODEL    unet, resnext50, resnext101
set -eu
data=$1 runs=$2 encoder=$3 epochs=$4
shift 4

for model in "$@"; do
    run=$runs/paper-$model
    resume=
    if [ -f "$run/last.ckpt" ]; then resume=--resume; fi
    bcseg-edge train --data "$data/busi" --output "$run" --model "$model" --recipe paper --encoder-weights "$encoder" \
        --stop-after-epochs "$epochs" $resume
    bcseg-edge evaluate "$run/last.ckpt" --data "$data/busi" --report "$run/report"
done
python -m bcseg_train.paper_table "$runs"
