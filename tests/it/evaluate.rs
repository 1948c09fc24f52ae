//! A whole evaluation, from a package on disk to its figures, in the interpreter.

use std::path::{Path, PathBuf};

use coremill::base::clock::FixedClock;
use coremill::base::progress::Silent;
use coremill::eval::results::Measurements;
use coremill::eval::{
    EvalContext, EvalError, Plan, PromptPlan, Reference, Repeat, TOP_K, TextPlan, evaluate, replay,
};
use coremill::eval::{precision::Text, precision::of_decoder, precision::of_encoder};
use coremill::eval::{reference::EmbedRequest, reference::Identity, reference::PackageReference};
use coremill::interp::Precision;
use coremill::lm::{Artifact, Engine, Prepared, Sentence, Tokenizer, embed};
use coremill::runtime::Interp;

use crate::bigram::{Bigram, VOCAB};

/// Words `w0` to `w11`, the last of which ends a text.
pub(crate) fn tokenizer(folder: &Path) -> Tokenizer {
    tokenizer_of(VOCAB, folder)
}

/// The same with other words than `w11` behind it.
pub(crate) fn tokenizer_of(n: usize, folder: &Path) -> Tokenizer {
    let vocab: serde_json::Map<_, _> = (0..n).map(|i| (format!("w{i}"), i.into())).collect();
    let file = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "w0"},
    });
    fs_err::create_dir_all(folder).unwrap();
    fs_err::write(folder.join("tokenizer.json"), file.to_string()).unwrap();
    fs_err::write(folder.join("config.json"), r#"{"eos_token_id": 11}"#).unwrap();
    Tokenizer::open(folder).unwrap()
}

/// 40 tokens that follow no pattern of the model's.
fn tokens() -> Vec<u32> {
    (0..40).map(|i| (i * i * 3 + i * 5 + 2) % VOCAB as u32).collect()
}

fn words(tokens: &[u32]) -> String {
    tokens.iter().map(|t| format!("w{t}")).collect::<Vec<_>>().join(" ")
}

fn measured(
    model: &Bigram,
    reference: &dyn Reference,
    window: usize,
) -> Result<Measurements, EvalError> {
    measured_so(model, reference, TextPlan { window: Some(window), ..text_plan() })
}

/// All words of a text in windows of eight.
fn text_plan() -> TextPlan {
    TextPlan {
        text: words(&tokens()),
        window: Some(8),
        stride: None,
        max_windows: 9,
        calibration: None,
        top_k: TOP_K,
        noise_floor: true,
    }
}

fn measured_so(
    model: &Bigram,
    reference: &dyn Reference,
    text: TextPlan,
) -> Result<Measurements, EvalError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.mlpackage");
    model.write(&path);
    // The name is enough, with its extension or without.
    let artifact = Artifact::open(&folder.path().join("x")).unwrap();
    assert_eq!(artifact.path(), path);
    let tokenizer = tokenizer(&artifact.tokenizer_folder());
    let sentence = |instruction: Option<&str>, text: &str| Sentence {
        instruction: instruction.map(str::to_owned),
        ..Sentence::plain(text)
    };
    let plan = Plan {
        text: Some(text),
        prompts: Some(PromptPlan {
            prompts: vec!["w1 w2".to_owned(), "w7".to_owned()],
            max_tokens: 6,
            chat_template: true,
            probe: false,
            explain: false,
        }),
        sentences: Some(vec![sentence(None, "w1 w2 w3"), sentence(Some("w5"), "w6 w7")]),
        latency: Some(Repeat { warm_up: 1, n: 5 }),
    };
    let context = EvalContext {
        runtime: &Interp { precision: Precision::Declared },
        tokenizer: &tokenizer,
        reference,
        clock: &FixedClock(0),
        progress: &Silent,
    };
    Ok(evaluate(&artifact, &plan, &context)?.measurements)
}

#[test]
fn a_faithful_artifact_has_no_distance_from_its_reference() {
    let found = measured(&Bigram::new(), &Bigram::new(), 8).unwrap();
    let perplexity = found.perplexity.unwrap();
    // Five windows of eight tokens, seven of each scored.
    assert_eq!((perplexity.windows, perplexity.value.n, perplexity.non_finite), (5, 35, 0));
    assert!(perplexity.increase.value.abs() < 1e-6, "{:?}", perplexity.increase);
    assert!(perplexity.divergence.value.abs() < 1e-6, "{:?}", perplexity.divergence);
    assert!((perplexity.same_top.value - 1.0).abs() < 1e-12);
    let transcripts = found.transcripts.unwrap();
    assert_eq!(transcripts.equal, 2, "{transcripts:?}");
    assert!(found.similarity.unwrap().minimum.value > 1.0 - 1e-6);
    let cache = found.kv_cache.unwrap();
    assert_eq!((cache.form.as_str(), cache.capacity, cache.bytes), ("io", 8, 32));
    let latency = found.latency.unwrap();
    let times = [latency.init, latency.decode, latency.encode];
    assert!(times.iter().all(|t| t.as_ref().is_some_and(|t| t.n == 5 && t.p90.is_none())));
}

