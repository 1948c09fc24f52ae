//! Poured weights against PEFT's merge, against themselves cut up, and against what cannot be poured.

use std::path::{Path, PathBuf};

use half::f16;
use proptest::prelude::*;

use super::*;
use crate::source::dtype;
use crate::source::fixture;
use crate::source::safetensors::Tensors;

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/source/goldens")
}

fn open(base: &Path, adapters: &[&Path]) -> Weights {
    let adapters: Vec<_> = adapters.iter().map(|dir| Adapter::open(dir).unwrap()).collect();
    let n_chat = adapters.len();
    Weights::new(Checkpoint::open(base).unwrap(), adapters, n_chat).unwrap()
}

fn request<'a>(tensor: &'a str, adapters: &'a [usize], out: Float) -> WeightRequest<'a> {
    WeightRequest { tensor, transpose: false, adapters, out }
}

fn bytes(weights: &Weights, request: &WeightRequest<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let sink = &mut |bytes: &[u8]| {
        out.extend_from_slice(bytes);
        Ok(())
    };
    weights.stream(request, sink).unwrap();
    out
}

fn values(weights: &Weights, request: &WeightRequest<'_>) -> Vec<f32> {
    let bytes = bytes(weights, request);
    let mut out = vec![0.0; bytes.len() / request.out.size()];
    let stored = match request.out {
        Float::F16 => dtype::Dtype::F16,
        Float::F32 => dtype::Dtype::F32,
    };
    dtype::decode(stored, &bytes, &mut out);
    out
}

/// The f16 numbers between two values: 0 for equal ones, 1 for neighbours.
fn f16_steps(a: f32, b: f32) -> i32 {
    let place = |x: f32| {
        let bits = i32::from(f16::from_f32(x).to_bits());
        if bits & 0x8000 == 0 { bits } else { 0x8000 - bits }
    };
    (place(a) - place(b)).abs()
}

/// A base of the goldens with one of its adapters, and what the adapter's initialisation takes out.
fn golden(case: &str, base: &str) -> Weights {
    let dir = goldens().join(case);
    let mut weights = open(&goldens().join(base), &[&dir]);
    for pair in weights.pairs_to_initialize(0, &[]).unwrap() {
        let module = weights.fit(0).unwrap().branches()[pair].module.clone();
        weights.set_initial_product(0, pair, &dir.join(format!("{module}.initial_product")));
    }
    weights
}

#[test]
fn merging_is_what_peft_computes() {
    let cases = [
        ("lora", "llama", 4 + 2),
        ("biases", "llama", 2 + 8),
        ("rslora", "llama", 4),
        ("dora", "llama", 4),
        ("dora_embedding", "tied", 2),
        ("saved", "tied", 2 + 2 + 1),
        ("saved_tied", "tied", 2 + 2),
        ("saved_embedding", "tied", 2 + 1),
        ("embedding", "tied", 1 + 2),
        ("embedding_tied", "tied", 2),
        ("head", "tied", 1),
        ("conv1d", "gpt2", 3 + 1),
        ("conv1d_dora", "gpt2", 1),
        ("bare", "llama", 2),
        ("tokens", "tied", 2 + 2),
        ("tokens_untied", "llama", 2 + 2),
        ("tokens_apart", "tied", 2 + 2),
        ("tokens_head", "tied", 2 + 1),
        ("lora_bias", "tied", 2 + 2 + 2),
        ("lora_bias_added", "llama", 2 + 2),
        ("replicated", "llama", 1 + 4 * 13 + 2),
        ("resized", "llama", 2 + 2),
        ("resized_tied", "tied", 2 + 2),
        ("parameters", "tied", 1 + 2),
        ("parameters_conv1d", "gpt2", 1),
        ("pissa", "tied", 2 + 2),
        ("pissa_conv1d", "gpt2", 1),
        ("pissa_dora", "llama", 2),
        ("olora", "tied", 2 + 2),
        ("mica", "llama", 2),
    ];
    for (case, base, n_changed) in cases {
        let weights = golden(case, base);
        let merged =
            Tensors::open_file(&goldens().join(format!("{case}.merged.safetensors"))).unwrap();
        let model_type = &weights.checkpoint().config().model_type;
        let prefix = if model_type == "gpt2" { "transformer" } else { "model" };
        assert!(merged.iter().count() >= n_changed, "{case}: {}", merged.iter().count());
        // Every weight of the model: those PEFT changed, and the others as they were.
        for (stored, entry) in weights.checkpoint().tensors().iter() {
            let spelled = [
                stored.to_owned(),
                stored.replacen(&format!("{prefix}."), "", 1),
                format!("{prefix}.{stored}"),
            ];
            if !spelled.iter().any(|name| merged.get(name).is_some()) {
                let want = weights.checkpoint().tensors().read_f32(stored).unwrap();
                check(&weights, case, stored, &entry.shape, &want);
            }
        }
        for (name, entry) in merged.iter() {
            check(&weights, case, name, &entry.shape, &merged.read_f32(name).unwrap());
        }
    }
}

