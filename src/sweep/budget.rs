//! Budgets: which scheme for which weight, so that all fit and together lose least.
//!
//! The variants that treat all weights alike say what each weight takes and loses under each scheme, in bytes of the file
//! and as relative error t (root of the squared error over root of the squared weights). The divergence that errors cause is
//! near Σ α t² while they are small (the linearity theorem of HIGGS, arXiv 2411.17525); α is fitted for each part of the
//! model from a variant in which that part alone is compressed, or for the model as a whole from the variants that treat all
//! alike. Under that model the choice is a knapsack with one item of each row, solved exactly to the alignment of the file.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::eval::{results::Figure, results::Measurements};
use crate::manifest::{Artifact, TensorError};

/// Blobs begin at multiples of this.
pub(super) const ALIGNMENT: u64 = 64;
/// Steps of bytes that the knapsack tells apart at most; sizes are rounded up to them.
const STEPS: u64 = 1 << 16;
/// The scheme of weights that stay as they are.
const PLAIN: &str = "fp16";

/// What was expected of a variant before it was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Predicted {
    /// Root of the mean squared relative error of its weights, each counted by its elements.
    pub relative_error: f64,
    /// What it loses: mean divergence in nats, or 1 less the mean cosine where there is no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub divergence: Option<f64>,
}

/// What a search under a budget found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Search {
    /// Bytes that a package may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<u64>,
    /// Bits that a weight may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bits_per_weight: Option<f64>,
    /// Growth of the loss with the sum of the squared relative errors of a part of the model; `all` is what the
    /// variants that treat all weights alike say together.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sensitivities: BTreeMap<String, f64>,
    /// The variant that treats all weights alike which the mixed one had to beat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<String>,
    /// What came of the mixed variant, in words.
    pub outcome: String,
}

impl Search {
    /// Whether `artifact` is within the budget.
    pub fn fits(&self, artifact: &Artifact) -> bool {
        self.excess(artifact) == 0
    }

    /// Bytes by which `artifact` is too large; 0 where it fits.
    pub(super) fn excess(&self, artifact: &Artifact) -> u64 {
        let size = self.max_size.map_or(0, |max| artifact.size_bytes.saturating_sub(max));
        let weights =
            self.max_weights(artifact).map_or(0, |max| artifact.weight_bytes.saturating_sub(max));
        size.max(weights)
    }

    /// Bytes that the weight file of a package with the parameters of `artifact` may have by its bits.
    fn max_weights(&self, artifact: &Artifact) -> Option<u64> {
        self.max_bits_per_weight.map(|bits| (bits * artifact.parameters as f64 / 8.0) as u64)
    }

    /// Bytes that the weights may take in the file, where all else takes as much as in `artifact`, whose weights that
    /// are chosen take `chosen`.
    pub(super) fn room(&self, artifact: &Artifact, chosen: u64) -> u64 {
        let besides = artifact.weight_bytes.saturating_sub(chosen);
        let by_size = self.max_size.map(|max| {
            max.saturating_sub(artifact.size_bytes.saturating_sub(artifact.weight_bytes))
        });
        let room = [by_size, self.max_weights(artifact)].into_iter().flatten().min();
        room.unwrap_or(u64::MAX).saturating_sub(besides)
    }
}

/// What `measurements` say that the artifact lost: its mean divergence, or where there is no text 1 less the mean cosine of
/// its embeddings.
pub(super) fn loss(measurements: &Measurements) -> Option<Figure> {
    let text = measurements.perplexity.as_ref().map(|perplexity| perplexity.divergence.clone());
    text.or_else(|| {
        let mean = &measurements.similarity.as_ref()?.mean;
        Some(Figure { value: 1.0 - mean.value, ..mean.clone() })
    })
}

/// One way of storing a weight.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Choice {
    /// The scheme.
    pub(super) scheme: String,
    /// The bits that it gives to a weight.
    pub(super) bits: u32,
    /// Bytes in the file with what aligns them.
    pub(super) bytes: u64,
    /// The relative error.
    pub(super) error: f64,
}

/// All weights of one name and the ways of storing them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) component: String,
    pub(super) elements: u64,
    pub(super) choices: Vec<Choice>,
}

