#!/bin/sh
# Train models/edge from scratch: `retrain_edge.sh DATA RUNS ENCODER`. A run that was stopped goes on where it was.
#   DATA     folder with busi/ and pretrain/ in it
#   RUNS     folder for the runs
#   ENCODER  imagenet (downloads), none, or a file of encoder weights
set -eu
data=$1 runs=$2 encoder=$3

resumed() {
    if [ -f "$runs/$1/last.ckpt" ]; then echo --resume; fi
}

bcseg-edge pretrain --data "$data/pretrain" --output "$runs/pretrain-edge" --model edge \
    --encoder-weights "$encoder" $(resumed pretrain-edge)
bcseg-edge train --data "$data/busi" --output "$runs/edge" --model edge --recipe strong --stop-after-epochs 22 \
    --pretrained "$runs/pretrain-edge/last.ckpt" --other-lesions "$data/pretrain" $(resumed edge)
bcseg-edge export "$runs/edge/best.ckpt" --output "$runs/edge/edge.onnx" --data "$data/busi"
bcseg-edge evaluate "$runs/edge/edge.onnx" --data "$data/busi" --record --report "$runs/edge/report"
bcseg-edge robustness "$runs/edge/edge.onnx" --data "$data/busi" --other-lesions "$data/pretrain"