#[test]
fn adapters_say_what_they_change_about_the_model() {
    let cases = [
        ("lora", "llama", None, None, false, 0),
        ("saved", "tied", None, None, true, 0),
        ("saved_tied", "tied", None, None, false, 0),
        ("embedding", "tied", None, None, true, 0),
        ("tokens", "tied", None, None, false, 0),
        ("tokens_apart", "tied", None, None, true, 0),
        ("lora_bias", "tied", None, None, true, 3),
        ("lora_bias_added", "llama", None, None, false, 0),
        ("replicated", "llama", None, Some(vec![0, 1, 1, 0]), false, 0),
        ("resized", "llama", Some(27), None, false, 0),
        ("resized_tied", "tied", Some(27), None, true, 0),
    ];
    for (case, base, vocab_size, layers, untied, n_biases) in cases {
        let changes = golden(case, base).changes(&[0]).unwrap();
        assert_eq!(changes.vocab_size, vocab_size, "{case}");
        assert_eq!(changes.layers, layers, "{case}");
        assert_eq!((changes.untied, changes.biases.len()), (untied, n_biases), "{case}");
    }
}

fn check(weights: &Weights, case: &str, name: &str, shape: &[usize], want: &[f32]) {
    assert_eq!(weights.shape(&request(name, &[0], Float::F16)).unwrap(), shape, "{case} {name}");
    let got = values(weights, &request(name, &[0], Float::F16));
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(want) {
        assert!(f16_steps(*got, *want) <= 1, "{case} {name}: {got} is not {want}");
    }
    let got = values(weights, &request(name, &[0], Float::F32));
    for (got, want) in got.iter().zip(want) {
        // Sums of at most 16 terms below 4, each rounded once.
        assert!((got - want).abs() <= 64.0 * f32::EPSILON, "{case} {name}: {got} is not {want}");
    }
}

#[test]
fn without_adapters_the_stored_weight_comes_out() {
    let weights = open(&goldens().join("llama"), &[&goldens().join("lora")]);
    for (name, _) in weights.checkpoint().tensors().iter() {
        let stored = weights.checkpoint().tensors().read(name).unwrap();
        assert_eq!(bytes(&weights, &request(name, &[], Float::F32)), stored.bytes, "{name}");
    }
}