/// What is known of each weight by the variants that treat all alike.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Table {
    pub(super) rows: Vec<Row>,
}

/// Several weights of one name as one: their bytes together, their errors by their elements.
fn by_name(tensors: &[TensorError]) -> BTreeMap<&str, (&TensorError, u64, u64, f64)> {
    let mut all: BTreeMap<&str, (&TensorError, u64, u64, f64)> = BTreeMap::new();
    for tensor in tensors {
        let line = all.entry(&tensor.name).or_insert((tensor, 0, 0, 0.0));
        line.1 += tensor.elements;
        line.2 += tensor.stored_bytes;
        line.3 += tensor.elements as f64 * tensor.relative_error.unwrap_or(0.0).powi(2);
    }
    all
}

impl Table {
    /// The table of artifacts that each have one scheme for all weights, with its bits; weights that none of them compresses
    /// are left out.
    pub(super) fn of(artifacts: &[(&Artifact, u32)]) -> Self {
        let mut rows: BTreeMap<String, Row> = BTreeMap::new();
        for &(artifact, bits) in artifacts {
            for (name, (tensor, elements, bytes, squared)) in by_name(&artifact.tensors) {
                let row = rows.entry(name.to_owned()).or_insert_with(|| Row {
                    name: name.to_owned(),
                    component: tensor.component.clone(),
                    elements,
                    choices: Vec::new(),
                });
                let error = (squared / elements.max(1) as f64).sqrt();
                let known = row.choices.iter().any(|choice| choice.scheme == tensor.form);
                if is_compressed(tensor) && !known {
                    row.choices.push(Choice { scheme: tensor.form.clone(), bits, bytes, error });
                }
            }
        }
        let mut rows: Vec<Row> = rows.into_values().filter(|row| !row.choices.is_empty()).collect();
        for row in &mut rows {
            let bytes = (2 * row.elements).next_multiple_of(ALIGNMENT) + ALIGNMENT;
            row.choices.push(Choice { scheme: PLAIN.to_owned(), bits: 16, bytes, error: 0.0 });
        }
        Self { rows }
    }

