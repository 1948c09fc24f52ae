//! `ComputePlan`: what each operation of a function would be computed on, and why not on the Neural Engine.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::{ComputeUnits, Device};

/// What the framework says about the operations of one function.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComputePlan {
    /// The function.
    pub function: String,
    /// Allowed value.
    pub units: ComputeUnits,
    /// Properties of the machine.
    pub devices: Vec<Device>,
    /// The operations in their order, those of nested blocks behind the operation that holds them.
    pub operations: Vec<Planned>,
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Planned {
    /// The operator, such as `ios18.linear`.
    pub operator: String,
    /// Its first output, which names it.
    pub output: String,
    /// Where the framework would compute it; nothing for constants, which are not computed.
    pub preferred: Option<Device>,
    /// Where it could.
    pub supported: Vec<Device>,
    /// Its share of the function's cost, between 0 and 1, where the framework estimates it.
    pub cost: Option<f64>,
}

/// Why an operation is not on the Neural Engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The machine has none.
    NoDevice,
    /// The compute units leave it out.
    Units,
    /// It cannot compute this operation as it stands.
    Unsupported,
    /// It could, and the framework expects another device to be better, moving data between devices included.
    NotPreferred,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoDevice => "this machine has no Neural Engine",
            Self::Units => "the compute units leave it out",
            Self::Unsupported => "it does not support the operation as it stands",
            Self::NotPreferred => "it could, another device is expected to be better",
        })
    }
}

/// Operations of one kind that are alike in where they are computed and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Share {
    /// The operator.
    pub operator: String,
    /// Where.
    pub device: Device,
    /// Why not on the Neural Engine, where they are not.
    pub reason: Option<Reason>,
    /// Count.
    pub operations: usize,
    /// Their share of the cost, as far as it is estimated.
    pub cost: f64,
    /// The output of the first.
    pub example: String,
}

impl ComputePlan {
    /// Why `operation` is not on the Neural Engine; nothing where it is, or where it is not computed at all.
    pub fn reason(&self, operation: &Planned) -> Option<Reason> {
        match operation.preferred {
            None | Some(Device::NeuralEngine) => None,
            Some(_) if !self.devices.contains(&Device::NeuralEngine) => Some(Reason::NoDevice),
            Some(_) if !self.units.include(Device::NeuralEngine) => Some(Reason::Units),
            Some(_) if operation.supported.contains(&Device::NeuralEngine) => {
                Some(Reason::NotPreferred)
            }
            Some(_) => Some(Reason::Unsupported),
        }
    }

    /// The computed operations by operator, device and reason, the costliest first.
    pub fn shares(&self) -> Vec<Share> {
        let mut by_kind: BTreeMap<_, Share> = BTreeMap::new();
        for operation in &self.operations {
            let Some(device) = operation.preferred else { continue };
            let reason = self.reason(operation);
            let share = by_kind
                .entry((device, reason, operation.operator.as_str()))
                .or_insert_with(|| Share {
                    operator: operation.operator.clone(),
                    device,
                    reason,
                    operations: 0,
                    cost: 0.0,
                    example: operation.output.clone(),
                });
            share.operations += 1;
            share.cost += operation.cost.unwrap_or(0.0);
        }
        let mut shares: Vec<_> = by_kind.into_values().collect();
        shares.sort_by(|a, b| b.cost.total_cmp(&a.cost).then(b.operations.cmp(&a.operations)));
        shares
    }

    /// For each device with work: how many operations, and their share of the cost.
    pub fn totals(&self) -> BTreeMap<Device, (usize, f64)> {
        let mut totals: BTreeMap<Device, (usize, f64)> = BTreeMap::new();
        for share in self.shares() {
            let total = totals.entry(share.device).or_default();
            total.0 += share.operations;
            total.1 += share.cost;
        }
        totals
    }

    /// How often the data changes the device from one computed operation to the next.
    pub fn crossings(&self) -> usize {
        let devices: Vec<_> = self.operations.iter().filter_map(|o| o.preferred).collect();
        devices.windows(2).filter(|pair| pair[0] != pair[1]).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(operator: &str, output: &str, place: Option<Device>, cost: f64) -> Planned {
        let supported = match place {
            Some(Device::Gpu) => vec![Device::Cpu, Device::Gpu, Device::NeuralEngine],
            Some(Device::NeuralEngine) => vec![Device::Cpu, Device::NeuralEngine],
            Some(Device::Cpu) => vec![Device::Cpu],
            None => Vec::new(),
        };
        let (operator, output) = (operator.to_owned(), output.to_owned());
        let cost = place.map(|_| cost);
        Planned { operator, output, preferred: place, supported, cost }
    }

    fn plan(units: ComputeUnits, devices: &[Device]) -> ComputePlan {
        use Device::{Cpu, Gpu, NeuralEngine};
        ComputePlan {
            function: "main".to_owned(),
            units,
            devices: devices.to_vec(),
            operations: vec![
                op("const", "w", None, 0.0),
                op("linear", "a", Some(NeuralEngine), 0.5),
                op("linear", "b", Some(NeuralEngine), 0.25),
                op("gather", "c", Some(Cpu), 0.125),
                op("matmul", "d", Some(Gpu), 0.125),
            ],
        }
    }

    /// What is allowed, what there is, and the reasons of the second, fourth and fifth operation.
    type Case<'a> = (ComputeUnits, &'a [Device], [Option<Reason>; 3]);

    #[test]
    fn every_operation_off_the_neural_engine_has_a_reason() {
        use Device::{Cpu, Gpu, NeuralEngine};
        let cases: &[Case<'_>] = &[
            (
                ComputeUnits::All,
                &[Cpu, Gpu, NeuralEngine],
                [None, Some(Reason::Unsupported), Some(Reason::NotPreferred)],
            ),
            (
                ComputeUnits::CpuAndGpu,
                &[Cpu, Gpu, NeuralEngine],
                [None, Some(Reason::Units), Some(Reason::Units)],
            ),
            (
                ComputeUnits::All,
                &[Cpu, Gpu],
                [None, Some(Reason::NoDevice), Some(Reason::NoDevice)],
            ),
        ];
        for (units, devices, want) in cases {
            let plan = plan(*units, devices);
            let got = [1, 3, 4].map(|i| plan.reason(&plan.operations[i]));
            assert_eq!(got, *want, "{units}");
            assert_eq!(plan.reason(&plan.operations[0]), None, "constants are not computed");
        }
    }

    #[test]
    fn shares_add_up() {
        use Device::{Cpu, Gpu, NeuralEngine};
        let plan = plan(ComputeUnits::All, &[Cpu, Gpu, NeuralEngine]);
        let shares = plan.shares();
        let shown: Vec<_> = shares
            .iter()
            .map(|s| (s.operator.as_str(), s.operations, s.example.as_str()))
            .collect();
        assert_eq!(shown, [("linear", 2, "a"), ("gather", 1, "c"), ("matmul", 1, "d")]);
        let totals = plan.totals();
        assert_eq!(totals[&NeuralEngine], (2, 0.75));
        assert_eq!((totals[&Cpu], totals[&Gpu]), ((1, 0.125), (1, 0.125)));
        assert_eq!(plan.crossings(), 2);
    }
}
