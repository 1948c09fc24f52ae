//! Pipeline that copy a fixture instead of converting, count their work, and stop where they are told to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::base::cancel::Cancelled;
use crate::base::digest;
use crate::base::fs::{Staging, files_below};
use crate::base::progress::Progress;
use crate::eval::{Evaluated, Token, Tokens};
use crate::eval::{results::Figure, results::Measurements, results::Perplexity};
use crate::gate::Verdict;
use crate::manifest::{Artifact, Facts, Manifest, Source, Tool};
use crate::sweep::{Engine, Identity, Pipeline, StageError, Variant};

/// Records the calls of the stages and configures their results.
#[derive(Default)]
pub(super) struct Fake {
    /// Events until the run is killed; none for never.
    pub(super) fuse: Mutex<Option<usize>>,
    /// Steps begun, such as `compress pal4-g16`, in order.
    pub(super) begun: Mutex<Vec<String>>,
    /// Steps that fail, such as `evaluate pal4-g16`.
    pub(super) broken: Vec<&'static str>,
    /// Stands in for a version or a digest that changes.
    pub(super) version: &'static str,
    /// Who makes variants in place of these stages.
    pub(super) engine: Option<Box<dyn Engine>>,
}

impl Fake {
    /// One moment at which a run may be killed.
    fn event(&self) -> Result<(), StageError> {
        let mut fuse = self.fuse.lock().unwrap();
        match fuse.as_mut() {
            Some(0) => Err(Cancelled.into()),
            Some(n) => {
                *n -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn begin(&self, step: &str, variant: &str) -> Result<(), StageError> {
        self.event()?;
        let step = format!("{step} {variant}");
        let broken = self.broken.contains(&step.as_str());
        self.begun.lock().unwrap().push(step);
        if broken {
            let hint = Some("make room".to_owned());
            return Err(StageError::Failed { message: "disk is full".to_owned(), hint });
        }
        Ok(())
    }

    /// A package like the fixture whose weights say which recipe made it: the fewer bits, the shorter.
    pub(super) fn write(
        &self,
        package: &Path,
        recipe: &str,
        bits: u32,
    ) -> Result<Artifact, StageError> {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny.mlpackage");
        let staging = Staging::begin(package).unwrap();
        for path in files_below(&fixture).unwrap() {
            let to = staging.path().join(&path);
            fs_err::create_dir_all(to.parent().unwrap()).unwrap();
            fs_err::copy(fixture.join(&path), to).unwrap();
        }
        if let Err(stop) = self.event() {
            // A killed process removes nothing.
            std::mem::forget(staging);
            return Err(stop);
        }
        let mut extra = recipe.to_owned().into_bytes();
        extra.extend([0].iter().chain(self.version.as_bytes()));
        extra.resize(bits as usize * 100, 0);
        fs_err::write(staging.path().join("Data/extra"), extra).unwrap();
        staging.commit(true).unwrap();
        self.event()?;
        Ok(Artifact::read(package, 1000).unwrap())
    }

    /// Steps begun so far, forgotten with the asking.
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.begun.lock().unwrap())
    }
}

impl Pipeline for Fake {
    fn identity(&self) -> Result<Identity, StageError> {
        self.event()?;
        let one = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        Ok(Identity {
            sources: one("model/model.safetensors", &digest::of_bytes(b"weights")),
            tools: one("coremill", self.version),
            texts: BTreeMap::new(),
        })
    }

    fn engine(&self) -> Option<&dyn Engine> {
        self.engine.as_deref()
    }

    fn baseline(&self, package: &Path, _: &dyn Progress) -> Result<Artifact, StageError> {
        self.begin("baseline", "fp16")?;
        self.write(package, "fp16", 16)
    }

