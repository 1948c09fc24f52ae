//! Energy that the processor took, from the counters of Linux' powercap framework, where the system lets them be read.

use std::path::{Path, PathBuf};

/// Where the counters stand.
const PLACE: &str = "/sys/class/powercap";

/// The counters of all processor packages.
#[derive(Debug)]
pub(super) struct Meter {
    /// File, range after which it starts from nothing, and what it showed last; microjoules.
    zones: Vec<(PathBuf, u64, u64)>,
}

impl Meter {
    /// The meter of this machine, which starts now; nothing where there is none to read.
    pub(super) fn start() -> Option<Self> {
        Self::at(Path::new(PLACE))
    }

    fn at(place: &Path) -> Option<Self> {
        let mut zones = Vec::new();
        for entry in fs_err::read_dir(place).ok()? {
            let folder = entry.ok()?.path();
            // Packages alone: the zones of cores and memory inside of them would count twice.
            let name = folder.file_name()?.to_str()?;
            let is_package = name.strip_prefix("intel-rapl:").is_some_and(|n| !n.contains(':'));
            if is_package {
                let file = folder.join("energy_uj");
                let range = number(&folder.join("max_energy_range_uj"))?;
                let now = number(&file)?;
                zones.push((file, range, now));
            }
        }
        (!zones.is_empty()).then_some(Self { zones })
    }

    /// Joules since the last call or the start.
    pub(super) fn joules(&mut self) -> Option<f64> {
        let mut total = 0;
        for (file, range, last) in &mut self.zones {
            let now = number(file)?;
            total += if now >= *last { now - *last } else { now + range.saturating_sub(*last) };
            *last = now;
        }
        Some(total as f64 / 1e6)
    }
}

fn number(file: &Path) -> Option<u64> {
    fs_err::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_packages_add_up_and_start_from_nothing_again() {
        let root = tempfile::tempdir().unwrap();
        let set = |zone: &str, energy: &str| {
            let folder = root.path().join(zone);
            fs_err::create_dir_all(&folder).unwrap();
            fs_err::write(folder.join("energy_uj"), energy).unwrap();
            fs_err::write(folder.join("max_energy_range_uj"), "10000000\n").unwrap();
        };
        assert!(Meter::at(root.path()).is_none());
        set("intel-rapl:0", "1000000\n");
        set("intel-rapl:1", "9000000\n");
        set("intel-rapl:0:0", "5\n");
        let mut meter = Meter::at(root.path()).unwrap();
        assert_eq!(meter.joules(), Some(0.0));
        set("intel-rapl:0", "3500000\n");
        set("intel-rapl:1", "500000\n");
        set("intel-rapl:0:0", "900000\n");
        assert_eq!(meter.joules(), Some(2.5 + 1.5));
        assert_eq!(meter.joules(), Some(0.0));
        fs_err::remove_dir_all(root.path().join("intel-rapl:1")).unwrap();
        assert_eq!(meter.joules(), None);
        assert!(Meter::at(&root.path().join("absent")).is_none());
    }
}