#[test]
fn equal_weights_have_one_identity() {
    let tied = open(&goldens().join("tied"), &[&goldens().join("saved"), &goldens().join("head")]);
    let identity = |name, adapters| tied.identity(&request(name, adapters, Float::F16)).unwrap();
    let (head, embedding) = ("lm_head.weight", "model.embed_tokens.weight");
    let cases: [(&[usize], bool); 4] =
        [(&[], true), (&[1], false), (&[0], false), (&[0, 1], false)];
    for (adapters, equal) in cases {
        let same = identity(head, adapters) == identity(embedding, adapters);
        assert_eq!(same, equal, "{adapters:?}");
        let [a, b] = [head, embedding].map(|n| bytes(&tied, &request(n, adapters, Float::F16)));
        assert_eq!(a == b, equal, "{adapters:?}");
    }
    assert_eq!(identity(embedding, &[]), identity("embed_tokens.weight", &[]));
    // PEFT saves the base's head beside the pair, from where both modules of the tied pair are then taken.
    let [before, after] = [&[][..], &[1]].map(|a| bytes(&tied, &request(embedding, a, Float::F16)));
    assert!(before == after);
    assert_ne!(identity(head, &[]), identity(head, &[1]));
    let o = "model.layers.0.self_attn.o_proj.weight";
    assert_eq!(identity(o, &[]), identity(o, &[1]));
}

#[test]
fn branches_come_scaled_and_by_any_name() {
    let weights =
        open(&goldens().join("llama"), &[&goldens().join("bare"), &goldens().join("rslora")]);
    let factor = |adapter, module, factor| {
        let request = FactorRequest { adapter, module, factor, negate: false, out: Float::F32 };
        let shape = weights.factor_shape(&request).unwrap();
        let mut bytes = Vec::new();
        let sink = &mut |b: &[u8]| {
            bytes.extend_from_slice(b);
            Ok(())
        };
        weights.stream_factor(&request, sink).unwrap();
        let mut values = vec![0.0; bytes.len() / 4];
        dtype::decode(dtype::Dtype::F32, &bytes, &mut values);
        (shape, values)
    };
    let name = "model.layers.1.self_attn.q_proj";
    for (index, module) in [(0, name), (0, "layers.1.self_attn.q_proj"), (1, name)] {
        let (a_shape, a) = factor(index, module, Factor::A);
        let (b_shape, b) = factor(index, module, Factor::B);
        let rank = if index == 0 { 2 } else { 6 };
        assert_eq!((a_shape, b_shape), ([rank, 16], [16, rank]));
        let tensor = format!("{name}.weight");
        let base = values(&weights, &request(&tensor, &[], Float::F32));
        let merged = values(&weights, &request(&tensor, &[index], Float::F32));
        for (i, (merged, base)) in merged.iter().zip(&base).enumerate() {
            let (row, column) = (i / 16, i % 16);
            let product: f32 = (0..rank).map(|k| b[row * rank + k] * a[k * 16 + column]).sum();
            assert!((merged - base - product).abs() < 1e-5, "{module} {i}");
        }
    }
    let error = weights.factor_shape(&FactorRequest {
        adapter: 0,
        module: "layers.1.self_attn.k_proj",
        factor: Factor::A,
        negate: false,
        out: Float::F16,
    });
    let error = error.unwrap_err().to_string();
    assert!(
        error.ends_with("has no low-rank pair for module `layers.1.self_attn.k_proj`"),
        "{error}"
    );
}

