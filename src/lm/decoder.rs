//! Drives `init` and `decode`: feeds tokens at their positions in both KV cache layouts and records cache usage.

use crate::base::cancel;
use crate::lm::LmError;
use crate::lm::{chunks::Chunk, chunks::chunks};
use crate::lm::{engine::Engine, engine::take};
use crate::lm::{layout::CacheForm, layout::DecoderLayout, layout::Role};
use crate::runtime::{State, Value, Values};

/// One sequence of tokens in the cache of a loaded artifact.
pub struct Decoder<'a> {
    engine: &'a Engine,
    layout: DecoderLayout,
    state: State,
    /// Keys and values of [`CacheForm::Io`], once there are any.
    held: Option<[Value; 2]>,
    resident: Vec<u32>,
    usage: CacheUsage,
}

/// KV cache usage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheUsage {
    /// Most positions in use at once.
    pub peak_resident: usize,
    /// Number of evicted tokens.
    pub evictions: u64,
}

impl CacheUsage {
    /// The usage of two sequences, one after the other.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            peak_resident: self.peak_resident.max(other.peak_resident),
            evictions: self.evictions + other.evictions,
        }
    }
}

/// Called with each chunk of a prompt and the values of its call.
pub type EachChunk<'f> = dyn FnMut(Chunk, &mut Values) -> Result<(), LmError> + 'f;

impl<'a> Decoder<'a> {
    /// An empty sequence.
    pub fn new(engine: &'a Engine) -> Result<Self, LmError> {
        let layout = engine.decoder()?;
        let state = engine.state(Role::Init)?;
        let usage = CacheUsage::default();
        Ok(Self { engine, layout, state, held: None, resident: Vec::new(), usage })
    }

    /// The tokens whose keys and values are in the cache.
    pub fn resident(&self) -> &[u32] {
        &self.resident
    }

    /// Returns the KV cache usage so far.
    pub fn usage(&self) -> CacheUsage {
        self.usage
    }

    /// Resets the sequence and feeds `tokens`; returns the logits after the last token.
    pub fn prefill(&mut self, tokens: &[u32]) -> Result<Vec<f32>, LmError> {
        let mut logits = Vec::new();
        self.prefill_with(tokens, &[], &mut |_, values| {
            logits = take(values, "logits")?.to_f32();
            Ok(())
        })?;
        Ok(logits)
    }

    /// Resets the sequence and feeds `tokens`; passes the outputs of each chunk, with the values named in `taps`, to `each`.
    pub fn prefill_with(
        &mut self,
        tokens: &[u32],
        taps: &[&str],
        each: &mut EachChunk<'_>,
    ) -> Result<(), LmError> {
        let DecoderLayout { capacity, chunk: size, .. } = self.layout;
        if tokens.is_empty() {
            return Err(LmError::EmptyPrompt);
        }
        if tokens.len() > capacity {
            return Err(LmError::PromptTooLong { tokens: tokens.len(), capacity });
        }
        self.check(tokens)?;
        // Old keys and values need no clearing: a query sees only positions up to its own, which are written anew.
        self.resident.clear();
        for chunk in chunks(0, tokens.len(), size, capacity) {
            cancel::check()?;
            let mut values = self.init(&tokens[chunk.position..][..chunk.length], chunk, taps)?;
            self.resident.truncate(chunk.position);
            self.resident.extend(&tokens[chunk.position..][..chunk.length]);
            self.count();
            each(chunk, &mut values)?;
        }
        Ok(())
    }

    /// Feeds one more token; gives the logits after it.
    ///
    /// If the cache is full, the older half is evicted and the newer half is fed again with the token.
    pub fn feed(&mut self, token: u32) -> Result<Vec<f32>, LmError> {
        cancel::check()?;
        self.check(&[token])?;
        let capacity = self.layout.capacity;
        if self.resident.len() == capacity {
            let leaving = capacity - capacity / 2;
            let mut kept = self.resident.split_off(leaving);
            kept.push(token);
            self.usage.evictions += leaving as u64;
            return self.prefill(&kept);
        }
        let position = self.resident.len();
        let mut inputs = Values::from([
            ("input_ids".to_owned(), self.engine.ints(&[1, 1], vec![token as i32])),
            ("position".to_owned(), self.engine.ints(&[1], vec![position as i32])),
        ]);
        if let Some([keys, values]) = self.held.take() {
            inputs.insert("keyCache".to_owned(), keys);
            inputs.insert("valueCache".to_owned(), values);
        }
        let mut values = self.engine.run(Role::Decode, inputs, &mut self.state, &[])?;
        self.hold(&mut values, ["keyCacheOut", "valueCacheOut"])?;
        self.resident.push(token);
        self.count();
        Ok(take(&mut values, "logits")?.to_f32())
    }

