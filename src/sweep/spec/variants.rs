//! `[variants]`: recipes, grids and mixes become variants, each recipe once.

use std::ops::Range;

use toml::Spanned;

use super::Wrong;
use super::either::{TextOrList, TextOrNumber, TextOrTable};
use super::raw::{Grid, Method, Mix, Variants};
use crate::base::toml_error::TomlError as SpecError;
use crate::sweep::names;
use crate::sweep::plan::{BASELINE, Variant};

/// Default recipes of a grid: supported by all compute units.
const PALETTE_BITS: [u32; 3] = [8, 6, 4];
const LINEAR_BITS: [u32; 2] = [8, 4];
const PALETTE_SIZES: [&str; 4] = ["g8", "g16", "g32", "t"];

/// First recipes of a budget search without variants; the bits decrease until a variant fits.
pub(in crate::sweep) const FALLBACK_RECIPES: [(&str, u32); 5] =
    [("pal8-g16", 8), ("pal6-g16", 6), ("pal4-g16", 4), ("pal3-g16", 3), ("pal2-g16", 2)];
/// Number of them that are always run.
pub(in crate::sweep) const N_PLANNED_FALLBACKS: usize = 3;

/// The most variants of a sweep: lists in a mix multiply, and one list more is a mistake sooner than a wish.
const MOST: usize = 4096;

/// A requested variant: position in the file, name, recipe.
type Asked = (Range<usize>, Option<String>, String);

pub(super) fn variants(
    raw: Option<Spanned<Variants>>,
    has_budget: bool,
    wrong: &Wrong<'_>,
    bits_of: &dyn Fn(&str) -> Result<u32, String>,
) -> Result<Vec<Variant>, SpecError> {
    let span = raw.as_ref().map_or(0..0, Spanned::span);
    let raw = raw.map(Spanned::into_inner).unwrap_or_default();
    let mut asked: Vec<Asked> = Vec::new();
    for entry in raw.recipes {
        let span = entry.span();
        match entry.into_inner() {
            TextOrTable::Text(recipe) => asked.push((span, None, recipe)),
            TextOrTable::Table(named) => asked.push((span, Some(named.name), named.recipe)),
        }
    }
    if let Some(grid) = raw.grid {
        grids(grid, wrong, &mut asked)?;
    }
    for mix in raw.mixes {
        let (span, mix) = (mix.span(), mix.into_inner());
        let recipes = mixed(&mix).map_err(|what| wrong(span.clone(), what))?;
        asked.extend(recipes.into_iter().map(|recipe| (span.clone(), None, recipe)));
    }
    if asked.len() > MOST {
        return Err(wrong(span, format!("{} variants are more than {MOST}", asked.len())));
    }
    if asked.is_empty() && has_budget {
        let rung = |(recipe, _): &(&str, u32)| (span.clone(), None, (*recipe).to_owned());
        asked.extend(FALLBACK_RECIPES[..N_PLANNED_FALLBACKS].iter().map(rung));
    }
    if asked.is_empty() {
        let what = "there are no variants: neither `recipes` nor `grid` nor `mixes`".to_owned();
        return Err(wrong(span, what));
    }
    let baseline = bits_of(BASELINE).map_err(|what| wrong(span, what))?;
    let first = Variant { name: BASELINE.to_owned(), recipe: BASELINE.to_owned(), bits: baseline };
    let mut out: Vec<Variant> = vec![first];
    for (span, name, recipe) in asked {
        let bits = bits_of(&recipe).map_err(|what| wrong(span.clone(), what))?;
        if out.iter().any(|v| v.recipe == recipe) {
            continue;
        }
        // File systems that fold case would make two such names one file.
        let taken = |name: &str| out.iter().any(|v| v.name.eq_ignore_ascii_case(name));
        let name = match name {
            Some(name) if !names::is_plain(&name) => {
                let what = format!("name `{name}` is no plain file name");
                return Err(wrong(span, what));
            }
            Some(name) if taken(&name) => {
                return Err(wrong(span, format!("two variants have the name `{name}`")));
            }
            Some(name) => name,
            None => {
                let name = names::of_recipe(&recipe);
                if taken(&name) { names::marked(&name, &recipe) } else { name }
            }
        };
        out.push(Variant { name, recipe, bits });
    }
    Ok(out)
}