    /// The parts of the model that the rows belong to.
    pub(super) fn components(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.rows.iter().map(|row| row.component.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Bytes that the weights of the table take in `artifact`.
    pub(super) fn bytes_in(&self, artifact: &Artifact) -> u64 {
        let names = by_name(&artifact.tensors);
        self.rows.iter().filter_map(|row| names.get(row.name.as_str())).map(|line| line.2).sum()
    }

    /// For each row the choice that makes the sum of α t² least with all rows in `room` bytes; nothing where even the
    /// smallest choices do not fit.
    pub(super) fn allocate(
        &self,
        room: u64,
        sensitivity: &dyn Fn(&str) -> f64,
    ) -> Option<Vec<usize>> {
        let item = |row: &Row| {
            let alpha = sensitivity(&row.component);
            let item = |choice: &Choice| (choice.bytes, alpha * choice.error.powi(2));
            row.choices.iter().map(item).collect::<Vec<_>>()
        };
        knapsack(&self.rows.iter().map(item).collect::<Vec<_>>(), room)
    }

    /// The recipe that gives each weight its choice: the scheme of most as the rule for all, the others by name.
    pub(super) fn recipe(&self, choices: &[usize]) -> String {
        let mut names: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (row, &choice) in self.rows.iter().zip(choices) {
            names.entry(&row.choices[choice].scheme).or_default().push(&row.name);
        }
        let most = names.iter().max_by_key(|(_, names)| names.len()).map(|(scheme, _)| *scheme);
        let mut rules: Vec<String> = most.iter().map(|&scheme| scheme.to_owned()).collect();
        for (scheme, names) in names.iter().filter(|(scheme, _)| Some(**scheme) != most) {
            let names: Vec<String> = names.iter().map(|name| regex::escape(name)).collect();
            rules.push(format!("/^({})$/={scheme}", names.join("|")));
        }
        rules.join(",")
    }
}

fn is_compressed(tensor: &TensorError) -> bool {
    tensor.relative_error.is_some_and(|error| error > 0.0) || tensor.bits_per_weight < 16.0
}

/// The sum of the squared relative errors of each part of the model in `artifact`.
pub(super) fn squares(artifact: &Artifact) -> BTreeMap<String, f64> {
    let mut sums: BTreeMap<String, f64> = BTreeMap::new();
    for (_, (tensor, elements, _, squared)) in by_name(&artifact.tensors) {
        *sums.entry(tensor.component.clone()).or_default() += squared / elements.max(1) as f64;
    }
    sums
}

/// Root of the mean squared relative error of the weights of `artifact`, by elements.
pub(super) fn relative_error(artifact: &Artifact) -> Option<f64> {
    let (mut squared, mut elements) = (0.0, 0_u64);
    for tensor in &artifact.tensors {
        squared += tensor.elements as f64 * tensor.relative_error?.powi(2);
        elements += tensor.elements;
    }
    (elements > 0).then(|| (squared / elements as f64).sqrt())
}

/// One of the items (bytes, cost) of each row, so that the bytes are at most `room` and the costs least.
///
/// Beyond the smallest items, bytes are told apart in steps of the alignment, or in larger ones where there are too many;
/// what rounding to these leaves over goes to the items that gain most by it.
fn knapsack(rows: &[Vec<(u64, f64)>], room: u64) -> Option<Vec<usize>> {
    let least = |row: &Vec<(u64, f64)>| row.iter().map(|item| item.0).min();
    let least: Vec<u64> = rows.iter().map(least).collect::<Option<_>>()?;
    let slack = room.checked_sub(least.iter().sum())?;
    // More than all the largest take is of no use.
    let most: u64 = rows.iter().filter_map(|row| row.iter().map(|item| item.0).max()).sum();
    let slack = slack.min(most - least.iter().sum::<u64>());
    let unit = slack.div_ceil(STEPS).max(ALIGNMENT);
    let steps = (slack / unit) as usize;
    let mut cost = vec![0.0; steps + 1];
    let mut taken: Vec<Vec<u8>> = Vec::with_capacity(rows.len());
    for (row, least) in rows.iter().zip(&least) {
        let mut next = vec![f64::INFINITY; steps + 1];
        let mut which = vec![0; steps + 1];
        for (k, (bytes, worth)) in (0..=u8::MAX).zip(row) {
            let extra = ((bytes - least).div_ceil(unit)) as usize;
            for at in extra..=steps {
                let sum = cost[at - extra] + worth;
                if sum < next[at] {
                    (next[at], which[at]) = (sum, k);
                }
            }
        }
        cost = next;
        taken.push(which);
    }
    let mut at = steps;
    let mut picked = vec![0; rows.len()];
    for i in (0..rows.len()).rev() {
        picked[i] = usize::from(taken[i][at]);
        at -= ((rows[i][picked[i]].0 - least[i]).div_ceil(unit)) as usize;
    }
    let mut left = room - rows.iter().zip(&picked).map(|(row, &k)| row[k].0).sum::<u64>();
    loop {
        let gain = |i: usize, k: usize| rows[i][picked[i]].1 - rows[i][k].1;
        let affordable = |i: usize, k: usize| rows[i][k].0 <= rows[i][picked[i]].0 + left;
        let better = (0..rows.len())
            .flat_map(|i| (0..rows[i].len()).map(move |k| (i, k)))
            .filter(|&(i, k)| affordable(i, k) && gain(i, k) > 0.0)
            .max_by(|&(i, k), &(j, l)| gain(i, k).total_cmp(&gain(j, l)));
        let Some((i, k)) = better else { return Some(picked) };
        left = left + rows[i][picked[i]].0 - rows[i][k].0;
        picked[i] = k;
    }
}

/// What errors cost: the sensitivity of each part of the model, and what is lost without any error.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Model {
    /// The loss of the baseline.
    pub(super) floor: f64,
    /// By part of the model.
    pub(super) by_component: BTreeMap<String, f64>,
    /// What counts for parts of which nothing is known.
    pub(super) pooled: f64,
}

impl Model {
    /// One sensitivity for all parts, from `points`: the squared errors by part of variants, and what each loses.
    ///
    /// It is the geometric mean of loss over squared error, so that no variant counts more for being worse.
    pub(super) fn pooled(floor: f64, points: &[(BTreeMap<String, f64>, f64)]) -> Option<Self> {
        let ratio = |(squares, loss): &(BTreeMap<String, f64>, f64)| {
            let sum: f64 = squares.values().sum();
            (sum > 0.0 && *loss > floor).then(|| ((loss - floor) / sum).ln())
        };
        let logs: Vec<f64> = points.iter().filter_map(ratio).filter(|x| x.is_finite()).collect();
        let mean = logs.iter().sum::<f64>() / logs.len() as f64;
        let pooled = mean.exp();
        (!logs.is_empty()).then(|| Self { floor, by_component: BTreeMap::new(), pooled })
    }

