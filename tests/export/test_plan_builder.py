"""What the builder is told, with a stand-in whose names `test_tensorrt_contract` finds in the real TensorRT."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bcseg_edge.passport import Profile
from bcseg_export.plan_builder import BuildError, PlanSettings, build_plan, layer_table

WINDOW_HW = (64, 96)


class FakeTensorRt:
    """Records what it is told.

    Attributes:
        config: what the configuration was set to, by name.
        caches: bytes that a timing cache was made of.
        damaged: bytes that no cache can be made of.
        mismatched: bytes of a cache of another GPU.
    """

    __name__, __version__ = "tensorrt", "10.3.0"
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1, EXPLICIT_BATCH=0)
    BuilderFlag = SimpleNamespace(TF32="TF32", VERSION_COMPATIBLE="VERSION_COMPATIBLE")
    MemoryPoolType = SimpleNamespace(WORKSPACE="WORKSPACE")
    HardwareCompatibilityLevel = SimpleNamespace(AMPERE_PLUS="AMPERE_PLUS")
    ProfilingVerbosity = SimpleNamespace(DETAILED="DETAILED")
    LayerInformationFormat = SimpleNamespace(JSON="JSON")
    Logger = type("Logger", (), {"ERROR": 1, "__init__": lambda self, severity: None})
    IProgressMonitor = type("IProgressMonitor", (), {})

    def __init__(self, damaged=b"damaged", mismatched=b"another GPU's"):
        self.damaged, self.mismatched = damaged, mismatched
        self.config, self.caches, self.flags, self.shapes = {}, [], [], None
        self.plan = b"plan"

    def Builder(self, logger):
        return SimpleNamespace(
            create_network=self._network,
            create_builder_config=self._config,
            create_optimization_profile=lambda: SimpleNamespace(set_shape=self._set_shape),
            build_serialized_network=lambda network, config: self.plan,
        )

    def OnnxParser(self, network, logger):
        return SimpleNamespace(parse=lambda graph: True)

    def Runtime(self, logger):
        table = SimpleNamespace(get_engine_information=lambda kind: f"layers as {kind}")
        engine = SimpleNamespace(create_engine_inspector=lambda: table)
        return SimpleNamespace(deserialize_cuda_engine=lambda plan: engine if plan == self.plan else None)

    def _network(self, flags):
        self.flags.append(flags)
        patches, logits = SimpleNamespace(name="patches"), SimpleNamespace(name="logits")
        return SimpleNamespace(
            num_inputs=1, num_outputs=1, get_input=lambda number: patches, get_output=lambda number: logits
        )

    def _set_shape(self, name, *shapes):
        self.shapes = shapes

    def _config(self):
        fake = self

        class Config:
            def __setattr__(self, name, value):
                fake.config[name] = value

            def set_flag(self, flag):
                fake.config[flag] = True

            def clear_flag(self, flag):
                fake.config[flag] = False

            def set_memory_pool_limit(self, pool, size):
                fake.config[pool] = size

            def add_optimization_profile(self, profile):
                fake.config["profiles"] = 1

            def create_timing_cache(self, earlier):
                fake.caches.append(earlier)
                return None if earlier == fake.damaged else earlier

            def set_timing_cache(self, cache, ignore_mismatch):
                assert not ignore_mismatch
                fake.config["timings"] = cache
                return cache != fake.mismatched

            def get_timing_cache(self):
                return SimpleNamespace(serialize=lambda: b"timings after")

        return Config()


class Silent:
    def start(self, phase, steps):
        pass

    def step(self, phase, step):
        return True

    def finish(self, phase):
        pass


def build(fake, timings=b"", **settings):
    return build_plan(fake, b"graph", PlanSettings(WINDOW_HW, Profile(), **settings), timings, Silent())


def test_the_network_is_strongly_typed_and_float32_is_not_shortened():
    fake = FakeTensorRt()
    assert build(fake).plan == b"plan"
    assert fake.flags == [0b11]
    assert fake.config["TF32"] is False
    assert not {"VERSION_COMPATIBLE", "WORKSPACE", "hardware_compatibility_level"} & fake.config.keys()
    assert fake.config["progress_monitor"] is not None


def test_on_11_there_is_no_flag_for_an_explicit_batch(monkeypatch):
    monkeypatch.setattr(FakeTensorRt, "NetworkDefinitionCreationFlag", SimpleNamespace(STRONGLY_TYPED=1))
    fake = FakeTensorRt()
    build(fake)
    assert fake.flags == [0b10]


@pytest.mark.parametrize(
    ("settings", "name", "value"),
    [
        ({"workspace": 64 << 20}, "WORKSPACE", 64 << 20),
        ({"version_compatible": True}, "VERSION_COMPATIBLE", True),
        ({"hardware_compatible": True}, "hardware_compatibility_level", "AMPERE_PLUS"),
        ({"detailed": True}, "profiling_verbosity", "DETAILED"),
    ],
)
def test_every_switch_reaches_the_builder(settings, name, value):
    fake = FakeTensorRt()
    build(fake, **settings)
    assert fake.config[name] == value


def test_the_profile_is_that_of_the_settings():
    fake = FakeTensorRt()
    settings = PlanSettings(WINDOW_HW, Profile(min_batch=2, opt_batch=4, max_batch=8))
    build_plan(fake, b"graph", settings, b"", Silent())
    assert fake.shapes == ((2, 1, *WINDOW_HW), (4, 1, *WINDOW_HW), (8, 1, *WINDOW_HW))


def test_timings_of_an_earlier_build_are_used_and_new_ones_given():
    fake = FakeTensorRt()
    assert build(fake, b"timings before").timing_cache == b"timings after"
    assert fake.caches == [b"timings before"]
    assert fake.config["timings"] == b"timings before"


@pytest.mark.parametrize("earlier", [b"damaged", b"another GPU's"])
def test_timings_that_do_not_fit_are_made_anew(earlier):
    fake = FakeTensorRt()
    assert build(fake, earlier).timing_cache == b"timings after"
    assert fake.config["timings"] == b""


def test_no_plan_is_an_error_that_says_what_may_help():
    fake = FakeTensorRt()
    fake.plan = None
    with pytest.raises(BuildError, match=r"tensorrt 10\.3\.0 built no plan") as caught:
        build(fake)
    assert "--workspace" in caught.value.hint


def test_the_layer_table_is_the_inspectors():
    fake = FakeTensorRt()
    assert layer_table(fake, b"plan") == "layers as JSON"
    with pytest.raises(BuildError, match="cannot be read back"):
        layer_table(fake, b"another")
