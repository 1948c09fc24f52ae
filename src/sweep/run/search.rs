//! The search under a budget: bits go down until something fits, then a mix is worked out, made, measured, and kept only if
//! it is better than what treats all weights alike.

use std::collections::BTreeMap;

use super::keep::value;
use super::steps::Runner;
use super::{Entry, RunError};
use crate::eval::results::Paired;
use crate::manifest::Artifact;
use crate::sweep::budget::{ALIGNMENT, Model, Predicted, Search, Table, relative_error, squares};
use crate::sweep::spec::{BudgetSpec, FALLBACK_RECIPES, N_PLANNED_FALLBACKS};
use crate::sweep::{Variant, names};

/// The name of the variant that the search works out.
const MIXED: &str = "mixed";
/// Maximum number of retries for a mix that exceeds the budget.
const TRIES: usize = 4;

/// Looks for the best variant within `budget`; `entries` are what was asked for, and what is made on the way is added.
pub(super) fn search(
    runner: &Runner<'_>,
    budget: &BudgetSpec,
    entries: &mut Vec<Entry>,
) -> Result<Search, RunError> {
    let BudgetSpec { max_size, max_bits_per_weight, probes } = *budget;
    let mut search = Search { max_size, max_bits_per_weight, ..Search::default() };
    let fitting = |entries: &[Entry], search: &Search| {
        uniform(entries).iter().any(|&i| artifact(&entries[i]).is_some_and(|a| search.fits(a)))
    };
    for (recipe, bits) in &FALLBACK_RECIPES[N_PLANNED_FALLBACKS..] {
        if !fitting(entries, &search) && !entries.iter().any(|e| e.variant.recipe == *recipe) {
            add(runner, entries, names::of_recipe(recipe), recipe, *bits)?;
        }
    }
    let alike = uniform(entries);
    let artifacts: Vec<(&Artifact, u32)> = alike
        .iter()
        .filter_map(|&i| Some((artifact(&entries[i])?, entries[i].variant.bits)))
        .collect();
    let table = Table::of(&artifacts);
    let Some(floor) = entries.first().and_then(value) else {
        "nothing says which variant is better: give `text` or `sentences` to evaluate"
            .clone_into(&mut search.outcome);
        return Ok(search);
    };
    let points: Vec<(BTreeMap<String, f64>, f64)> = alike
        .iter()
        .filter_map(|&i| Some((squares(artifact(&entries[i])?), value(&entries[i])?.value)))
        .collect();
    let Some(mut model) = Model::pooled(floor.value, &points) else {
        "no variant that treats all weights alike loses anything".clone_into(&mut search.outcome);
        return Ok(search);
    };
    let components: Vec<String> = table.components().iter().map(|&c| c.to_owned()).collect();
    if probes && components.len() > 1 {
        probe(runner, entries, &alike, &components, &mut model)?;
    }
    search.sensitivities = model.by_component.clone();
    search.sensitivities.insert("all".to_owned(), model.pooled);
    for &i in &alike {
        entries[i].predicted = predicted(&entries[i], &model);
    }
    mix(runner, entries, &table, &model, &mut search)?;
    Ok(search)
}