#[test]
fn what_cannot_be_poured_is_named() {
    let mut values = vec![1.0; 16];
    values[6] = -70000.0;
    let base = fixture::checkpoint(
        fixture::LLAMA,
        &[("model.embed_tokens.weight", &[4, 4], &values), ("model.norm.weight", &[4], &[1.0; 4])],
    );
    let weights = open(base.path(), &[]);
    let cases = [
        (
            request("lm_head.weight", &[], Float::F16),
            "element [1, 2] is -70000, the limit is 65504",
        ),
        (
            WeightRequest { transpose: true, ..request("embed_tokens.weight", &[], Float::F16) },
            "tensor `embed_tokens.weight` does not fit f16: element [1, 2] is -70000",
        ),
        (
            WeightRequest { transpose: true, ..request("norm.weight", &[], Float::F16) },
            "tensor `norm.weight` of shape [4] cannot be transposed",
        ),
        (
            request("model.nrm.weight", &[], Float::F16),
            "has no tensor for parameter `model.nrm.weight`",
        ),
        (request("norm.weight", &[2], Float::F16), "there is no adapter 2; 0 are open"),
    ];
    for (request, want) in cases {
        let error = weights.stream(&request, &mut |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
    let full = &mut |_: &[u8]| Err(io::ErrorKind::StorageFull.into());
    let error =
        weights.stream(&request("norm.weight", &[], Float::F16), full).unwrap_err().to_string();
    assert_eq!(error, "cannot write tensor `norm.weight`: no storage space");
}

#[test]
fn a_large_weight_comes_in_pieces_that_make_the_whole() {
    // Four blocks and a rest one way, a strip and a rest the other way.
    let (n_rows, n_columns) = (1500, 6000);
    let values: Vec<f32> = (0..n_rows * n_columns).map(|i| (i % 2039) as f32).collect();
    let base = fixture::checkpoint(fixture::LLAMA, &[("w", &[n_rows, n_columns], &values)]);
    let weights = open(base.path(), &[]);
    for transpose in [false, true] {
        let mut got = Vec::new();
        let mut largest = 0;
        let request = WeightRequest { transpose, ..request("w", &[], Float::F16) };
        let sink = &mut |bytes: &[u8]| {
            largest = largest.max(bytes.len());
            got.extend_from_slice(bytes);
            Ok(())
        };
        weights.stream(&request, sink).unwrap();
        let in_hand = if transpose { STRIP } else { BLOCK };
        assert!(largest <= in_hand * 2 && largest < got.len(), "{largest}");
        let at = |i: usize| {
            let i = if transpose { (i % n_rows) * n_columns + i / n_rows } else { i };
            f16::from_f32(values[i]).to_le_bytes()
        };
        let want: Vec<u8> = (0..values.len()).flat_map(at).collect();
        assert!(got == want, "transpose {transpose}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// However a merged weight is cut up, each element is the same.
    #[test]
    fn any_block_is_a_part_of_the_whole(
        case in prop::sample::select(vec![
            ("lora", "llama", "model.layers.1.mlp.down_proj.weight"),
            ("dora", "llama", "model.layers.0.mlp.up_proj.weight"),
            ("conv1d", "gpt2", "h.0.attn.c_attn.weight"),
            ("conv1d_dora", "gpt2", "h.0.mlp.c_fc.weight"),
            ("embedding", "tied", "model.embed_tokens.weight"),
            ("dora_embedding", "tied", "model.embed_tokens.weight"),
            ("tokens", "tied", "lm_head.weight"),
            ("pissa", "tied", "lm_head.weight"),
        ]),
        cut: [u8; 4],
    ) {
        let (adapter, base, tensor) = case;
        let weights = golden(adapter, base);
        let request = request(tensor, &[0], Float::F32);
        let whole = values(&weights, &request);
        let weight = weights.prepare(&weights.plan_of(&request).unwrap()).unwrap();
        let (n_rows, n_columns) = weight.size();
        let range = |a: u8, b: u8, n: usize| {
            let (a, b) = (usize::from(a) % n, usize::from(b) % n);
            a.min(b)..a.max(b) + 1
        };
        let rows = range(cut[0], cut[1], n_rows);
        let columns = range(cut[2], cut[3], n_columns);
        let mut block = vec![0.0; rows.len() * columns.len()];
        weight.block(&rows, &columns, &mut block).unwrap();
        for (i, row) in rows.enumerate() {
            let factor = &block[i * columns.len()..(i + 1) * columns.len()];
            prop_assert_eq!(factor, &whole[row * n_columns..][columns.clone()]);
        }
        let turned = values(&weights, &WeightRequest { transpose: true, ..request });
        for (i, x) in turned.iter().enumerate() {
            prop_assert_eq!(*x, whole[(i % n_rows) * n_columns + i / n_rows]);
        }
    }
}