    fn compress_all(
        &self,
        variants: &[(&Variant, PathBuf)],
        baseline: &Path,
        _: &dyn Progress,
    ) -> Result<Vec<Artifact>, StageError> {
        assert!(baseline.join("Data/extra").exists(), "the baseline stands");
        // All are begun before the first is whole, as files are that are written side by side.
        for (variant, _) in variants {
            self.begin("compress", &variant.name)?;
        }
        let write = |(variant, package): &(&Variant, PathBuf)| {
            self.write(package, &variant.recipe, variant.bits)
        };
        variants.iter().map(write).collect()
    }

    fn evaluate(
        &self,
        variant: &Variant,
        package: &Path,
        _: &dyn Progress,
    ) -> Result<Evaluated, StageError> {
        self.begin("evaluate", &variant.name)?;
        let extra = fs_err::read(package.join("Data/extra")).unwrap();
        assert!(extra.starts_with(variant.recipe.as_bytes()), "the package is that of the variant");
        let measurements = measurements(variant.bits);
        self.event()?;
        Ok(Evaluated { measurements, tokens: Some(tokens(variant.bits)) })
    }

    fn manifest(
        &self,
        variant: &Variant,
        package: &Path,
        artifact: &Artifact,
        measurements: &Measurements,
        verdicts: &[Verdict],
    ) -> Result<Manifest, StageError> {
        self.event()?;
        let facts = Facts {
            name: variant.name.clone(),
            version: semver::Version::new(0, 1, 0),
            created_by: Tool {
                name: "coremill".to_owned(),
                version: "0.1.0".to_owned(),
                libraries: BTreeMap::new(),
            },
            source: Source::default(),
            checkpoint: None,
            adapters: Vec::new(),
            recipe: variant.recipe.clone(),
            deployment_target: "iOS18".to_owned(),
            kv_cache: None,
            seq_len: None,
            prompt_chunk: None,
            measurements,
            verdicts,
        };
        Manifest::of(package, artifact, facts).map_err(|e| StageError::failed(&e))
    }
}

/// Figures of an artifact of `bits` bits: the fewer, the worse.
fn measurements(bits: u32) -> Measurements {
    let increase = 0.16 / f64::from(bits).powi(2);
    let figure = |value: f64, error: Option<f64>| Figure {
        value,
        unit: "1".to_owned(),
        n: 1000,
        standard_error: error,
    };
    Measurements {
        perplexity: Some(Perplexity {
            value: figure(17.0 * (1.0 + increase), Some(0.3)),
            reference: figure(17.0, Some(0.3)),
            increase: figure(increase, Some(increase / 10.0)),
            divergence: figure(increase / 3.0, Some(increase / 30.0)),
            same_top: figure(0.98, Some(0.001)),
            window: 64,
            stride: 64,
            windows: 4,
            non_finite: 0,
            text_sha256: "00".to_owned(),
            ..Perplexity::default()
        }),
        ..Measurements::default()
    }
}

/// Scored tokens of an artifact of `bits` bits in four windows.
fn tokens(bits: u32) -> Tokens {
    let row = |i: u32| Token {
        window: i / 4,
        position: 1 + i % 4,
        nll: 3.0 + 0.1 / f64::from(bits) * f64::from(i % 3),
        reference_nll: 3.0,
        divergence: 0.05 / f64::from(bits) * f64::from(1 + i % 5),
        hidden: 0.0,
        same_sampled: 0.5,
        confidence: 0.5,
        same_top: true,
    };
    Tokens { rows: (0..16).map(row).collect(), non_finite: 0 }
}

/// All files of a finished sweep with their digests; leftovers of killed runs do not count.
pub(super) fn files(folder: &Path) -> BTreeMap<String, String> {
    let paths = files_below(folder).unwrap();
    let kept = paths.into_iter().filter(|path| !path.contains(".coremill-partial-"));
    let digest = |path: String| {
        let sha256 = digest::of_file(&PathBuf::from(folder).join(&path)).unwrap().0;
        (path, sha256)
    };
    kept.map(digest).collect()
}