    /// Learns the sensitivity of a part from the variant in which it alone has errors, `square` in all. Where that loses
    /// nothing that can be told from the baseline, the part counts little, but not nothing.
    pub(super) fn learn(&mut self, component: &str, square: f64, loss: f64) {
        if square > 0.0 && loss.is_finite() {
            let alpha = ((loss - self.floor) / square).max(self.pooled * LITTLE);
            self.by_component.insert(component.to_owned(), alpha);
        }
    }

    /// How much an error of a part costs.
    pub(super) fn sensitivity(&self, component: &str) -> f64 {
        self.by_component.get(component).copied().unwrap_or(self.pooled)
    }

    /// What a variant with these squared errors by part will lose.
    pub(super) fn predict(&self, squares: &BTreeMap<String, f64>) -> f64 {
        let cost = |(component, square): (&String, &f64)| self.sensitivity(component) * square;
        self.floor + squares.iter().map(cost).sum::<f64>()
    }
}

/// The least part of the pooled sensitivity that a part of the model has.
const LITTLE: f64 = 0.01;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cost(rows: &[Vec<(u64, f64)>], picked: &[usize]) -> (u64, f64) {
        let items = rows.iter().zip(picked).map(|(row, &k)| row[k]);
        items.fold((0, 0.0), |(bytes, cost), item| (bytes + item.0, cost + item.1))
    }

    /// The least cost of all choices that fit.
    fn by_trying(rows: &[Vec<(u64, f64)>], room: u64) -> Option<f64> {
        let Some((row, rest)) = rows.split_first() else { return Some(0.0) };
        row.iter()
            .filter_map(|&(bytes, cost)| Some(cost + by_trying(rest, room.checked_sub(bytes)?)?))
            .min_by(f64::total_cmp)
    }

    proptest! {
        #[test]
        fn the_knapsack_is_exact(
            rows in prop::collection::vec(prop::collection::vec((1_u64..40, 0.0_f64..9.0), 1..5), 1..6),
            room in 0_u64..140,
        ) {
            let rows: Vec<Vec<(u64, f64)>> = rows
                .into_iter()
                .map(|row| row.into_iter().map(|(n, c)| (n * ALIGNMENT, c)).collect())
                .collect();
            let room = room * ALIGNMENT + 17;
            let picked = knapsack(&rows, room);
            let want = by_trying(&rows, room);
            prop_assert_eq!(picked.is_some(), want.is_some());
            if let (Some(picked), Some(want)) = (picked, want) {
                let (bytes, cost) = cost(&rows, &picked);
                prop_assert!(bytes <= room);
                prop_assert!((cost - want).abs() < 1e-9, "{} {}", cost, want);
            }
        }
    }

    #[test]
    fn what_rounding_leaves_over_is_used() {
        // So large that steps are of 16 KiB: all but the last pair must still fit.
        let rows: Vec<Vec<(u64, f64)>> =
            (0..64).map(|_| vec![(1 << 20, 9.0), ((1 << 24) + 64, 1.0)]).collect();
        let room = 64 * ((1 << 24) + 64);
        let picked = knapsack(&rows, room).unwrap();
        assert!(picked.iter().all(|&k| k == 1), "{picked:?}");
        assert_eq!(knapsack(&rows, (64 << 20) - 1), None);
    }

    fn tensor(name: &str, component: &str, form: &str, bytes: u64, error: f64) -> TensorError {
        TensorError {
            name: name.to_owned(),
            component: component.to_owned(),
            form: form.to_owned(),
            elements: 4096,
            stored_bytes: bytes,
            bits_per_weight: bytes as f64 * 8.0 / 4096.0,
            relative_error: Some(error),
            ..TensorError::default()
        }
    }

