# Two commands matter: `make run` and `make test`. Both set themselves up and need no GPU.
PYTHON ?= python3
SOURCE ?= phantom:640x480@30
FRAMES ?= 150
OUT ?= out
MODEL ?= edge
RUN_VENV := .venv
TEST_VENV := .venv-test
GPU_VENV := .venv-gpu
GPU_EXTRAS ?= gpu,tensorrt,train
GPU_PYTHON ?=
GPU_BACKENDS ?= cuda tensorrt
GPU_MODELS ?= --model edge --random-weights resnext50 --precision fp32 --precision fp16
GPU_PEERS ?= pytorch-eager-loop,pytorch-channels-last,torch-compile,monai-sliding-window,onnxruntime-cuda-alone
GPU_RUN = $(or $(GPU_PYTHON),$(GPU_VENV)/bin/python)
BENCH_VENV := .venv-bench
BENCH ?= --model edge --model resnext50@frame --random-weights resnext50@paper --precision fp32 --precision int8 --peers all --scaling --check benchmarks/targets.toml
TESTS ?= tests
JOBS ?= auto  # test processes, a core each but no more than four; 0: in make's own, for a debugger

# Of `make retrain` and `make paper`: BCSEG_DATA holds busi/ and pretrain/; ENCODER is imagenet, none or a file.
RUNS ?= runs
ENCODER ?= imagenet
PAPER_MODELS ?= unet resnext50 resnext101
EPOCHS ?= 100

.PHONY: run test lint gpu bench bench-readme retrain paper ship soak clean

run: $(RUN_VENV)/ready  ## set up the runtime (no torch), then segment a moving lesion into out/
	$(RUN_VENV)/bin/bcseg-edge run "$(SOURCE)" --max-frames $(FRAMES) --output $(OUT)

test: $(TEST_VENV)/ready  ## set up everything, then run all tests (BCSEG_DATA names the data, if it is there)
	$(TEST_VENV)/bin/python -m pytest --numprocesses $(strip $(JOBS)) --maxprocesses 4 --dist loadfile $(TESTS)

lint: $(TEST_VENV)/ready  ## ruff and mypy
	$(TEST_VENV)/bin/ruff check .
	$(TEST_VENV)/bin/ruff format --check .
	$(TEST_VENV)/bin/mypy

# Nothing is installed where GPU_PYTHON names an environment. Backends that are not there are named and left out; none at all: failure.
# What fails does not keep the rest from being measured: a GPU is rare; the exit code tells at the end.
gpu: $(if $(GPU_PYTHON),,$(GPU_VENV)/ready)  ## what needs an NVIDIA GPU: its tests (none executed: failure), then frame path and peers into out/gpu/
	mkdir -p $(OUT)/gpu
	$(GPU_RUN) -m bcseg_edge doctor --json > $(OUT)/gpu/doctor.json || true
	failed=0; measured=; \
	$(GPU_RUN) -m pytest -m gpu --must-execute tests/gpu || failed=1; \
	for backend in $(GPU_BACKENDS); do \
	    $(GPU_RUN) -m bcseg_benchmarks.backend_there $$backend || continue; \
	    file=$(OUT)/gpu/frame-path-$$backend.json; measured="$$measured $$backend"; \
	    $(GPU_RUN) -m bcseg_benchmarks.gpu --backend $$backend $(GPU_MODELS) --json > $$file.part || failed=1; \
	    if test -s $$file.part; then mv $$file.part $$file; cat $$file; else rm -f $$file.part; fi; \
	done; \
	if $(GPU_RUN) -m bcseg_benchmarks.backend_there cuda; then \
	    $(GPU_RUN) -m bcseg_edge bench --backend cuda $(GPU_MODELS) --peers $(GPU_PEERS) --report $(OUT)/gpu || failed=1; fi; \
	test -n "$$measured" || { echo "no backend for a GPU: nothing was measured" >&2; exit 1; }; exit $$failed

ship: $(TEST_VENV)/ready  ## derive models/$(MODEL)'s INT8 and FP16 files from its weights; BCSEG_DATA names the folder with busi
	$(TEST_VENV)/bin/python -m bcseg_export.ship --model $(MODEL) --data "$(BCSEG_DATA)/busi" --report $(OUT)/ship/$(MODEL)

bench: $(BENCH_VENV)/ready  ## the README's performance table: models, peers, scaling, into out/bench/ (a quarter of an hour or more on two quiet cores)
	$(BENCH_VENV)/bin/bcseg-edge bench $(BENCH) --report $(OUT)/bench || test $$? -eq 3  # 3: a target missed, which the report says

bench-readme: $(BENCH_VENV)/ready  ## keep out/bench/report.json as the repository's report and write the README's section from it
	mkdir -p benchmarks/reports
	cp $(OUT)/bench/report.json benchmarks/reports/cpu.json
	$(BENCH_VENV)/bin/python -m bcseg_benchmarks.readme

retrain: $(TEST_VENV)/ready  ## train models/$(MODEL) again from BCSEG_DATA (busi/, pretrain/): hours on a CPU, minutes on a GPU
	PATH="$(CURDIR)/$(TEST_VENV)/bin:$$PATH" sh train/retrain.sh $(MODEL) "$${BCSEG_DATA:?names the folder that holds busi and pretrain}" "$(RUNS)" "$(ENCODER)"

paper: $(TEST_VENV)/ready  ## train the paper's models by its recipe to EPOCHS (a stopped run goes on), print its Table 3 beside ours
	PATH="$(CURDIR)/$(TEST_VENV)/bin:$$PATH" sh train/reproduce.sh "$${BCSEG_DATA:?names the folder that holds busi}" "$(RUNS)" "$(ENCODER)" "$(EPOCHS)" $(PAPER_MODELS)

soak: $(TEST_VENV)/ready  ## half an hour of live phantom with injected faults: memory flat, ledger exact, or exit 1
	$(TEST_VENV)/bin/python -m bcseg_benchmarks.soak $(SOAK)

$(RUN_VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(RUN_VENV)
	$(RUN_VENV)/bin/pip install --quiet --editable ".[cpu]"
	touch $@

$(TEST_VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(TEST_VENV)
	$(TEST_VENV)/bin/pip install --quiet --editable ".[dev]"
	touch $@

$(GPU_VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(GPU_VENV)
	$(GPU_VENV)/bin/pip install --quiet --editable ".[$(GPU_EXTRAS)]" "monai>=1.5" "onnxscript>=0.7" pytest hypothesis
	touch $@

$(BENCH_VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/pip install --quiet --editable ".[bench]"
	touch $@

clean:
	rm -rf $(RUN_VENV) $(TEST_VENV) $(GPU_VENV) $(BENCH_VENV) $(OUT)
