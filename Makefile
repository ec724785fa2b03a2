# make build | test | lint | lit | pytest | test-package | test-wheel | demo | docs |
#      bench | format | clean
#
# Needs Python 3.11 or newer, a C++17 compiler and PyPI; everything else, CMake
# and MLIR included, is installed into a virtual environment of this folder.
# PYTHON=python3.12 chooses the interpreter, MLIR_DIR=<prefix>/lib/cmake/mlir an
# MLIR 22 of your own.

find_python := for p in python3 python3.15 python3.14 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done

ifdef PYTHON
  version := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
  VENV ?= .venv-$(version)
else
  PYTHON := $(shell $(find_python))
  version := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
  VENV ?= .venv
endif

ifneq ($(MAKECMDGOALS),clean)
  ifneq ($(shell $(PYTHON) -c 'import sys; print(sys.version_info >= (3, 11))' 2>/dev/null),True)
    $(error bmgrad needs Python 3.11 or newer$(if $(PYTHON),; $(PYTHON) is $(or $(version),not there)). \
      Name one with make PYTHON=python3.12)
  endif
endif

JOBS ?= 2
build_dir := build/py$(version)
bin := $(VENV)/bin
export PATH := $(abspath $(bin)):$(PATH)

cxx_files = $(shell find dialect passes runtime -name '*.cpp' -o -name '*.h')
# What decides which files the package has (a folder changes when a file moves); the
# contents of C++ files do not.
package_files := pyproject.toml $(shell find CMakeLists.txt cmake dialect passes runtime docs tests/lit \
  -name CMakeLists.txt -o -name '*.cmake' -o -path 'dialect/python/*.py') \
  $(shell find frontend runtime -type d -not -name __pycache__)
pip_mlir := $(if $(MLIR_DIR),--config-settings=cmake.define.MLIR_DIR=$(MLIR_DIR))
pip_build := --config-settings=build-dir=$(build_dir) $(pip_mlir)

.PHONY: build test lint lit pytest test-package test-wheel demo docs bench format clean

# The package stays importable from $(VENV); after C++ changes ninja is enough.
build: $(build_dir)/.installed
	@ninja -C $(build_dir)

test: lint lit pytest test-package

lint: $(VENV)/.dependencies-$(version)
	ruff check
	ruff format --check
	mypy
	clang-format --dry-run -Werror $(cxx_files)

lit: build
	lit -sv $(build_dir)/tests/lit

pytest: build
	pytest -q -n $(JOBS)

# Installs a wheel where nothing else is and runs it from another folder, with no
# compiler in reach. test-package takes the build folder's files; test-wheel lets
# pip make the wheel on its own, as for a user, which compiles everything anew.
wheel_dir = build/$@-py$(version)
define check_wheel
	rm -rf $(wheel_dir)
	mkdir -p $(wheel_dir)/elsewhere
	$(bin)/python -m pip wheel -q --no-deps --wheel-dir $(wheel_dir) . $(1)
	$(bin)/python -m venv $(wheel_dir)/venv
	$(wheel_dir)/venv/bin/python -m pip install -q $(wheel_dir)/*.whl
	cp tests/wheel/check_wheel.py $(wheel_dir)/elsewhere
	cd $(wheel_dir)/elsewhere && env -i PATH=/nonexistent ../venv/bin/python check_wheel.py
endef

test-package: build
	$(call check_wheel,--no-build-isolation $(pip_build))

test-wheel: $(VENV)/.dependencies-$(version)
	$(call check_wheel,$(pip_mlir))

demo: build
	python cmake/requirements.py demo > build/requirements-demo.txt
	python -m pip install -q -r build/requirements-demo.txt
	python examples/train_digits.py

docs: build
	ninja -C $(build_dir) bm-docs

bench: build
	python -m benchmarks --quick

format: $(VENV)/.dependencies-$(version)
	ruff check --fix
	ruff format
	clang-format -i $(cxx_files)

clean:
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/.dependencies-$(version): pyproject.toml cmake/requirements.py
	@test "`$(bin)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null`" = $(version) \
	  || $(PYTHON) -m venv --clear $(VENV)
	@mkdir -p build
	$(bin)/python cmake/requirements.py dev > build/requirements-$(version).txt
	$(bin)/python -m pip install -q -r build/requirements-$(version).txt
	@touch $@

$(build_dir)/.installed: $(VENV)/.dependencies-$(version) $(package_files)
	@echo "Building into $(build_dir); the first time takes minutes."
	$(bin)/python -m pip install -q --no-build-isolation --no-deps $(pip_build) --editable .
	$(bin)/python cmake/link_build_tree.py $(build_dir)
	@touch $@
