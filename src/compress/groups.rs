//! The sizes of palette groups that the processors other than the CPU take.

use super::error::CompressError;
use super::recipe::Recipe;
use crate::quant::Code;
use crate::quant::scheme::TableGranularity;

/// coremltools' `OpPalettizerConfig` names them for the Neural Engine and the GPU.
const SIZES: [usize; 4] = [8, 16, 32, 64];

/// Refuses groups of other sizes; not for packages that are meant for the CPU alone.
pub fn check_group_sizes(recipe: &Recipe) -> Result<(), CompressError> {
    for (_, scheme) in recipe.rules() {
        if let Code::Palettize(palettize) = scheme.code
            && let TableGranularity::PerGroupedChannel(size) = palettize.granularity
            && !SIZES.contains(&size)
        {
            return Err(CompressError::GroupSize { scheme: scheme.to_string(), size });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_by_recipe() {
        let cases = [
            ("pal4-g16", None),
            ("pal4-t", None),
            ("int4-b48", None),
            ("pal4-g16,attention=pal6-g12", Some("pal6-g12")),
            ("sparse50+uniform4-g4", Some("sparse50+uniform4-g4")),
        ];
        for (recipe, refused) in cases {
            let error = check_group_sizes(&recipe.parse().unwrap()).err();
            let found = error.map(|error| error.to_string());
            assert_eq!(found.is_some(), refused.is_some(), "{recipe}: {found:?}");
            assert!(refused.is_none_or(|scheme| found.unwrap().contains(scheme)), "{recipe}");
        }
    }
}
