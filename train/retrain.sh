#!/bin/sh
# Train a shipped model from scratch: `retrain.sh MODEL DATA RUNS ENCODER`. A run that was stopped goes on where it was.
#   MODEL    edge or resnext50
#   DATA     folder with busi/ and pretrain/ in it
#   RUNS     folder for the runs
#   ENCODER  imagenet (downloads), none, or a file of encoder weights
set -eu
model=$1 data=$2 runs=$3 encoder=$4

resumed() {
    if [ -f "$runs/$1/last.ckpt" ]; then echo --resume; fi
}

pretrained() {  # EPOCHS
    bcseg-edge pretrain --data "$data/pretrain" --output "$runs/pretrain-$model" --model "$model" --epochs "$1" \
        --encoder-weights "$encoder" $(resumed "pretrain-$model")
}

trained() {  # RUN RECIPE EPOCHS SEED
    bcseg-edge train --data "$data/busi" --output "$runs/$1" --model "$model" --recipe "$2" --epochs "$3" --seed "$4" \
        --pretrained "$runs/pretrain-$model/last.ckpt" --other-lesions "$data/pretrain" $(resumed "$1")
}

case $model in
edge)
    pretrained 14
    for seed in 0 1 2; do trained "edge-$seed" finetune 12 "$seed"; done
    bcseg-edge average "$runs/edge-0/best.ckpt" "$runs/edge-1/best.ckpt" "$runs/edge-2/best.ckpt" \
        --data "$data/busi" --output "$runs/edge/best.ckpt"
    ;;
resnext50)
    pretrained 8
    trained resnext50 strong 26 0
    ;;
*)
    echo "no recipe for model '$model': edge or resnext50" >&2
    exit 2
    ;;
esac
bcseg-edge export "$runs/$model/best.ckpt" --output "$runs/$model/$model.onnx" --data "$data/busi"
bcseg-edge evaluate "$runs/$model/$model.onnx" --data "$data/busi" --record --report "$runs/$model/report"
bcseg-edge robustness "$runs/$model/$model.onnx" --data "$data/busi" --other-lesions "$data/pretrain"
