"""The hooks fit the coremltools that is installed, keep placeholders small, and leave nothing behind."""

import coremltools as ct
import numpy as np
import pytest

from coremill import hooks, placeholders
from coremill.errors import Known


def test_nothing_has_moved():
    assert hooks.moved() == [], f"coremltools {ct.__version__}: look at each function, mend its hook, renew its digest"


@pytest.mark.parametrize(
    ("hook", "named"),
    [
        (("coremltools.converters.mil.mil.operation", "Operation.type_value_inference", None, "0"), "source digest"),
        (("coremltools.converters.mil.mil.operation", "Operation.no_such", None, "0"), "Operation.no_such is gone"),
        (("coremltools.no_such", "anything", None, "0"), "coremltools.no_such.anything is gone"),
    ],
)
def test_what_moved_is_named(monkeypatch, hook, named):
    monkeypatch.setattr(hooks, "HOOKS", [hook])
    (found,) = hooks.moved()
    assert named in found


def test_hooks_are_undone():
    def stored():
        found = []
        for module, path, _, _ in hooks.HOOKS:
            owner, name, _ = hooks._locate(module, path)
            found.append(vars(owner)[name])
        return found

    before = stored()
    with pytest.raises(RuntimeError), hooks.placeholders_stay_small():
        assert all(now is not then for now, then in zip(stored(), before))
        raise RuntimeError
    assert all(now is then for now, then in zip(stored(), before))


@pytest.mark.parametrize("identity", [0, 1, 1023, 6143])
@pytest.mark.parametrize("shape", [(16,), (128256, 4096), (1, 5), (3, 1, 7)])
def test_an_id_survives_the_cast(identity, shape):
    value = placeholders.tensor(identity, shape).numpy()
    assert placeholders.is_spread(value) and value.shape == shape
    assert placeholders.identity(value) == identity
    half = np.broadcast_to(value[(0,) * len(shape)].astype(np.float16), shape)
    assert placeholders.identity(half) == identity


@pytest.mark.parametrize("identity", [-1, 6144])
def test_ids_have_an_end(identity):
    with pytest.raises(ValueError, match="beyond"):
        placeholders.tensor(identity, (4,))


@pytest.mark.parametrize("number", [0.0, 1.0, 1 / 3, -0.25])
def test_other_spread_constants_are_no_placeholders(number):
    with pytest.raises(ValueError, match="no placeholder"):
        placeholders.identity(np.broadcast_to(np.float32(number), (8, 8)))


def test_ordinary_arrays_are_not_spread():
    rows = np.broadcast_to(np.arange(4), (4, 4))
    for value in (np.zeros((4, 4)), np.zeros(1), np.zeros((1, 1)), np.float32(3), rows):
        assert not placeholders.is_spread(value)


def test_folding_a_weight_is_refused():
    from coremltools.converters.mil import Builder as mb

    weight = placeholders.tensor(5, (4, 16)).numpy()
    with pytest.raises(Known, match="would fold a weight"), hooks.placeholders_stay_small():

        @mb.program(input_specs=[mb.TensorSpec(shape=(1, 16))])
        def program(x):
            return mb.linear(x=x, weight=mb.transpose(x=mb.const(val=weight.T), perm=[1, 0]))
