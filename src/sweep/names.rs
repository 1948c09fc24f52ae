//! Names of variants: what a recipe is called as a file, alone and among others.

use crate::base::digest;

/// Longest name that is not cut.
const LONGEST: usize = 80;

/// The name of the variant made by `recipe`, fit for every file system.
///
/// `attention=pal6-g16,mlp=pal4-g16` becomes `attention-pal6-g16_mlp-pal4-g16`.
pub fn of_recipe(recipe: &str) -> String {
    let plain = |c: char| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '+' | '-' => c,
        ',' => '_',
        _ => '-',
    };
    let name: String = recipe.chars().map(plain).collect();
    let name = name.trim_start_matches('.');
    if name.is_empty() || name.len() > LONGEST { marked(name, recipe) } else { name.to_owned() }
}

/// `name`, cut where it is long, with eight digits of the recipe's SHA-256: other recipes have other names.
pub(super) fn marked(name: &str, recipe: &str) -> String {
    let digest = digest::of_bytes(recipe.as_bytes());
    let short: String = name.chars().take(LONGEST).collect();
    format!("{short}~{}", &digest[..8])
}

/// True if a name chosen by hand is fit for every file system.
pub(super) fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.len() <= LONGEST && of_recipe(name) == name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_become_file_names() {
        for (recipe, want) in [
            ("pal4-g16", "pal4-g16"),
            ("sparse50+pal4-g16", "sparse50+pal4-g16"),
            ("attention=pal6-g16,mlp=pal4-g16", "attention-pal6-g16_mlp-pal4-g16"),
            ("../etc", "-etc"),
            ("/.*q_proj/=fp16", "-.-q-proj--fp16"),
        ] {
            assert_eq!(of_recipe(recipe), want);
        }
        let long = of_recipe(&"a".repeat(100));
        assert_eq!(long.len(), LONGEST + 9);
        assert_ne!(long, of_recipe(&"a".repeat(101)));
    }

    #[test]
    fn names_chosen_by_hand_stay_in_their_folder() {
        for (name, want) in
            [("mix", true), ("a.b-c+1", true), ("", false), ("..", false), ("a/b", false)]
        {
            assert_eq!(is_plain(name), want, "{name}");
        }
    }
}
