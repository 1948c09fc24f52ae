//! Packages that sweeps share: taken by links, checked, made again where they are damaged, by several at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use super::fake::{Fake, files};
use super::spec::bits;
use crate::base::clock::FixedClock;
use crate::base::fs::files_below;
use crate::base::progress::Silent;
use crate::sweep::{Run, RunError, Spec, run};

/// A sweep into `root/OUT` whose packages are shared in `root/cache`.
fn spec(root: &Path, out: &str, keep: &str) -> Spec {
    let text = format!(
        "[model]\npath = \"m\"\nseq_len = 64\n[variants]\nrecipes = [\"pal8-g16\", \"pal4-g16\"]\n\
         [evaluate]\nprompts = [\"a\"]\n[output]\ndir = \"{out}\"\nkeep = \"{keep}\"\ncache = \"cache\"\n"
    );
    Spec::parse(&text, &root.join("spec.toml"), &bits).unwrap()
}

fn go(spec: &Spec, stages: &Fake) -> Result<Run, RunError> {
    run(spec, stages, &FixedClock(0), &Silent)
}

/// What a sweep that nobody disturbs makes and tells.
fn undisturbed(keep: &str) -> (Run, BTreeMap<String, String>) {
    let root = tempfile::tempdir().unwrap();
    let run = go(&spec(root.path(), "out", keep), &Fake::default()).unwrap();
    (run, files(&root.path().join("out")))
}

fn made(stages: &Fake) -> Vec<String> {
    stages.take().into_iter().filter(|step| !step.starts_with("evaluate")).collect()
}

/// The names of the packages in the cache, by their numbers.
fn kept(root: &Path) -> Vec<String> {
    let files = files_below(&root.join("cache/packages")).unwrap();
    let names: BTreeSet<&str> = files.iter().map(|f| f.split_once('/').unwrap().0).collect();
    names.into_iter().map(|name| name[64..].to_owned()).collect()
}

#[cfg(unix)]
fn inode(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&fs_err::metadata(path).unwrap())
}

const EXTRA: &str = "pal4-g16.mlpackage/Data/extra";
const ALL: [&str; 3] = ["baseline fp16", "compress pal8-g16", "compress pal4-g16"];

#[test]
fn a_sweep_elsewhere_makes_nothing_and_shares_the_files() {
    let root = tempfile::tempdir().unwrap();
    let stages = Fake::default();
    let (want, want_files) = undisturbed("all");
    for (out, want_made) in [("a", &ALL[..]), ("b", &[])] {
        assert_eq!(go(&spec(root.path(), out, "all"), &stages).unwrap(), want);
        assert_eq!(made(&stages), want_made, "{out}");
        assert_eq!(files(&root.path().join(out)), want_files, "{out}");
    }
    #[cfg(unix)]
    assert_eq!(
        inode(&root.path().join("a").join(EXTRA)),
        inode(&root.path().join("b").join(EXTRA))
    );
    // A package that was lost comes back, and one that was dropped stays in the cache.
    fs_err::remove_dir_all(root.path().join("b/pal4-g16.mlpackage")).unwrap();
    for (out, keep) in [("b", "all"), ("c", "none"), ("c", "all")] {
        go(&spec(root.path(), out, keep), &stages).unwrap();
        assert_eq!(made(&stages), Vec::<String>::new(), "{out}, {keep}");
    }
    assert_eq!(files(&root.path().join("c")), want_files);
    // A cache that appears later is filled from what stands there.
    fs_err::remove_dir_all(root.path().join("cache")).unwrap();
    for out in ["a", "d"] {
        go(&spec(root.path(), out, "all"), &stages).unwrap();
        assert_eq!(made(&stages), Vec::<String>::new(), "{out}");
    }
}

#[test]
fn what_is_damaged_in_the_cache_is_made_again() {
    type Damage = fn(&Path);
    let cases: [(&str, Damage); 4] = [
        ("a byte", |package| {
            let mut bytes = fs_err::read(package.join("Data/extra")).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs_err::write(package.join("Data/extra"), bytes).unwrap();
        }),
        ("a file gone", |package| fs_err::remove_file(package.join("Data/extra")).unwrap()),
        ("a file more", |package| fs_err::write(package.join("Data/more"), "").unwrap()),
        ("all gone", |package| fs_err::remove_dir_all(package).unwrap()),
    ];
    let (want, want_files) = undisturbed("all");
    for (name, damage) in cases {
        let root = tempfile::tempdir().unwrap();
        let stages = Fake::default();
        go(&spec(root.path(), "a", "all"), &stages).unwrap();
        stages.take();
        let packages = root.path().join("cache/packages");
        let is_variant =
            |path: &Path| fs_err::read(path.join("Data/extra")).unwrap().starts_with(b"pal4-g16");
        let package = fs_err::read_dir(&packages).unwrap().map(|e| e.unwrap().path());
        damage(&package.into_iter().find(|path| is_variant(path)).unwrap());
        for (out, want_made) in [("b", &["compress pal4-g16"][..]), ("c", &[])] {
            assert_eq!(go(&spec(root.path(), out, "all"), &stages).unwrap(), want, "{name}");
            assert_eq!(made(&stages), want_made, "{name}, {out}");
            assert_eq!(files(&root.path().join(out)), want_files, "{name}, {out}");
        }
        assert_eq!(kept(root.path()).len(), 3, "{name}: nothing is left over");
    }
}

