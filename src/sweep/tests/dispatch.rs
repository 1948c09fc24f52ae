//! Variants that other machines make: found, failed there, lost on the way, made of something else.

use std::sync::{Arc, Mutex};

use super::fake::{Fake, files};
use super::run::{go, spec, statuses};
use crate::base::clock::FixedClock;
use crate::base::progress::{Progress, Silent};
use crate::sweep::{Engine, Keep, RunError, Spec, StageError, Variant, run};

/// Machines that share the output folder, each a sweep of a single variant.
struct Nodes {
    spec: Spec,
    stages: Fake,
    /// Variants whose machines are lost.
    lost: Vec<&'static str>,
    /// Requested prompts; one call per list.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Engine for Nodes {
    fn exchange(&self) -> Result<(), StageError> {
        self.asked.lock().unwrap().push("exchange".to_owned());
        Ok(())
    }

    fn make(
        &self,
        variants: &[&Variant],
        _: &dyn Progress,
        ended: &dyn Fn(),
    ) -> Result<Vec<Result<(), StageError>>, StageError> {
        let names: Vec<&str> = variants.iter().map(|variant| variant.name.as_str()).collect();
        self.asked.lock().unwrap().push(names.join(" "));
        let one = |name: &&str| {
            ended();
            if self.lost.contains(name) {
                return Err(StageError::Failed { message: "it was lost".to_owned(), hint: None });
            }
            let mut spec = self.spec.clone();
            spec.keep_only(&[(*name).to_owned()]).unwrap();
            spec.output.keep = Keep::All;
            let ran = run(&spec, &self.stages, &FixedClock(0), &Silent);
            let failed = |e: RunError| StageError::Failed { message: e.to_string(), hint: None };
            let entries = ran.map_err(failed)?.entries;
            let mut own = entries.into_iter().filter(|e| e.variant.name == **name);
            match own.find_map(|e| e.failure) {
                Some(failure) => {
                    Err(StageError::Failed { message: failure.message, hint: failure.hint })
                }
                None => Ok(()),
            }
        };
        Ok(names.iter().map(one).collect())
    }
}

#[test]
fn what_other_machines_make_is_what_one_makes() {
    for keep in ["all", "best", "none"] {
        let clean = tempfile::tempdir().unwrap();
        let want = go(&spec(clean.path(), keep, ""), &Fake::default()).unwrap();
        let root = tempfile::tempdir().unwrap();
        let spec = spec(root.path(), keep, "");
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let nodes = |lost: &[&'static str], broken: &[&'static str], version| Fake {
            engine: Some(Box::new(Nodes {
                spec: spec.clone(),
                stages: Fake { broken: broken.into(), version, ..Fake::default() },
                lost: lost.into(),
                asked: Arc::clone(&asked),
            })),
            ..Fake::default()
        };
        let took = || std::mem::take(&mut *asked.lock().unwrap());
        let failed = |name: &str, stages: &Fake| {
            let run = go(&spec, stages).unwrap();
            let all = statuses(&run);
            assert!(all.contains(&format!("{name} failed")), "{all:?}");
            assert_eq!(all.iter().filter(|s| s.ends_with("pass")).count(), 3, "{all:?}");
            assert_eq!(stages.take(), Vec::<String>::new(), "nothing is made here");
            let failure = run.entries.into_iter().find_map(|entry| entry.failure).unwrap();
            (failure.stage, failure.message, failure.attempts)
        };
        let told = |stage: &str, fact: &str, n| (stage.to_owned(), fact.to_owned(), n);
        // Lost, failed over there, and made.
        let lost = failed("pal4-g16", &nodes(&["pal4-g16"], &[], ""));
        assert_eq!(lost, told("engine", "it was lost", 1));
        assert_eq!(took(), ["exchange", "fp16", "pal8-g16 pal4-g16 int4-b32"], "{keep}");
        let broken = failed("pal4-g16", &nodes(&[], &["compress pal4-g16"], ""));
        assert_eq!(broken, told("compress", "disk is full", 2), "it is counted once");
        assert_eq!(took(), ["exchange", "pal4-g16"], "{keep}");
        assert_eq!(go(&spec, &nodes(&[], &[], "")).unwrap(), want, "{keep}");
        assert_eq!(files(&root.path().join("out")), files(&clean.path().join("out")), "{keep}");
        took();
        // And nothing is left to do.
        assert_eq!(go(&spec, &nodes(&[], &[], "")).unwrap(), want, "{keep}");
        assert_eq!(took(), ["exchange"], "{keep}");
    }
}

#[test]
fn what_was_made_of_something_else_is_no_result() {
    let root = tempfile::tempdir().unwrap();
    let spec = spec(root.path(), "all", "");
    let stages = Fake { version: "2", ..Fake::default() };
    let nodes = Nodes { spec: spec.clone(), stages, lost: Vec::new(), asked: Arc::default() };
    let fake = Fake { engine: Some(Box::new(nodes)), ..Fake::default() };
    let error = go(&spec, &fake).unwrap_err();
    assert!(matches!(&error, RunError::Stage { stage: "baseline", .. }), "{error}");
    assert!(error.to_string().contains("not from this machine's sources"), "{error}");
    assert_eq!(fake.take(), Vec::<String>::new(), "nothing is made here");
}
