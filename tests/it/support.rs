//! Runs the binary in a folder of its own and shows what came of it: exit code, stdout, stderr.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use coremill::blob::{BlobType, WriterError};
use coremill::mil::{Arg, BlobRef, DType, NamedType, Op, Type, Value};
use coremill::package::{Draft, Package, WEIGHT_FILE};
use regex::Regex;

/// A folder to run commands in, gone at the end.
pub(crate) struct Sandbox {
    dir: tempfile::TempDir,
    /// The cache, home and search path of the commands; the machine's own where Python is needed.
    surroundings: Surroundings,
}

#[derive(Clone, Copy, PartialEq)]
enum Surroundings {
    Bare,
    #[cfg(feature = "python")]
    Machine,
}

impl Sandbox {
    /// Commands that know nothing of this machine: no network, no search path, an empty cache.
    pub(crate) fn bare() -> Self {
        Self::new(Surroundings::Bare)
    }

    /// Commands with this machine's Python environment, which the first of them makes if there is none.
    #[cfg(feature = "python")]
    pub(crate) fn with_python() -> Self {
        Self::new(Surroundings::Machine)
    }

    fn new(surroundings: Surroundings) -> Self {
        let dir = tempfile::TempDir::with_prefix("coremill-it-").unwrap();
        for folder in ["work", "home", "config/coremill"] {
            fs_err::create_dir_all(dir.path().join(folder)).unwrap();
        }
        // What the commands say is the same on a Mac.
        let config = dir.path().join("config/coremill/config.toml");
        fs_err::write(config, "backend = \"interp\"\n").unwrap();
        Self { dir, surroundings }
    }

    /// The folder that commands run in.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// Replaces the commands' `config.toml`.
    pub(crate) fn configure(&self, text: &str) {
        fs_err::write(self.dir.path().join("config/coremill/config.toml"), text).unwrap();
    }

    /// Writes a file below the folder, its parents made.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path().join(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, content).unwrap();
    }

    /// What stands in the folder, hidden things too, in order.
    pub(crate) fn entries(&self, folder: &str) -> Vec<String> {
        let Ok(listed) = fs_err::read_dir(self.path().join(folder)) else { return Vec::new() };
        let name = |entry: std::io::Result<fs_err::DirEntry>| {
            entry.unwrap().file_name().to_string_lossy().into_owned()
        };
        let mut names: Vec<_> = listed.map(name).collect();
        names.sort();
        names
    }

    /// The command `coremill ARGS`, not yet started.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coremill"));
        command.args(args).current_dir(self.path()).stdin(Stdio::null()).env("NO_COLOR", "1");
        for name in ["HF_HOME", "HF_HUB_CACHE", "HF_TOKEN", "HF_ENDPOINT"] {
            command.env_remove(name);
        }
        command.env("XDG_CONFIG_HOME", self.dir.path().join("config"));
        if self.surroundings == Surroundings::Bare {
            command
                .env("HOME", self.dir.path().join("home"))
                .env("COREMILL_CACHE_DIR", self.dir.path().join("cache"))
                .env("COREMILL_OFFLINE", "1")
                .env("HF_ENDPOINT", "http://127.0.0.1:9")
                .env_remove("COREMILL_PYTHON");
        }
        command
    }

    /// Runs `coremill ARGS`.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Ran::of(&self.command(args).output().unwrap())
    }

    /// Runs `coremill LINE`, arguments apart by spaces, and shows line and outcome.
    pub(crate) fn show(&self, line: &str) -> String {
        let args: Vec<&str> = line.split_whitespace().collect();
        format!("$ coremill {line}\n{}", self.plain(&self.run(&args).shown()))
    }

    /// The lines one after the other, as a session at a terminal.
    pub(crate) fn session(&self, lines: &[&str]) -> String {
        lines.iter().map(|line| self.show(line)).collect::<Vec<_>>().join("\n")
    }

    /// `text` without what differs between runs and machines.
    pub(crate) fn plain(&self, text: &str) -> String {
        let mut text = text.replace(&self.path().display().to_string(), "[WORK]");
        text = text.replace(&self.dir.path().display().to_string(), "[TMP]");
        text = text.replace(env!("CARGO_MANIFEST_DIR"), "[ROOT]");
        for (pattern, with) in FILTERS {
            text = Regex::new(pattern).unwrap().replace_all(&text, *with).into_owned();
        }
        text
    }
}

/// Durations, estimates of memory, the version, and padding at the end of lines.
const FILTERS: &[(&str, &str)] = &[
    (r"\b\d+(\.\d+)? (ms|µs|s)\b", "[TIME]"),
    (r"memory [0-9.]+ [KMG]iB", "memory [SIZE]"),
    (r"this is \w+ on \w+", "this is [SYSTEM]"),
    (r#""seconds": [0-9.e-]+"#, r#""seconds": [TIME]"#),
    (r#"("\w+_m?s": ?)[0-9.e-]+"#, "${1}[TIME]"),
    (r"\b[0-9.]+/s", "[RATE]/s"),
    (concat!("coremill ", env!("CARGO_PKG_VERSION")), "coremill [VERSION]"),
    (r"(?m)[ \t]+$", ""),
];

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("output is UTF-8");
        Self {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// Fails unless the command ended with `code`.
    #[track_caller]
    pub(crate) fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Stdout, which must be one JSON value and nothing else.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}", self.stdout))
    }

    fn shown(&self) -> String {
        let mut out = format!("exit code: {}\n", self.code.expect("ended by itself"));
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !text.is_empty() {
                writeln!(out, "----- {name}\n{}", text.trim_end_matches('\n')).unwrap();
            }
        }
        out
    }
}

