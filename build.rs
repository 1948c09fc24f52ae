//! Links the embedded Python with its rpath, and records which interpreter it was built against.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "python")]
    {
        pyo3_build_config::add_libpython_rpath_link_args();
        let config = pyo3_build_config::get();
        let executable = config.executable().unwrap_or_default();
        println!("cargo:rustc-env=COREMILL_BUILD_PYTHON={executable}");
        println!(
            "cargo:rustc-env=COREMILL_BUILD_PYTHON_VERSION={}.{}",
            config.version().major,
            config.version().minor
        );
    }
}
