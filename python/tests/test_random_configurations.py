"""One random configuration of every family; `random_configurations.py` tries more."""

import pytest
import random_configurations as configurations

# Seeds with both forms of the cache, both generations of configuration files, windows and rotary types among them.
SAMPLE = {"llama": 0, "mistral": 4, "qwen2": 38, "qwen3": 4, "gpt2": 7, "gpt_neo": 11, "bert": 7}


@pytest.mark.parametrize("family", configurations.FAMILIES)
def test_a_random_configuration_is_computed_as_transformers_does(family, tmp_path):
    configurations.check(family, SAMPLE[family], tmp_path)


def test_the_draws_are_varied():
    """Every option that a configuration may have is drawn within a few seeds."""
    drawn = [configurations.draw("qwen3", seed) for seed in range(40)]
    assert {d["generation"] for d in drawn} == {4, 5} and {d["cache"] for d in drawn} == {"state", "io"}
    ropes = {d["config"]["rope_parameters"]["rope_type"] for d in drawn}
    assert ropes == {"default", "linear", "llama3", "yarn"}
    assert any("layer_types" in d["config"] for d in drawn)