#[test]
fn a_damaged_head_is_measured_as_it_is() {
    let (good, bad) = (Bigram::new(), Bigram::new().damaged());
    let found = measured(&bad, &good, 8).unwrap().perplexity.unwrap();
    let (mut increase, mut divergence) = (0.0, 0.0);
    let tokens = tokens();
    for window in tokens.chunks(8) {
        for pair in window.windows(2) {
            let (p, q) = (good.log_probs_after(pair[0]), bad.log_probs_after(pair[0]));
            increase += p[pair[1] as usize] - q[pair[1] as usize];
            divergence += p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
        }
    }
    let close = |got: f64, want: f64| assert!((got - want).abs() < 1e-4, "{got} {want}");
    close(found.increase.value, (increase / 35.0).exp_m1());
    close(found.divergence.value, divergence / 35.0);
    assert!(found.divergence.value > 0.01 && found.increase.standard_error.unwrap() > 0.0);
}

#[test]
fn a_package_answers_as_the_model_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("good.mlpackage");
    Bigram::new().write(&path);
    let runtime = Interp { precision: Precision::Declared };
    let clock = FixedClock(0);
    let package = PackageReference::new(&path, Identity::default(), &runtime, &clock);
    let same = measured(&Bigram::new(), &package, 8).unwrap();
    let perplexity = same.perplexity.unwrap();
    assert_eq!((perplexity.value.n, perplexity.noise_floor), (35, None));
    assert_eq!(perplexity.reference_kind.as_deref(), Some("package `good.mlpackage`"));
    assert!(perplexity.divergence.value.abs() < 1e-6, "{:?}", perplexity.divergence);
    assert_eq!(same.transcripts.unwrap().equal, 2);
    assert!(same.similarity.unwrap().minimum.value > 1.0 - 1e-6);
    // Against the damaged model both references say the same.
    let figures = |reference: &dyn Reference| {
        let found = measured(&Bigram::new().damaged(), reference, 8).unwrap().perplexity.unwrap();
        [found.increase.value, found.divergence.value, found.same_top.value]
    };
    for (a, b) in figures(&package).into_iter().zip(figures(&Bigram::new())) {
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }
}

#[test]
fn recorded_transcripts_are_written_again() {
    let recorded = measured(&Bigram::new(), &Bigram::new(), 8).unwrap().transcripts.unwrap();
    let again = |model: &Bigram| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.mlpackage");
        model.write(&path);
        let artifact = Artifact::open(&path).unwrap();
        let tokenizer = tokenizer(&artifact.tokenizer_folder());
        let runtime = Interp { precision: Precision::Declared };
        let clock = FixedClock(0);
        let engine = Engine::load(&artifact, &runtime, &clock).unwrap();
        replay(&engine, &tokenizer, &recorded, &clock).unwrap()
    };
    let same = again(&Bigram::new());
    assert_eq!(same.len(), 2);
    assert!(same.iter().all(|r| r.first_divergence.is_none() && r.margin.is_none()), "{same:?}");
    let other = again(&Bigram::new().damaged());
    let parted: Vec<_> = other.iter().filter(|r| r.first_divergence.is_some()).collect();
    assert!(!parted.is_empty() && parted.iter().all(|r| r.margin.is_some()), "{other:?}");
}

#[test]
fn the_noise_floor_is_of_the_scored_tokens() {
    let found = measured(&Bigram::new(), &Bigram::new(), 8).unwrap().perplexity.unwrap();
    let floor = found.noise_floor.unwrap();
    assert_eq!((floor.divergence.n, floor.same_top.value), (35, 1.0));
    assert!((floor.divergence.value - 0.001).abs() < 1e-12);
    assert!((floor.increase.value - 0.001_f64.exp_m1()).abs() < 1e-12);
}

