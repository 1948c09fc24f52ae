"""What `convert --profile-validate` and `verify` judge, and what they say where nothing judges or a value overflows."""

import json
import types

import cases
import pytest
import torch

TEXT = "the quick brown fox jumps over the lazy dog, and the rivers run to the sea. " * 30


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A right package, and one of a model whose second MLP leaves fp16."""
    folder = tmp_path_factory.mktemp("gates")
    right, wide = folder / "right", folder / "wide"
    cases.decoder(right, seed=1)
    model = cases.decoder(wide, seed=2, save=False)
    with torch.no_grad():
        mlp = model.model.layers[1].mlp
        mlp.gate_proj.weight *= 200
        mlp.up_proj.weight *= 200
        mlp.down_proj.weight /= 40000
    model.save_pretrained(wide)
    (folder / "text.txt").write_text(TEXT)
    more = ("--prompt-chunk", 32, "--profile-validate")
    package = folder / "right.mlpackage"
    text = ("--text", folder / "text.txt", "--windows", 4, "--format", "json")
    validated = cases.convert(right, package, *more, *text).json()
    broken = cases.convert(wide, folder / "wide.mlpackage", *more, code=3)
    return types.SimpleNamespace(folder=folder, package=package, right=right, wide=wide, validated=validated, broken=broken)


def test_a_decoder_is_judged_by_its_transcripts_logits_and_perplexity(made):
    verdicts = {verdict["gate"]: verdict["outcome"] for verdict in made.validated["verdicts"]}
    assert verdicts == {"perplexity_increase": "pass", "transcripts": "pass", "logits": "pass"}
    assert made.validated["measurements"]["perplexity"]["windows"] == 4


def test_an_overflow_is_named_with_its_function_and_layer(made):
    assert "layer 1 of `init`" in made.broken.err and "elements overflow fp16" in made.broken.err, made.broken.err
    # The package stays, with its manifest, which has no figures.
    manifest = json.loads((made.folder / "wide.manifest.json").read_text())
    assert manifest["verdicts"] == []


def test_a_package_of_other_weights_fails(made):
    prompts = made.folder / "prompts.json"
    prompts.write_text(json.dumps(["the quick", "rivers run to"]))
    against = ("--reference", made.wide, "--prompts", prompts, "--format", "json")
    answer = cases.coremill("verify", made.package, *against, code=1).json()
    [verdict] = answer["verdicts"]
    assert (verdict["gate"], verdict["outcome"]) == ("transcripts", "fail")


def test_nothing_measured_is_not_judged(made):
    outcome = cases.coremill("verify", made.package, "--reference", made.right, code=3)
    assert "not judged" in outcome.out and "no gate judged the package" in outcome.err
