# Two commands matter: `make run` and `make test`. Both set themselves up and need no GPU.
PYTHON ?= python3
SOURCE ?= phantom:640x480@30
FRAMES ?= 150
OUT ?= out
MODEL ?= edge
RUN_VENV := .venv
TEST_VENV := .venv-test
GPU_VENV := .venv-gpu
GPU_EXTRAS ?= gpu,tensorrt
GPU_PYTHON ?=
GPU_BACKEND ?= cuda
BENCH_VENV := .venv-bench
BENCH ?= --model edge --random-weights resnext50@frame --random-weights resnext50@paper --precision fp32 --precision int8 --peers all --scaling --check benchmarks/targets.toml
TESTS ?= tests

# Of `make retrain`: BCSEG_DATA holds busi/ and pretrain/; ENCODER is imagenet, none or a file.
RUNS ?= runs
ENCODER ?= imagenet

.PHONY: run test lint gpu bench bench-readme retrain ship soak clean

run: $(RUN_VENV)/ready  ## set up the runtime (no torch), then segment a moving lesion into out/
	$(RUN_VENV)/bin/bcseg-edge run "$(SOURCE)" --max-frames $(FRAMES) --output $(OUT)

test: $(TEST_VENV)/ready  ## set up everything, then run all tests (BCSEG_DATA names the data, if it is there)
	$(TEST_VENV)/bin/python -m pytest $(TESTS)

lint: $(TEST_VENV)/ready  ## ruff and mypy
	$(TEST_VENV)/bin/ruff check .
	$(TEST_VENV)/bin/ruff format --check .
	$(TEST_VENV)/bin/mypy

gpu: $(if $(GPU_PYTHON),,$(GPU_VENV)/ready)  ## what needs an NVIDIA GPU: its tests (none executed: failure), then the benchmark into out/gpu.json
	$(or $(GPU_PYTHON),$(GPU_VENV)/bin/python) -m pytest -m gpu --must-execute tests/gpu
	mkdir -p $(OUT)
	$(or $(GPU_PYTHON),$(GPU_VENV)/bin/python) -m bcseg_edge bench --backend $(GPU_BACKEND) --frames 1000 --json > $(OUT)/gpu.json
	cat $(OUT)/gpu.json
	if $(or $(GPU_PYTHON),$(GPU_VENV)/bin/python) -c "import tensorrt" 2>/dev/null; then \
	    $(or $(GPU_PYTHON),$(GPU_VENV)/bin/python) -m bcseg_edge build $(MODEL) --output $(OUT)/gpu.engine --frame-size 640x480 && \
	    $(or $(GPU_PYTHON),$(GPU_VENV)/bin/python) -m bcseg_benchmarks.gpu --model $(OUT)/gpu.engine --backend tensorrt --json \
	        > $(OUT)/gpu-tensorrt.json && cat $(OUT)/gpu-tensorrt.json; fi

ship: $(TEST_VENV)/ready  ## derive models/$(MODEL)'s INT8 and FP16 files from its weights; BCSEG_DATA names the folder with busi
	$(TEST_VENV)/bin/python -m bcseg_export.ship --model $(MODEL) --data "$(BCSEG_DATA)/busi" --report $(OUT)/ship/$(MODEL)

bench: $(BENCH_VENV)/ready  ## the README's performance table: models, peers, scaling, into out/bench/ (a quarter of an hour or more on two quiet cores)
	$(BENCH_VENV)/bin/bcseg-edge bench $(BENCH) --report $(OUT)/bench

bench-readme: $(BENCH_VENV)/ready  ## keep out/bench/report.json as the repository's report and write the README's section from it
	mkdir -p benchmarks/reports
	cp $(OUT)/bench/report.json benchmarks/reports/cpu.json
	$(BENCH_VENV)/bin/python -m bcseg_benchmarks.readme

retrain: $(TEST_VENV)/ready  ## train models/$(MODEL) again from BCSEG_DATA (busi/, pretrain/): hours on a CPU, minutes on a GPU
	PATH="$(CURDIR)/$(TEST_VENV)/bin:$$PATH" sh train/retrain.sh $(MODEL) "$${BCSEG_DATA:?names the folder that holds busi and pretrain}" "$(RUNS)" "$(ENCODER)"

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
	$(GPU_VENV)/bin/pip install --quiet --editable ".[$(GPU_EXTRAS)]" pytest hypothesis onnx
	touch $@

$(BENCH_VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/pip install --quiet --editable ".[bench]"
	touch $@

clean:
	rm -rf $(RUN_VENV) $(TEST_VENV) $(GPU_VENV) $(BENCH_VENV) $(OUT)
