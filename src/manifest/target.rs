//! Deployment targets: their names, specification versions and the systems that load them.

use std::collections::BTreeMap;

use semver::Version;

/// A deployment target and the first versions of the systems that know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// As coremltools names it.
    pub name: &'static str,
    /// Core ML's specification version.
    pub specification_version: i32,
    /// The systems with their first version.
    pub systems: &'static [(&'static str, &'static str)],
}

/// The targets that ML programs have, oldest first.
pub const TARGETS: &[Target] = &[
    Target {
        name: "iOS15",
        specification_version: 6,
        systems: &[("ios", "15"), ("macos", "12"), ("tvos", "15"), ("watchos", "8")],
    },
    Target {
        name: "iOS16",
        specification_version: 7,
        systems: &[("ios", "16"), ("macos", "13"), ("tvos", "16"), ("watchos", "9")],
    },
    Target {
        name: "iOS17",
        specification_version: 8,
        systems: &[("ios", "17"), ("macos", "14"), ("tvos", "17"), ("watchos", "10")],
    },
    Target {
        name: "iOS18",
        specification_version: 9,
        systems: &[("ios", "18"), ("macos", "15"), ("tvos", "18"), ("watchos", "11")],
    },
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// What runs a package for `target` made by version `tool` of this crate: each system from its first version on, and
/// the versions of this crate that promise to read it.
pub fn compatible(target_name: &str, tool: &str) -> Option<BTreeMap<String, String>> {
    let systems = target(target_name)?.systems;
    let mut out: BTreeMap<_, _> = systems
        .iter()
        .map(|(system, version)| ((*system).to_owned(), format!(">={version}")))
        .collect();
    if let Ok(Version { major, minor, .. }) = Version::parse(tool) {
        let range = if major == 0 {
            format!(">=0.{minor}, <0.{}", minor + 1)
        } else {
            format!(">={major}.{minor}, <{}", major + 1)
        };
        out.insert("coremill".to_owned(), range);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use semver::VersionReq;

    #[test]
    fn ranges_are_version_requirements() {
        for (target, tool, want) in [
            ("iOS18", "0.1.0", Some(">=0.1, <0.2")),
            ("iOS15", "1.4.2", Some(">=1.4, <2")),
            ("iOS99", "0.1.0", None),
        ] {
            let range = compatible(target, tool);
            assert_eq!(range.as_ref().map(|r| r["coremill"].as_str()), want);
            for range in range.iter().flat_map(BTreeMap::values) {
                VersionReq::parse(range).unwrap();
            }
        }
        let range = compatible("iOS18", "0.1.0").unwrap();
        assert_eq!((&*range["ios"], &*range["macos"]), (">=18", ">=15"));
        assert!(VersionReq::parse(&range["coremill"]).unwrap().matches(&Version::new(0, 1, 7)));
    }
}
