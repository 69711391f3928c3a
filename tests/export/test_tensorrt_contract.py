"""Every name of TensorRT that our code touches exists in the real bindings of each version that we support.

What the code touches is read from its source: `trt.X.Y` as it stands, and the attributes of the variables that hold
TensorRT's objects, which have the same name everywhere.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import bcseg_edge.backends.tensorrt as executor_module
from bcseg_export import plan_builder
from tests.fixtures.tensorrt_bindings import WHEELS, bindings_folder

CLASSES = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "config": "IBuilderConfig",
    "parser": "OnnxParser",
    "error": "ParserError",
    "profile": "IOptimizationProfile",
    "cache": "ITimingCache",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "runtime": "Runtime",
    "inspector": "EngineInspector",
    "tensor": "ITensor",
}
RTX_ONLY = {
    "ComputeCapability",
    "ComputeCapability.__members__",
    "IBuilderConfig.num_compute_capabilities",
    "IBuilderConfig.set_compute_capability",
}
# Arguments that we pass by name, or whose order a method of ours has to keep.
SIGNATURES = {
    "IBuilderConfig.set_timing_cache": ["cache", "ignore_mismatch"],
    "IBuilderConfig.set_memory_pool_limit": ["pool", "pool_size"],
    "Builder.build_serialized_network": ["network", "config"],
    "IOptimizationProfile.set_shape": ["input", "min", "opt", "max"],
    "ICudaEngine.get_tensor_profile_shape": ["name", "profile_index"],
    "IExecutionContext.set_input_shape": ["name", "shape"],
    "IExecutionContext.set_tensor_address": ["name", "memory"],
    "IExecutionContext.execute_async_v3": ["stream_handle"],
    "IProgressMonitor.phase_start": ["phase_name", "parent_phase", "num_steps"],
    "IProgressMonitor.step_complete": ["phase_name", "step"],
    "IProgressMonitor.phase_finish": ["phase_name"],
}
LOOK = """
import importlib, json, re, sys
module = importlib.import_module(sys.argv[1])
names, signatures = json.load(sys.stdin)

def find(name):
    found = module
    for part in name.split("."):
        found = getattr(found, part)
    return found

def missing(name):
    try:
        find(name)
    except AttributeError:
        return True
    return False

def overloads(name):
    lines = (find(name).__doc__ or "").splitlines()
    return [re.findall(r"(\\w+):", line)[1:] for line in lines if name.split(".")[-1] + "(self" in line]

print(json.dumps({
    "version": module.__version__,
    "missing": [name for name in names if missing(name)],
    "signatures": {name: overloads(name) for name in signatures if not missing(name)},
}))
"""


def touched(path: str) -> set[str]:
    """Dotted names below the module that the source at `path` uses."""
    names = set()
    for node in ast.walk(ast.parse(Path(path).read_text())):
        chain = _chain(node) if isinstance(node, ast.Attribute) else []
        if chain[:1] == ["self"]:
            chain = [chain[1].lstrip("_"), *chain[2:]]
        if chain[:1] == ["trt"] and chain[1] not in ("__version__", "__name__"):
            names.add(".".join(chain[1:]))
        elif chain and chain[0] in CLASSES and len(chain) > 1:
            names.add(".".join((CLASSES[chain[0]], *chain[1:])))
    return names


def _chain(node: ast.expr) -> list[str]:
    if isinstance(node, ast.Attribute):
        below = _chain(node.value)
        return [*below, node.attr] if below else []
    return [node.id] if isinstance(node, ast.Name) else []


def contract() -> set[str]:
    return touched(plan_builder.__file__) | touched(executor_module.__file__)


def look(module: str, names: set[str], folder: Path) -> dict:
    paths = {"PYTHONPATH": str(folder), "LD_LIBRARY_PATH": str(folder)}
    process = subprocess.run(
        [sys.executable, "-c", LOOK, module],
        input=json.dumps([sorted(names), SIGNATURES]),
        env={**os.environ, **paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def test_the_contract_is_read_from_the_source():
    assert contract() >= {
        "BuilderFlag.TF32",
        "NetworkDefinitionCreationFlag.STRONGLY_TYPED",
        "IProgressMonitor",
        "IBuilderConfig.progress_monitor",
        "OnnxParser.parse",
        "ICudaEngine.create_execution_context",
        "IExecutionContext.execute_async_v3",
        "Runtime.deserialize_cuda_engine",
        "EngineInspector.get_engine_information",
        "ITimingCache.serialize",
        "ParserError.desc",
        "nptype",
    }


@pytest.mark.parametrize("wheel", WHEELS)
def test_every_name_and_signature_is_in_the_real_bindings(wheel):
    found = look("tensorrt_bindings", contract() - RTX_ONLY, bindings_folder(wheel))
    assert found["version"].startswith(wheel.partition("==")[2])
    assert found["missing"] == []
    assert {name for name, wanted in SIGNATURES.items() if wanted not in found["signatures"][name]} == set()


def test_a_name_that_is_gone_would_be_found():
    """What 11.0 removed is missed there and there only: the test above can fail."""
    gone = {"BuilderFlag.FP16", "NetworkDefinitionCreationFlag.EXPLICIT_BATCH", "IInt8EntropyCalibrator2"}
    assert look("tensorrt_bindings", gone, bindings_folder(WHEELS[0]))["missing"] == []
    assert set(look("tensorrt_bindings", gone, bindings_folder(WHEELS[-1]))["missing"]) == gone


def test_tensorrt_rtx_has_them_too():
    rtx = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    found = look("tensorrt_rtx", contract(), Path(rtx.__file__).parents[1])
    assert found["missing"] == []