fn grids(
    grid: Spanned<TextOrList<Spanned<Grid>>>,
    wrong: &Wrong<'_>,
    asked: &mut Vec<Asked>,
) -> Result<(), SpecError> {
    let span = grid.span();
    let tables = match grid.into_inner() {
        TextOrList::Text(word) if word == "default" => {
            let all = |method| Grid { method, bits: None, group_sizes: None };
            vec![(span.clone(), all(Method::Palettize)), (span, all(Method::Linear))]
        }
        TextOrList::Text(word) => {
            let hint = crate::base::did_you_mean::did_you_mean(&word, ["default"]);
            let hint = hint.map(|name| format!("did you mean `{name}`"));
            let what = format!("grid `{word}` is not `default`");
            return Err(wrong(span, what).with_hint(hint));
        }
        TextOrList::List(tables) => {
            tables.into_iter().map(|table| (table.span(), table.into_inner())).collect()
        }
    };
    for (span, Grid { method, bits, group_sizes }) in tables {
        let words = match method {
            Method::Palettize => "pal",
            Method::Linear => "int",
        };
        let bits = bits.unwrap_or_else(|| match method {
            Method::Palettize => PALETTE_BITS.to_vec(),
            Method::Linear => LINEAR_BITS.to_vec(),
        });
        for bits in bits {
            let sizes = match &group_sizes {
                None => default_sizes(method, bits),
                Some(given) => given
                    .iter()
                    .map(|size| size_word(method, size))
                    .collect::<Result<_, _>>()
                    .map_err(|what| wrong(span.clone(), what))?,
            };
            for size in sizes {
                asked.push((span.clone(), None, format!("{words}{bits}-{size}")));
            }
        }
    }
    Ok(())
}

fn default_sizes(method: Method, bits: u32) -> Vec<String> {
    let sizes: &[&str] = match (method, bits) {
        (Method::Palettize, _) => &PALETTE_SIZES,
        (Method::Linear, 8) => &["c"],
        (Method::Linear, _) => &["b32", "b64"],
    };
    sizes.iter().map(|&size| size.to_owned()).collect()
}

/// Group size in the notation of schemes: `g16`, `b32`, `t`, `c`.
fn size_word(method: Method, size: &TextOrNumber) -> Result<String, String> {
    match (method, size) {
        (Method::Palettize, TextOrNumber::Number(n)) => Ok(format!("g{n}")),
        (Method::Linear, TextOrNumber::Number(n)) => Ok(format!("b{n}")),
        (_, TextOrNumber::Text(word)) if word == "tensor" => Ok("t".to_owned()),
        (Method::Linear, TextOrNumber::Text(word)) if word == "channel" => Ok("c".to_owned()),
        (Method::Palettize, TextOrNumber::Text(word)) => {
            Err(format!("group size `{word}` of palettes is neither a number nor `tensor`"))
        }
        (Method::Linear, TextOrNumber::Text(word)) => Err(format!(
            "group size `{word}` of integers is neither a number nor `channel` nor `tensor`"
        )),
    }
}

/// The recipes of a mix: every choice for every part.
fn mixed(mix: &Mix) -> Result<Vec<String>, String> {
    let Mix { attention, mlp, embedding, head, adapter, other, rest } = mix;
    let parts = [
        ("", rest),
        ("attention=", attention),
        ("mlp=", mlp),
        ("embedding=", embedding),
        ("head=", head),
        ("adapter=", adapter),
        ("other=", other),
    ];
    let mut recipes = vec![String::new()];
    for (part, schemes) in parts.iter().filter(|(_, schemes)| !schemes.is_empty()) {
        let n = recipes.len().saturating_mul(schemes.len());
        if n > MOST {
            return Err(format!("a mix of {n} variants, which is more than {MOST}"));
        }
        let with = |recipe: &String| {
            let comma = if recipe.is_empty() { "" } else { "," };
            let with = |scheme: &String| format!("{recipe}{comma}{part}{scheme}");
            schemes.iter().map(with).collect::<Vec<_>>()
        };
        recipes = recipes.iter().flat_map(with).collect();
    }
    if recipes == [String::new()] { Err("a mix of nothing".to_owned()) } else { Ok(recipes) }
}