/// Works out a mix, makes it, measures it, and compares it with the best of those that treat all weights alike.
fn mix(
    runner: &Runner<'_>,
    entries: &mut Vec<Entry>,
    table: &Table,
    model: &Model,
    search: &mut Search,
) -> Result<(), RunError> {
    let alike = uniform(entries);
    let room = |search: &Search| {
        let room = |a: &Artifact| search.room(a, table.bytes_in(a));
        alike.iter().filter_map(|&i| artifact(&entries[i])).map(room).min().unwrap_or(0)
    };
    let mut room = room(search);
    let mut made = None;
    for _ in 0..TRIES {
        let sensitivity = |component: &str| model.sensitivity(component);
        let Some(choices) = table.allocate(room, &sensitivity) else {
            "no mix of the schemes at hand fits".clone_into(&mut search.outcome);
            return Ok(());
        };
        let recipe = table.recipe(&choices);
        if let Some(same) = entries.iter().find(|entry| entry.variant.recipe == recipe) {
            search.outcome = format!("no mix is expected to be better than {}", same.variant.name);
            return Ok(());
        }
        let name = free_name(entries, MIXED, &recipe);
        let bits = choices.iter().zip(&table.rows).map(|(&k, row)| row.choices[k].bits);
        let bits = bits.min().unwrap_or(16);
        let mut entry = [Entry::new(Variant { name, recipe, bits })];
        runner.expect([&entry[0].variant]);
        runner.build_missing(&mut entry)?;
        let excess = artifact(&entry[0]).map(|artifact| search.excess(artifact));
        let [entry] = entry;
        match excess {
            Some(0) | None => {
                made = Some(entry);
                break;
            }
            Some(excess) => {
                runner.drop(&entry.variant)?;
                room = room.saturating_sub(excess.next_multiple_of(ALIGNMENT));
            }
        }
    }
    let Some(mut entry) = made else {
        "every mix that was made is too large".clone_into(&mut search.outcome);
        return Ok(());
    };
    if entry.failure.is_none() {
        entry.predicted = predicted(&entry, model);
        runner.settle(std::slice::from_mut(&mut entry))?;
    }
    let rival = alike
        .iter()
        .map(|&i| &entries[i])
        .filter(|other| artifact(other).is_some_and(|artifact| search.fits(artifact)))
        .filter_map(|other| Some((other, value(other)?.value)))
        .min_by(|a, b| a.1.total_cmp(&b.1));
    search.outcome = match (value(&entry), rival) {
        (None, _) => format!("{} could not be measured", entry.variant.name),
        (Some(_), None) => format!("{} fits, and nothing else does", entry.variant.name),
        (Some(own), Some((rival, theirs))) => {
            search.against = Some(rival.variant.name.clone());
            let pair = runner.pair(rival, &entry);
            let (name, rival) = (&entry.variant.name, &rival.variant.name);
            let figures = format!("{:.6} {} against {theirs:.6}", own.value, own.unit);
            // On the same tokens, if that is known: what makes a token hard for both does not count.
            let surely = pair.as_ref().map_or(own.value < theirs, |p| p.divergence.high < 0.0);
            let interval = pair.map_or_else(String::new, |Paired { divergence: d, .. }| {
                format!(
                    ", on the same tokens {:+.6}, within {:+.6} and {:+.6}",
                    d.value, d.low, d.high
                )
            });
            if surely {
                format!("{name} loses less than {rival}: {figures}{interval}")
            } else {
                let outcome =
                    format!("{name} does not surely lose less than {rival}: {figures}{interval}");
                entry.rejected = Some(outcome.clone());
                outcome
            }
        }
    };
    runner.progress.note(&search.outcome);
    entries.push(entry);
    Ok(())
}

/// Compresses each part of the model alone, by the coarsest scheme that was measured, and learns from what that loses.
fn probe(
    runner: &Runner<'_>,
    entries: &[Entry],
    alike: &[usize],
    components: &[String],
    model: &mut Model,
) -> Result<(), RunError> {
    let measured = alike.iter().map(|&i| &entries[i]).filter(|entry| value(entry).is_some());
    let size = |entry: &&Entry| artifact(entry).map_or(u64::MAX, |a| a.size_bytes);
    let Some(coarsest) = measured.min_by_key(size) else { return Ok(()) };
    let variant = |component: &String| Variant {
        name: format!("probe-{component}"),
        recipe: format!("{component}={}", coarsest.variant.recipe),
        bits: coarsest.variant.bits,
    };
    let mut probes: Vec<Entry> = components.iter().map(variant).map(Entry::new).collect();
    runner.expect(probes.iter().map(|probe| &probe.variant));
    runner.build_missing(&mut probes)?;
    runner.measure_missing(&mut probes)?;
    for (component, probe) in components.iter().zip(&probes) {
        if let (Some(artifact), Some(loss)) = (artifact(probe), value(probe)) {
            let square = squares(artifact).get(component).copied().unwrap_or(0.0);
            model.learn(component, square, loss.value);
        }
        runner.drop(&probe.variant)?;
    }
    Ok(())
}

fn add(
    runner: &Runner<'_>,
    entries: &mut Vec<Entry>,
    name: String,
    recipe: &str,
    bits: u32,
) -> Result<(), RunError> {
    let mut entry = [Entry::new(Variant { name, recipe: recipe.to_owned(), bits })];
    runner.expect([&entry[0].variant]);
    runner.bring(&mut entry)?;
    entries.extend(entry);
    Ok(())
}

/// The entries with one scheme for all weights, the baseline apart.
fn uniform(entries: &[Entry]) -> Vec<usize> {
    let alike = |entry: &Entry| {
        !entry.variant.is_baseline()
            && !entry.variant.recipe.contains([',', '='])
            && artifact(entry).is_some_and(|artifact| !artifact.tensors.is_empty())
    };
    (0..entries.len()).filter(|&i| alike(&entries[i])).collect()
}

fn artifact(entry: &Entry) -> Option<&Artifact> {
    entry.built.as_ref().map(|built| &built.artifact)
}

fn predicted(entry: &Entry, model: &Model) -> Option<Predicted> {
    let artifact = artifact(entry)?;
    let divergence = Some(model.predict(&squares(artifact)));
    Some(Predicted { relative_error: relative_error(artifact)?, divergence })
}

/// `name`, or a longer one where a variant has it.
fn free_name(entries: &[Entry], name: &str, recipe: &str) -> String {
    let taken = entries.iter().any(|entry| entry.variant.name.eq_ignore_ascii_case(name));
    if taken { names::marked(name, recipe) } else { name.to_owned() }
}
