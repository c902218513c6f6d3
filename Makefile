# One word per job; each makes .venv when it is missing.
#   make demo     train, export and judge real solar cells; the report is in runs/demo/
#   make test     lint, types, arrows, then the tests that need no camera, fault or whole station
#   make test-all all tests; none needs a GPU
#   make install  only the environment
#   make wheel    the one file that a device needs, in dist/
#   make lock     versions and hashes of what a device installs, in deploy/locked/
PYTHON ?= python3
# For a CPU-only torch: make install TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS := train,export,onnx-cpu,opencv-headless,streams,service,demo,dev
# Tests that mostly compute share the cores, torch on one thread in each; cameras, faults and
# whole stations have them to themselves.
SHARING := $(addprefix tests/,benchmarks contract export training integration/test_install_lines.py \
	integration/test_kill.py integration/test_notebook.py integration/test_python_api.py \
	integration/test_wheel.py runtime/backends runtime/commands runtime/inspection runtime/model_file \
	runtime/teaching runtime/tensorrt test_house.py) \
	$(wildcard tests/runtime/test_*.py)
# These mostly wait: they share the cores too, but take longer than `make test` may.
WAITING := $(addprefix tests/runtime/,config inference models station web)

.PHONY: install wheel lock demo test check format soak test-gpu bench clean

install: $(STAMP)

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (torch is large: minutes on a slow line)"
	@if [ -n "$(TORCH_INDEX)" ]; then $(BIN)/python -m pip install torch torchvision --index-url $(TORCH_INDEX); fi
	$(BIN)/python -m pip install --quiet -e ".[$(EXTRAS)]"
	@touch $(STAMP)

wheel: $(STAMP)
	$(BIN)/python -m build --wheel --no-isolation --outdir dist

lock: $(STAMP)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/python deploy/locked/lock.py

demo: $(STAMP)
	$(BIN)/differnet demo --output runs/demo

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(SHARING)

test-all: check
	@failed=0; \
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(SHARING) $(WAITING) || failed=1; \
	$(BIN)/python -m pytest $(addprefix --ignore=,$(SHARING) $(WAITING)) || failed=1; \
	exit $$failed

soak: $(STAMP)
	$(BIN)/python -m pytest -m slow --timeout 7200

test-gpu: $(STAMP)
	$(BIN)/python -m pytest -m gpu

bench: $(STAMP)
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) dist build runs
