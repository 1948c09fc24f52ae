//! Links the embedded Python with its rpath, records which interpreter it was built against, and lists the Python
//! sources that travel inside the binary.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    embed_sources()?;
    #[cfg(feature = "python")]
    link_python();
    Ok(())
}

/// Writes `python_sources.rs`: a slice of (path, text) of all `.py` files below `python/coremill`, in order.
fn embed_sources() -> io::Result<()> {
    let variable = |name| PathBuf::from(env::var_os(name).expect("cargo sets it"));
    let root = variable("CARGO_MANIFEST_DIR").join("python").join("coremill");
    println!("cargo:rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    if root.is_dir() {
        python_files(&root, &mut files)?;
    }
    files.sort();
    let mut table = String::from("&[\n");
    for file in files {
        println!("cargo:rerun-if-changed={}", file.display());
        let name: Vec<_> = file
            .strip_prefix(&root)
            .expect("found below it")
            .components()
            .map(|part| part.as_os_str().to_string_lossy())
            .collect();
        let text = file.to_string_lossy();
        writeln!(table, "    ({:?}, include_str!({text:?})),", name.join("/")).expect("memory");
    }
    table.push_str("]\n");
    #[expect(clippy::disallowed_methods, reason = "a build script writes into its own folder")]
    fs::write(variable("OUT_DIR").join("python_sources.rs"), table)
}

fn python_files(folder: &Path, out: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            python_files(&path, out)?;
        } else if path.extension().is_some_and(|e| e == "py") {
            out.push(path);
        }
    }
    Ok(())
}

#[cfg(feature = "python")]
fn link_python() {
    pyo3_build_config::add_libpython_rpath_link_args();
    pyo3_build_config::add_python_framework_link_args();
    let config = pyo3_build_config::get();
    let version = config.version();
    let version = format!("{}.{}", version.major, version.minor);
    let executable = config.executable().unwrap_or_default();
    let library = config.lib_dir().zip(config.lib_name()).map(|(folder, name)| {
        let suffix = if cfg!(target_os = "macos") { "dylib" } else { "so" };
        Path::new(folder).join(format!("lib{name}.{suffix}"))
    });
    let absent = cfg!(target_os = "linux") && library.as_ref().is_some_and(|path| !path.exists());
    if !config.shared() || absent {
        println!(
            "cargo::error=`{executable}` (Python {version}) has no shared libpython to link with; install it (Debian: \
             `apt-get install python3-dev`; pyenv: `PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install {version}`), \
             or name another interpreter: `PYO3_PYTHON=python3.X cargo build --release`"
        );
    }
    println!("cargo:rustc-env=COREMILL_BUILD_PYTHON={executable}");
    println!("cargo:rustc-env=COREMILL_BUILD_PYTHON_VERSION={version}");
    if let Some(path) = library {
        println!("cargo:rustc-env=COREMILL_BUILD_LIBPYTHON={}", path.display());
    }
}
