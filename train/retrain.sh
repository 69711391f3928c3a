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

pretrain() {  # EPOCHS
    bcseg-edge pretrain --data "$data/pretrain" --output "$runs/pretrain-$model" --model "$model" --epochs "$1" \
        --encoder-weights "$encoder" $(resumed "pretrain-$model")
}

train() {  # RECIPE, further options
    recipe=$1
    shift
    bcseg-edge train --data "$data/busi" --output "$runs/$model" --model "$model" --recipe "$recipe" "$@" \
        --pretrained "$runs/pretrain-$model/last.ckpt" --other-lesions "$data/pretrain" $(resumed "$model")
}

case $model in
edge)
    pretrain 14
    train strong --stop-after-epochs 22
    ;;
resnext50)
    pretrain 8
    train strong-scratch
    ;;
*)
    echo "no recipe for model '$model': edge or resnext50" >&2
    exit 2
    ;;
esac
bcseg-edge export "$runs/$model/best.ckpt" --output "$runs/$model/$model.onnx" --data "$data/busi"
bcseg-edge evaluate "$runs/$model/$model.onnx" --data "$data/busi" --record --report "$runs/$model/report"
bcseg-edge robustness "$runs/$model/$model.onnx" --data "$data/busi" --other-lesions "$data/pretrain"
