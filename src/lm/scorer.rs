//! Logits at every position of a window: from `init` and the package's own head, or token by token.

use crate::lm::LmError;
use crate::lm::artifact::Artifact;
use crate::lm::chunks::Chunk;
use crate::lm::layout::Role;
use crate::lm::{decoder::CacheUsage, decoder::Decoder};
use crate::lm::{engine::Engine, engine::take};
use crate::lm::{head::FUNCTION, head::Head, head::TAP};
use crate::mil::Rules;
use crate::runtime::{Loaded, Runtime, Source, Values};

/// The most logits that the head gives at once: 64 MiB.
const LOGITS: usize = 1 << 24;

/// A loaded artifact with its head; a bundle, whose `prefill` gives nothing to put a head on, has none.
pub struct Scorer<'a> {
    engine: &'a Engine,
    head: Option<(Head, Box<dyn Loaded>)>,
}

/// Called with the first of some positions that follow one another and the logits after the tokens there, row by row.
pub type EachRows<'f> = dyn FnMut(usize, &[f32]) -> Result<(), LmError> + 'f;

impl<'a> Scorer<'a> {
    /// Takes the head out of the artifact that `engine` was loaded from.
    pub fn new(
        artifact: &Artifact,
        engine: &'a Engine,
        runtime: &dyn Runtime,
    ) -> Result<Self, LmError> {
        if let Some(wiring) = artifact.wiring() {
            let path = artifact.path().to_owned();
            return if wiring.has_logits() {
                Ok(Self { engine, head: None })
            } else {
                Err(LmError::NoLogits { path })
            };
        }
        let layout = engine.decoder()?;
        let rows = (LOGITS / layout.vocab.max(1)).clamp(1, layout.chunk);
        let (package, init) =
            artifact.function(Role::Init).ok_or(LmError::NoRole { missing: "init" })?;
        let head = Head::of(init, rows)?;
        let source = Source {
            program: &head.program,
            blobs: package.blobs(),
            rules: Rules::new(),
            package: None,
        };
        let loaded = runtime.load(&source)?;
        Ok(Self::with_head(engine, head, loaded))
    }

    /// A head that is loaded already.
    pub fn with_head(engine: &'a Engine, head: Head, loaded: Box<dyn Loaded>) -> Self {
        Self { engine, head: Some((head, loaded)) }
    }

    /// Gives the logits at every position of `tokens` but the last, in order, each position once.
    pub fn score(&self, tokens: &[u32], each: &mut EachRows<'_>) -> Result<CacheUsage, LmError> {
        let mut decoder = Decoder::new(self.engine)?;
        let end = tokens.len().saturating_sub(1);
        let Some((head, loaded)) = &self.head else {
            for (position, &token) in tokens[..end].iter().enumerate() {
                let logits =
                    if position == 0 { decoder.prefill(&[token])? } else { decoder.feed(token)? };
                each(position, &logits)?;
            }
            return Ok(decoder.usage());
        };
        decoder.prefill_with(&tokens[..end], &[TAP], &mut |chunk, values| {
            let hidden = take(values, TAP)?.to_f32();
            apply(head, loaded.as_ref(), chunk, &hidden, each)
        })?;
        Ok(decoder.usage())
    }
}

/// Applies the head to the positions of a chunk that no earlier chunk had.
fn apply(
    head: &Head,
    loaded: &dyn Loaded,
    chunk: Chunk,
    hidden: &[f32],
    each: &mut EachRows<'_>,
) -> Result<(), LmError> {
    let Head { rows, width, .. } = *head;
    let new = &hidden[chunk.again * width..chunk.length * width];
    let mut position = chunk.position + chunk.again;
    for part in new.chunks(rows * width) {
        let n = part.len() / width;
        let mut padded = part.to_vec();
        padded.resize(rows * width, 0.0);
        let input = loaded.floats(&[1, rows, width], padded);
        let inputs = Values::from([(TAP.to_owned(), input)]);
        let mut values = loaded.run(FUNCTION, inputs, &mut loaded.state(), &[])?;
        let logits = take(&mut values, &head.output)?;
        let logits = logits.f32s();
        each(position, &logits[..logits.len() / rows * n])?;
        position += n;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::lm::{testing::Fake, testing::logits_after};
    use crate::mil::Program;

    #[test]
    fn every_position_is_scored_once_from_what_it_sees() {
        let tokens: Vec<u32> = (0..16).map(|i| (i * 7 + 3) % 50).collect();
        for (fake, rows) in [
            (Fake::state(16, 4), 4),
            (Fake::state(16, 8), 3),
            (Fake::state(11, 4), 4),
            (Fake::io(16), 5),
        ] {
            let engine = fake.engine();
            let program =
                Program { version: 1, functions: BTreeMap::new(), attributes: BTreeMap::new() };
            let head = Head { program, output: "logits".to_owned(), rows, width: 1 };
            let scorer = Scorer::with_head(&engine, head, Box::new(fake));
            for n in 2..=engine.decoder().unwrap().capacity {
                let mut seen = Vec::new();
                let usage = scorer.score(&tokens[..n], &mut |first, logits| {
                    let vocab = logits_after(&tokens[..=first]).len();
                    for (position, logits) in (first..).zip(logits.chunks(vocab)) {
                        assert_eq!(logits, logits_after(&tokens[..=position]), "{fake:?} {n}");
                        seen.push(position);
                    }
                    Ok(())
                });
                assert_eq!(seen, (0..n - 1).collect::<Vec<_>>());
                assert_eq!(usage.unwrap().peak_resident, n - 1);
            }
        }
    }
}