    fn init(&mut self, tokens: &[u32], chunk: Chunk, taps: &[&str]) -> Result<Values, LmError> {
        let size = self.layout.chunk;
        let mut ids: Vec<i32> = tokens.iter().map(|&token| token as i32).collect();
        ids.resize(size, 0);
        let mut inputs = Values::from([
            ("input_ids".to_owned(), self.engine.ints(&[1, size], ids)),
            ("length".to_owned(), self.engine.ints(&[1], vec![chunk.length as i32])),
        ]);
        if self.layout.cache == CacheForm::State {
            let position = self.engine.ints(&[1], vec![chunk.position as i32]);
            inputs.insert("position".to_owned(), position);
        }
        let mut values = self.engine.run(Role::Init, inputs, &mut self.state, taps)?;
        self.hold(&mut values, ["keyCache", "valueCache"])?;
        Ok(values)
    }

    fn hold(&mut self, values: &mut Values, names: [&str; 2]) -> Result<(), LmError> {
        if self.layout.cache == CacheForm::Io {
            self.held = Some([take(values, names[0])?, take(values, names[1])?]);
        }
        Ok(())
    }

    fn check(&self, tokens: &[u32]) -> Result<(), LmError> {
        let vocab = self.layout.vocab;
        match tokens.iter().find(|&&token| token as usize >= vocab) {
            Some(&token) => Err(LmError::NoToken { token, vocab }),
            None => Ok(()),
        }
    }

    fn count(&mut self) {
        self.usage.peak_resident = self.usage.peak_resident.max(self.resident.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lm::{testing::Fake, testing::logits_after};

    #[test]
    fn prefill_and_steps_see_each_token_once_at_its_position() {
        let tokens: Vec<u32> = (0..40).map(|i| (i * 7 + 3) % 50).collect();
        for fake in [Fake::state(16, 4), Fake::state(10, 4), Fake::state(16, 16), Fake::io(16)] {
            let engine = fake.engine();
            let capacity = engine.decoder().unwrap().capacity;
            for prompt in 1..=capacity {
                let mut decoder = Decoder::new(&engine).unwrap();
                let logits = decoder.prefill(&tokens[..prompt]).unwrap();
                assert_eq!(logits, logits_after(&tokens[..prompt]), "{fake:?}, prompt {prompt}");
                for n in prompt + 1..=capacity {
                    let logits = decoder.feed(tokens[n - 1]).unwrap();
                    assert_eq!(logits, logits_after(&tokens[..n]), "{fake:?}, {prompt} then {n}");
                }
                let usage = CacheUsage { peak_resident: capacity, evictions: 0 };
                assert_eq!(decoder.usage(), usage);
            }
        }
    }

    #[test]
    fn a_full_cache_keeps_its_younger_half() {
        let tokens: Vec<u32> = (0..40).map(|i| (i * 7 + 3) % 50).collect();
        for fake in [Fake::state(16, 4), Fake::io(16), Fake::state(10, 4)] {
            let engine = fake.engine();
            let capacity = engine.decoder().unwrap().capacity;
            let mut decoder = Decoder::new(&engine).unwrap();
            decoder.prefill(&tokens[..capacity]).unwrap();
            for n in capacity + 1..=capacity + capacity / 2 {
                let logits = decoder.feed(tokens[n - 1]).unwrap();
                assert_eq!(
                    logits,
                    logits_after(&tokens[capacity - capacity / 2..n]),
                    "{fake:?} {n}"
                );
            }
            let usage = decoder.usage();
            assert_eq!(usage.evictions, (capacity - capacity / 2) as u64);
            assert_eq!(usage.peak_resident, capacity);
        }
    }

    #[test]
    fn prompts_that_cannot_be_fed() {
        let engine = Fake::state(16, 4).engine();
        let mut decoder = Decoder::new(&engine).unwrap();
        let cases: [(&[u32], &str); 3] = [
            (&[], "prompt has no tokens"),
            (&[1; 17], "prompt has 17 tokens, the cache holds 16"),
            (&[1, 50], "token 50 is not below the vocabulary size 50"),
        ];
        for (tokens, want) in cases {
            assert_eq!(decoder.prefill(tokens).unwrap_err().to_string(), want);
        }
    }
}