#[test]
fn the_bound_holds_for_every_number_of_known_tokens() {
    let (good, bad) = (Bigram::new(), Bigram::new().damaged());
    let measured = |top_k: usize| {
        let plan = TextPlan { top_k, noise_floor: false, ..text_plan() };
        let found = measured_so(&bad, &good, plan).unwrap().perplexity.unwrap();
        assert_eq!((found.top_k, found.noise_floor), (Some(top_k.min(VOCAB) as u64), None));
        (found.divergence.value, found.divergence_bound.unwrap().value)
    };
    let (full, nothing) = measured(1_000_000);
    assert!(nothing.abs() < 1e-12);
    let mut before = 0.0;
    for k in 1..=VOCAB {
        let (known, hidden) = measured(k);
        assert!(
            known <= full + 1e-6 && full <= known + hidden + 1e-6,
            "{k}: {known} {hidden} {full}"
        );
        assert!(known >= before - 1e-6, "more tokens show more: {k}");
        before = known;
    }
}

#[test]
fn what_cannot_be_measured_says_why() {
    let model = Bigram::new();
    let own = words(&tokens()[..8]);
    let after = |text: String| {
        measured_so(&model, &model, TextPlan { calibration: Some(text), ..text_plan() })
    };
    let leak = after(own).unwrap_err().to_string();
    assert_eq!(leak, "40.0 % of the text's runs of 8 tokens stand in the calibration text too");
    assert!(after("w1 w2 w3".to_owned()).is_ok());

    let long = measured(&model, &model, 9).unwrap_err().to_string();
    assert_eq!(long, "windows of 9 tokens every 9 do not fit the sequence length 8");

    let fixture = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny.mlpackage");
    let foreign = Artifact::open(&fixture).unwrap_err().to_string();
    assert!(foreign.ends_with("no function `init`, `decode` or `encode`, only main"), "{foreign}");

    let absent = Artifact::open(Path::new("nowhere/x")).unwrap_err().to_string();
    assert_eq!(absent, "`nowhere/x.mlpackage` is no .mlpackage: it has no Manifest.json");
}

#[test]
fn an_encoder_has_one_function_called_main() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.mlpackage");
    Bigram::new().write_encoder(&path);
    let artifact = Artifact::open(&path).unwrap();
    assert!(artifact.layout().decoder.is_none());
    let runtime = Interp { precision: Precision::Declared };
    let engine = Engine::load(&artifact, &runtime, &FixedClock(0)).unwrap();
    let sentence = Prepared { ids: vec![3, 1, 4], pool: vec![0, 1, 1], left_out: 0 };
    let prepared = vec![sentence];
    let request =
        EmbedRequest { sentences: vec![Sentence::plain("")], prepared, seq_len: 8, strip: false };
    let want = Bigram::new().embed(&request).unwrap();
    assert_eq!(embed(&engine, &request.prepared[0]).unwrap(), want[0]);
}

#[test]
fn an_artifact_may_stand_in_one_package_per_function() {
    let folder = tempfile::tempdir().unwrap();
    // Each part holds all functions here; the one that its name says is used.
    for part in ["x.init.mlpackage", "x.decode.mlpackage"] {
        Bigram::new().write(&folder.path().join(part));
    }
    let artifact = Artifact::open(&folder.path().join("x.mlpackage")).unwrap();
    assert_eq!(artifact.packages().len(), 2);
    let layout = artifact.layout();
    assert_eq!((layout.decoder.unwrap().capacity, layout.encoder), (8, None));
    assert_eq!(artifact.name(), "x");

    fs_err::remove_dir_all(folder.path().join("x.decode.mlpackage")).unwrap();
    let error = Artifact::open(&folder.path().join("x")).unwrap_err().to_string();
    assert!(error.ends_with("x.mlpackage`: function `init` without `decode`"), "{error}");
}

#[test]
fn a_model_that_fp16_holds_loses_only_where_it_sums() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.mlpackage");
    Bigram::new().write(&path);
    let artifact = Artifact::open(&path).unwrap();
    let tokenizer = tokenizer(&artifact.tokenizer_folder());
    let text = words(&tokens());
    let text = Text { text: &text, window: None, max_windows: 3 };
    let decoder = of_decoder(&artifact, &tokenizer, text, &Silent).unwrap();
    let sentence = Sentence::plain("w1 w2 w3");
    let encoder = of_encoder(&artifact, &tokenizer, &[sentence], &Silent).unwrap();
    // Every weight is a multiple of an eighth below 2, so sums of four products are exact in fp16 too.
    for (found, calls, last) in [(&decoder, 3, "valueCache"), (&encoder, 1, "embedding")] {
        assert_eq!((found.calls, found.first), (calls, None));
        assert_eq!(found.operations.last().unwrap().name, last);
        assert!(found.worst(9).is_empty(), "{:?}", found.worst(9));
    }
    let named = |name: &str| decoder.operations.iter().find(|op| op.name == name).unwrap();
    assert_eq!(named("hidden_states").elements, 3 * 8 * 4);
    assert_eq!((named("last").largest, named("last").differing), (7.0, 0));
    assert_eq!(named("scores").at, "init/scores");
}