/// A path below this repository.
pub(crate) fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Copies a folder with everything in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    for file in coremill::base::fs::files_below(from).unwrap() {
        let target = to.join(&file);
        fs_err::create_dir_all(target.parent().unwrap()).unwrap();
        fs_err::copy(from.join(&file), target).unwrap();
    }
}

/// Writes a package of products with weights of these names and shapes; where each stands in its blob file.
pub(crate) fn linears(path: &Path, weights: &[(&str, [u64; 2])]) -> Vec<u64> {
    let tiny = Package::open(&root("tests/fixtures/tiny.mlpackage")).unwrap();
    let mut model = tiny.model().clone();
    let draft = Draft::begin(path, false).unwrap();
    let mut writer = draft.weights(u32::try_from(weights.len()).unwrap()).unwrap();
    let function = model.program.functions.values_mut().next().unwrap();
    let (input, block) = (function.inputs[0].name.clone(), &mut function.block);
    let (mut consts, mut uses, mut offsets) = (Vec::new(), Vec::new(), Vec::new());
    for (seed, (name, shape)) in weights.iter().enumerate() {
        let n = shape.iter().product();
        // All magnitudes from a quarter to a half, of either sign, evenly.
        let value = |i: u64| ((i + seed as u64).wrapping_mul(0x9E37_79B1) >> 16) as u16;
        let bytes: Vec<u8> =
            (0..n).flat_map(|i| (value(i) & 0x83ff | 0x3400).to_le_bytes()).collect();
        let offset =
            writer.blob::<WriterError>(BlobType::Float16, n, 16, |put| put(&bytes)).unwrap();
        let at = BlobRef { file: WEIGHT_FILE.to_owned(), offset };
        let mut op = Op {
            kind: "const".to_owned(),
            inputs: BTreeMap::new(),
            outputs: vec![NamedType {
                name: (*name).to_owned(),
                ty: Type::tensor(DType::F16, shape),
            }],
            blocks: Vec::new(),
            attributes: BTreeMap::new(),
        };
        op.attributes.insert("val".to_owned(), Value::blob(DType::F16, shape, at));
        consts.push(op.clone());
        "linear".clone_into(&mut op.kind);
        op.attributes.clear();
        op.inputs.insert("weight".to_owned(), vec![Arg::Name((*name).to_owned())]);
        op.inputs.insert("x".to_owned(), vec![Arg::Name(input.clone())]);
        op.outputs[0].name = format!("{name}_used");
        uses.push(op);
        offsets.push(offset);
    }
    block.outputs = vec![uses[uses.len() - 1].name().to_owned()];
    block.ops = [consts, uses].concat();
    let written = writer.finish().unwrap();
    draft.finish(&model, Some(written)).unwrap();
    offsets
}

/// A checkpoint or an adapter of `goldens` with its first layers alone, in a folder of its name; its path.
#[cfg(feature = "python")]
pub(crate) fn first_layers(sandbox: &Sandbox, golden: &str, n_layers: usize) -> PathBuf {
    use serde_json::json;
    let folder = sandbox.path().join(golden);
    copy(&root("goldens").join(golden), &folder);
    let layer = Regex::new(r"\blayers\.(\d+)\.").unwrap();
    let stays = |name: &str| {
        layer.captures(name).is_none_or(|found| found[1].parse::<usize>().unwrap() < n_layers)
    };
    for name in ["model.safetensors", "adapter_model.safetensors"] {
        let Ok(bytes) = fs_err::read(folder.join(name)) else { continue };
        let mut tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap().tensors();
        tensors.retain(|(name, _)| stays(name));
        let format = [("format".to_owned(), "pt".to_owned())].into();
        let fewer = safetensors::serialize(tensors, Some(format)).unwrap();
        fs_err::write(folder.join(name), fewer).unwrap();
    }
    if let Ok(text) = fs_err::read(folder.join("config.json")) {
        let mut config: serde_json::Value = serde_json::from_slice(&text).unwrap();
        config["num_hidden_layers"] = json!(n_layers);
        config["layer_types"].as_array_mut().unwrap().truncate(n_layers);
        fs_err::write(folder.join("config.json"), config.to_string()).unwrap();
    }
    folder
}

/// Tensors as a safetensors file: name, shape, values as f32.
pub(crate) fn safetensors(tensors: &[(&str, &[usize], &[f32])]) -> Vec<u8> {
    use safetensors::tensor::{Dtype, TensorView};
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, _, values)| values.iter().flat_map(|x| x.to_le_bytes()).collect())
        .collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        ((*name).to_owned(), TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

/// True if `UPDATE=1` asks tests to rewrite generated files.
#[expect(clippy::disallowed_methods, reason = "a test that rewrites its file when asked")]
pub(crate) fn updates() -> bool {
    std::env::var("UPDATE").is_ok_and(|value| value == "1")
}
