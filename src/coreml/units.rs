//! `ComputeUnits`: what a model may be computed on, spelled as coremltools spells it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Device;

/// The processors that a model may be computed on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "the variants are coremltools' own names")]
pub enum ComputeUnits {
    #[default]
    All,
    CpuOnly,
    CpuAndGpu,
    CpuAndNe,
}

impl ComputeUnits {
    /// All of them with their spellings.
    const TABLE: [(Self, &'static str); 4] = [
        (Self::All, "ALL"),
        (Self::CpuOnly, "CPU_ONLY"),
        (Self::CpuAndGpu, "CPU_AND_GPU"),
        (Self::CpuAndNe, "CPU_AND_NE"),
    ];

    /// True if they include `device`.
    pub fn include(self, device: Device) -> bool {
        match device {
            Device::Cpu => true,
            Device::Gpu => matches!(self, Self::All | Self::CpuAndGpu),
            Device::NeuralEngine => matches!(self, Self::All | Self::CpuAndNe),
        }
    }
}

impl FromStr for ComputeUnits {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::TABLE.iter().find(|(_, name)| name.eq_ignore_ascii_case(text));
        found.map(|(units, _)| *units).ok_or_else(|| {
            let names: Vec<_> = Self::TABLE.iter().map(|(_, name)| *name).collect();
            format!("compute units `{text}` is none of {}", names.join(", "))
        })
    }
}

impl fmt::Display for ComputeUnits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::TABLE.iter().find(|(units, _)| units == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelled_as_coremltools_spells_them() {
        use Device::{Cpu, Gpu, NeuralEngine};
        let cases: &[(&str, &[Device])] = &[
            ("ALL", &[Cpu, Gpu, NeuralEngine]),
            ("CPU_ONLY", &[Cpu]),
            ("CPU_AND_GPU", &[Cpu, Gpu]),
            ("CPU_AND_NE", &[Cpu, NeuralEngine]),
        ];
        for (name, devices) in cases {
            let units: ComputeUnits = name.parse().unwrap();
            assert_eq!(units.to_string(), *name);
            assert_eq!(serde_json::to_value(units).unwrap(), *name);
            assert_eq!(name.to_lowercase().parse(), Ok(units));
            let included = [Cpu, Gpu, NeuralEngine].into_iter().filter(|&d| units.include(d));
            assert_eq!(included.collect::<Vec<_>>(), *devices, "{name}");
        }
        let wrong = "GPU".parse::<ComputeUnits>().unwrap_err();
        assert_eq!(wrong, "compute units `GPU` is none of ALL, CPU_ONLY, CPU_AND_GPU, CPU_AND_NE");
    }
}