#[test]
fn records_that_speak_of_something_else_are_not_believed() {
    let root = tempfile::tempdir().unwrap();
    let stages = Fake::default();
    go(&spec(root.path(), "a", "all"), &stages).unwrap();
    let mine = root.path().join("mine.mlpackage");
    fs_err::create_dir_all(&mine).unwrap();
    for entry in fs_err::read_dir(root.path().join("cache/built")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs_err::read_to_string(&path).unwrap();
        let at = text.find("\"package\": \"").unwrap();
        let end = text[at + 12..].find('"').unwrap() + at + 12;
        fs_err::write(&path, format!("{}../../mine.mlpackage{}", &text[..at + 12], &text[end..]))
            .unwrap();
    }
    stages.take();
    go(&spec(root.path(), "b", "all"), &stages).unwrap();
    assert_eq!(made(&stages), ALL);
    assert!(mine.is_dir());
}

#[test]
fn afresh_ignores_what_is_there_and_replaces_it() {
    let root = tempfile::tempdir().unwrap();
    let stages = Fake::default();
    go(&spec(root.path(), "a", "all"), &stages).unwrap();
    stages.take();
    let mut fresh = spec(root.path(), "b", "all");
    fresh.output.fresh = true;
    go(&fresh, &stages).unwrap();
    assert_eq!(made(&stages), ALL);
    assert_eq!(kept(root.path()), ["-1.mlpackage"; 3]);
    go(&spec(root.path(), "c", "all"), &stages).unwrap();
    assert_eq!(made(&stages), Vec::<String>::new());
    #[cfg(unix)]
    for (out, want) in [("a", false), ("b", true)] {
        let same =
            inode(&root.path().join(out).join(EXTRA)) == inode(&root.path().join("c").join(EXTRA));
        assert_eq!(same, want, "{out}");
    }
}

#[test]
fn sweeps_killed_anywhere_leave_a_cache_that_others_can_use() {
    let (want, want_files) = undisturbed("all");
    let mut kills = 0;
    loop {
        let root = tempfile::tempdir().unwrap();
        let stages = Fake { fuse: Mutex::new(Some(kills)), ..Fake::default() };
        let Err(_) = go(&spec(root.path(), "a", "all"), &stages) else { break };
        for (fuse, out) in [(Some(kills), "b"), (None, "c"), (None, "a")] {
            *stages.fuse.lock().unwrap() = fuse;
            match go(&spec(root.path(), out, "all"), &stages) {
                Ok(run) => {
                    assert_eq!(run, want, "killed at {kills}");
                    assert_eq!(files(&root.path().join(out)), want_files, "killed at {kills}");
                }
                Err(error) => assert!(fuse.is_some(), "killed at {kills}: {error}"),
            }
        }
        kills += 1;
    }
    assert!(kills > 15, "{kills}");
}

#[test]
fn several_sweeps_share_one_cache_at_the_same_time() {
    let (want, want_files) = undisturbed("all");
    let root = tempfile::tempdir().unwrap();
    for round in 0..6 {
        thread::scope(|scope| {
            for i in 0..4 {
                let (root, want, want_files) = (root.path(), &want, &want_files);
                scope.spawn(move || {
                    let out = format!("{round}-{i}");
                    let mut spec = spec(root, &out, "all");
                    // Half of them replace what the others take.
                    spec.output.fresh = i % 2 == 0;
                    assert_eq!(&go(&spec, &Fake::default()).unwrap(), want, "{out}");
                    assert_eq!(&files(&root.join(&out)), want_files, "{out}");
                });
            }
        });
    }
    let stages = Fake::default();
    go(&spec(root.path(), "last", "all"), &stages).unwrap();
    assert_eq!(made(&stages), Vec::<String>::new());
}
