//! A manifest against the package that it speaks of: every digest, every file, every signature.

use std::path::Path;

use thiserror::Error;

use super::signature::differences;
use super::{
    Artifact, Manifest, ManifestError, compatible, functions, manifest_path, package_path, target,
};
use crate::package::{FileRecord, Package};

/// One thing that a manifest says and a package belies.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum Problem {
    #[error("`{path}` is missing")]
    Missing { path: String },
    #[error("`{path}` is not in the manifest")]
    Extra { path: String },
    #[error("`{path}` has {found} bytes, not {wanted}")]
    Length { path: String, wanted: u64, found: u64 },
    #[error("`{path}` has SHA-256 {found}, not {wanted}")]
    Digest { path: String, wanted: String, found: String },
    #[error("tree has SHA-256 {found}, not {wanted}")]
    Tree { wanted: String, found: String },
    #[error("{what} is {found}, not {wanted}")]
    Differs { what: &'static str, wanted: String, found: String },
    #[error("deployment target `{0}` is unknown")]
    Target(String),
    #[error("{0}")]
    Signature(String),
    #[error("package cannot be opened: {0}")]
    Package(String),
}

/// Compares the manifest with its package; `path` is that of either. No problems mean that all of it is true.
pub fn check(path: &Path) -> Result<Vec<Problem>, ManifestError> {
    let file = if path.is_dir() { manifest_path(path) } else { path.to_owned() };
    let manifest = Manifest::read(&file)?;
    let package = if path.is_dir() { path.to_owned() } else { package_path(&file, &manifest) };
    let mut problems = Vec::new();
    let actual = Artifact::read(&package, manifest.parameters)?;
    files(&manifest.files, &actual.files, &mut problems);
    if actual.sha256 != manifest.sha256 {
        let wanted = manifest.sha256.clone();
        problems.push(Problem::Tree { wanted, found: actual.sha256 });
    }
    let mut differs = |what, wanted: &dyn ToString, found: &dyn ToString| {
        let (wanted, found) = (wanted.to_string(), found.to_string());
        if wanted != found {
            problems.push(Problem::Differs { what, wanted, found });
        }
    };
    differs("size", &manifest.size_bytes, &actual.size_bytes);
    differs("size of the weights", &manifest.weight_bytes, &actual.weight_bytes);
    let name = package.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    differs("file name", &manifest.package, &name);
    match target(&manifest.deployment_target) {
        None => problems.push(Problem::Target(manifest.deployment_target.clone())),
        Some(target) => {
            let wanted = &target.specification_version;
            differs("specification version of the target", &manifest.specification_version, wanted);
            let range = compatible(target.name, &manifest.created_by.version).unwrap_or_default();
            let show = |map| serde_json::to_string(map).expect("strings are JSON");
            differs("compatible range", &show(&manifest.compatible), &show(&range));
        }
    }
    match Package::open(&package) {
        Err(error) => problems.push(Problem::Package(error.to_string())),
        Ok(package) => {
            let found = package.model().specification_version;
            if found != manifest.specification_version {
                problems.push(Problem::Differs {
                    what: "specification version",
                    wanted: manifest.specification_version.to_string(),
                    found: found.to_string(),
                });
            }
            let lines = differences(&manifest.functions, &functions(package.model()));
            problems.extend(lines.into_iter().map(Problem::Signature));
        }
    }
    Ok(problems)
}

fn files(wanted: &[FileRecord], found: &[FileRecord], problems: &mut Vec<Problem>) {
    for record in wanted {
        let path = record.path.clone();
        match found.iter().find(|f| f.path == record.path) {
            None => problems.push(Problem::Missing { path }),
            Some(f) if f.size != record.size => {
                problems.push(Problem::Length { path, wanted: record.size, found: f.size });
            }
            Some(f) if f.sha256 != record.sha256 => problems.push(Problem::Digest {
                path,
                wanted: record.sha256.clone(),
                found: f.sha256.clone(),
            }),
            Some(_) => {}
        }
    }
    let extra = found.iter().filter(|f| wanted.iter().all(|w| w.path != f.path));
    problems.extend(extra.map(|f| Problem::Extra { path: f.path.clone() }));
}