    fn artifact(form: &str, bytes: u64, error: f64) -> Artifact {
        let tensors = vec![
            tensor("l_attn_q", "attention", form, bytes, error),
            tensor("l_mlp_up", "mlp", form, bytes, 2.0 * error),
            tensor("l_mlp_down", "mlp", form, bytes, error),
            tensor("lora_A", "adapter", "fp16", 8256, 0.0),
        ];
        let mut artifact = Artifact::from_files(Vec::new(), 16384);
        (artifact.weight_bytes, artifact.size_bytes) = (3 * bytes + 9000, 3 * bytes + 10000);
        Artifact { tensors, ..artifact }
    }

    #[test]
    fn mixes_follow_from_what_uniform_variants_say() {
        let (eight, four) = (artifact("pal8-g16", 4160, 0.01), artifact("pal4-g16", 2112, 0.1));
        let table = Table::of(&[(&eight, 8), (&four, 4)]);
        assert_eq!(table.components(), ["attention", "mlp"], "what nobody compresses is no choice");
        let bits: Vec<u32> = table.rows[0].choices.iter().map(|choice| choice.bits).collect();
        assert_eq!(bits, [8, 4, 16], "those of the variants, whatever numbers their names have");
        assert_eq!((table.bytes_in(&eight), table.bytes_in(&four)), (3 * 4160, 3 * 2112));
        // Room for one weight at 8 bits: the one whose error costs most.
        let max = |bytes| Search { max_size: Some(bytes), ..Search::default() };
        let search = max(10000 + 4160 + 2 * 2112);
        assert_eq!(search.room(&four, table.bytes_in(&four)), 4160 + 2 * 2112);
        let recipe = |room, sensitivity: &dyn Fn(&str) -> f64| {
            table.allocate(room, sensitivity).map(|choices| table.recipe(&choices))
        };
        let room = 4160 + 2 * 2112;
        assert_eq!(recipe(room, &|_| 1.0).unwrap(), "pal4-g16,/^(l_mlp_up)$/=pal8-g16");
        let attention = |c: &str| if c == "attention" { 9.0 } else { 1.0 };
        assert_eq!(recipe(room, &attention).unwrap(), "pal4-g16,/^(l_attn_q)$/=pal8-g16");
        assert_eq!(recipe(3 * 2112, &attention).unwrap(), "pal4-g16");
        assert_eq!(recipe(3 * 2112 - 1, &attention), None);
        // Three in fp16, with their records.
        assert_eq!(recipe(3 * 8256, &|_| 1.0).unwrap(), "fp16");
        assert!(max(10000 + 3 * 2112).fits(&four) && !max(10000 + 3 * 2112).fits(&eight));
        assert_eq!(max(10000 + 3 * 4160 - 5).excess(&eight), 5);
        let bits = Search { max_bits_per_weight: Some(8.0), ..Search::default() };
        // 16384 weights of 8 bits.
        assert_eq!(bits.excess(&eight), (3 * 4160 + 9000_u64).saturating_sub(16384));
    }

    #[test]
    fn losses_are_predicted_from_squared_errors() {
        let (eight, four) =
            (squares(&artifact("pal8-g16", 4160, 0.01)), squares(&artifact("p", 2112, 0.1)));
        assert!((four["mlp"] - 0.05).abs() < 1e-12 && (four["attention"] - 0.01).abs() < 1e-12);
        // 3 a unit of squared error, once more and once less by a factor of 2.
        let points = [(eight, 0.5 + 6.0 * 0.0006), (four.clone(), 0.5 + 1.5 * 0.06)];
        let mut model = Model::pooled(0.5, &points).unwrap();
        assert!((model.pooled - 3.0).abs() < 1e-9, "{model:?}");
        assert!((model.predict(&four) - 0.68).abs() < 1e-9);
        model.learn("attention", 0.01, 0.6);
        model.learn("mlp", 0.05, 0.4);
        assert!((model.sensitivity("attention") - 10.0).abs() < 1e-9);
        assert!((model.sensitivity("mlp") - 0.03).abs() < 1e-9, "little, but not nothing");
        assert!((model.predict(&four) - (0.5 + 0.1 + 0.0015)).abs() < 1e-9);
        assert_eq!(Model::pooled(0.5, &[(four, 0.4)]), None);
    }
}
