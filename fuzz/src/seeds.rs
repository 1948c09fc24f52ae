//! Programs to begin with: one operation each, as text, and the packages among the test fixtures.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use coremill::eval::Tokens;
use coremill::eval::reference::Distributions;
use coremill::mil::{Op, Program, text};
use coremill::package::Model;
use coremill::proto::model::ModelDescription;

use crate::drive::Wrapped;

/// Programs one after the other; each begins with `program(` at the beginning of a line.
const PROGRAMS: &str = include_str!("../seeds/operations.mil");

/// The programs as text.
pub fn texts() -> impl Iterator<Item = String> {
    PROGRAMS.split("\nprogram(").map(|t| format!("program({}", t.trim_start_matches("program(")))
}

/// The programs.
pub fn programs() -> impl Iterator<Item = Program> {
    texts().map(|text| text::read(&text).expect("the seeds are programs"))
}

/// The operations of all programs, to be put into others.
pub fn ops() -> &'static [Op] {
    static OPS: LazyLock<Vec<Op>> = LazyLock::new(|| {
        let of = |program: Program| program.functions.into_values().flat_map(|f| f.block.ops);
        programs().flat_map(of).filter(|op| op.kind != "const").collect()
    });
    &OPS
}

/// Folders of packages below `folder`, in the order of their names.
pub fn packages(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs_err::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.sort();
    let is_package = |p: &Path| p.extension().is_some_and(|e| e == "mlpackage");
    paths.into_iter().flat_map(|p| if is_package(&p) { vec![p] } else { packages(&p) }).collect()
}

/// The variable that names the folder for a target's first inputs; a target that finds it writes them and ends.
const FOLDER: &str = "COREMILL_FUZZ_SEEDS";

/// Writes the first inputs where they are asked for.
pub fn sow(inputs: fn() -> Vec<Vec<u8>>) {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    for (i, input) in inputs().into_iter().enumerate() {
        fs_err::write(Path::new(&folder).join(format!("seed-{i:03}")), input)
            .expect("room for the seeds");
    }
    std::process::exit(0);
}

/// Larger fixtures would make every run slow.
const MOST_BYTES: usize = 16 << 10;

fn fixtures() -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    packages(&folder).into_iter().filter_map(|package| {
        let inside = package.join("Data/com.apple.CoreML");
        let model = fs_err::read(inside.join("model.mlmodel")).ok()?;
        let weights = fs_err::read(inside.join("weights/weight.bin")).unwrap_or_default();
        (model.len() + weights.len() <= MOST_BYTES).then_some((model, weights))
    })
}

fn models() -> impl Iterator<Item = Vec<u8>> {
    let of = |program| Model {
        specification_version: 9,
        description: ModelDescription::default(),
        program,
    };
    programs().map(move |program| of(program).to_bytes())
}

/// Package folders.
pub fn package() -> Vec<Vec<u8>> {
    let wrap = |compiled, model: &[u8], weights: &[u8]| {
        Wrapped { compiled, manifest: &[], model, weights }.to_bytes()
    };
    let packages = fixtures().flat_map(|(model, weights)| {
        let program = Model::from_bytes(&model).expect("the fixtures are models").program;
        [wrap(false, &model, &weights), wrap(true, text::write(&program).as_bytes(), &weights)]
    });
    let alone = models().map(|model| wrap(false, &model, &[]));
    packages.chain(alone).collect()
}

/// Blob files.
pub fn blob() -> Vec<Vec<u8>> {
    fixtures().map(|(_, weights)| weights).filter(|weights| !weights.is_empty()).collect()
}

/// Model files.
pub fn proto() -> Vec<Vec<u8>> {
    fixtures().map(|(model, _)| model).chain(models()).collect()
}

/// Texts.
pub fn mil_text() -> Vec<Vec<u8>> {
    let program = |(model, _): (Vec<u8>, _)| Model::from_bytes(&model).expect("a model").program;
    let fixtures = fixtures().map(|f| text::write(&program(f)));
    fixtures.chain(texts()).map(String::into_bytes).collect()
}

/// What a snapshot of the package above pins.
fn pinned(snapshot: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src").join(snapshot);
    let text = fs_err::read_to_string(path).unwrap_or_default();
    text.split_once("\n---\n").map_or_else(Vec::new, |(_, text)| text.as_bytes().to_vec())
}

/// A report.
pub fn report() -> Vec<Vec<u8>> {
    let name = "coremill__report__tests__json_is_read_back_and_written_the_same.snap";
    vec![pinned(&format!("report/snapshots/{name}"))]
}

/// A manifest.
pub fn manifest() -> Vec<Vec<u8>> {
    let name = "coremill__manifest__tests__two_runs_write_the_same_bytes.snap";
    vec![pinned(&format!("manifest/snapshots/{name}"))]
}

/// The specs that come with the package.
pub fn spec() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sweeps");
    let read = |name: &str| fs_err::read(folder.join(name)).unwrap_or_default();
    ["golden.toml", "quickstart.toml"].map(read).into()
}

/// Tokens and distributions, a few each.
pub fn kept() -> Vec<Vec<u8>> {
    let tokens = Tokens { rows: Vec::new(), non_finite: 1 };
    let one = Distributions {
        window: 3,
        top_k: 2,
        next: vec![-0.5; 4],
        ids: (0..12).collect(),
        log_probs: vec![-1.5; 12],
        tail: vec![-2.0; 6],
    };
    vec![tokens.to_bytes(), one.to_bytes()]
}
