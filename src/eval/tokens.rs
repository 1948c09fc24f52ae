//! `Tokens`: what is known of every scored token of an artifact. All figures of language modelling come from it, and two
//! artifacts are compared token by token through it.

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use thiserror::Error;

/// One scored token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Token {
    /// Its window.
    pub window: u32,
    /// Its position there, from 1: the first token of a window is not scored.
    pub position: u32,
    /// Negative log-likelihood by the artifact, nats.
    pub nll: f64,
    /// The same by the reference.
    pub reference_nll: f64,
    /// Kullback-Leibler divergence of the reference from the artifact over the reference's top K and one bin for the
    /// rest, nats.
    pub divergence: f64,
    /// By how much the full divergence may be larger, nats; infinite where nothing is known.
    pub hidden: f64,
    /// Σ p q over the reference's top K.
    pub same_sampled: f64,
    /// Probability of the reference's first choice.
    pub confidence: f64,
    /// True if that is the artifact's first choice too.
    pub same_top: bool,
}

/// The scored tokens of an artifact, by window and position.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tokens {
    /// Those whose log-likelihood and divergence are finite.
    pub rows: Vec<Token>,
    /// Number of other values.
    pub non_finite: u64,
}

/// Why tokens cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("tokens: {0}")]
pub struct TokensError(String);

/// A number of a token, and its name in a file.
type Column = (&'static str, fn(&Token) -> f64, fn(&mut Token, f64));

/// The columns of a file, all f64 of shape [tokens].
const COLUMNS: &[Column] = &[
    ("window", |t| f64::from(t.window), |t, x| t.window = x as u32),
    ("position", |t| f64::from(t.position), |t, x| t.position = x as u32),
    ("nll", |t| t.nll, |t, x| t.nll = x),
    ("reference_nll", |t| t.reference_nll, |t, x| t.reference_nll = x),
    ("divergence", |t| t.divergence, |t, x| t.divergence = x),
    ("hidden", |t| t.hidden, |t, x| t.hidden = x),
    ("same_sampled", |t| t.same_sampled, |t, x| t.same_sampled = x),
    ("confidence", |t| t.confidence, |t, x| t.confidence = x),
    ("same_top", |t| f64::from(u8::from(t.same_top)), |t, x| t.same_top = x > 0.5),
];

/// The file's note of how many tokens are not in it.
const NON_FINITE: &str = "non_finite";

impl Tokens {
    /// The tokens as a safetensors file, the same for the same tokens.
    pub fn to_bytes(&self) -> Vec<u8> {
        let shape = vec![self.rows.len()];
        let column = |get: fn(&Token) -> f64| -> Vec<u8> {
            self.rows.iter().flat_map(|row| get(row).to_le_bytes()).collect()
        };
        let data: Vec<_> = COLUMNS.iter().map(|&(name, get, _)| (name, column(get))).collect();
        let views = data.iter().map(|(name, bytes)| {
            let view = TensorView::new(Dtype::F64, shape.clone(), bytes);
            (*name, view.expect("as many bytes as the shape says"))
        });
        let notes = [(NON_FINITE.to_owned(), self.non_finite.to_string())].into();
        safetensors::serialize(views, Some(notes)).expect("columns of a known shape")
    }

    /// Reads what [`Self::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TokensError> {
        let wrong = |what: String| TokensError(what);
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| wrong(e.to_string()))?;
        let file = SafeTensors::deserialize(bytes).map_err(|e| wrong(e.to_string()))?;
        let non_finite = header.metadata().as_ref().and_then(|notes| notes.get(NON_FINITE));
        let non_finite = non_finite
            .and_then(|n| n.parse().ok())
            .ok_or_else(|| wrong(format!("the file does not say `{NON_FINITE}`")))?;
        let mut rows = Vec::new();
        for (i, &(name, _, set)) in COLUMNS.iter().enumerate() {
            let view = file.tensor(name).map_err(|e| wrong(format!("column `{name}`: {e}")))?;
            let [n] = *view.shape() else {
                return Err(wrong(format!("column `{name}` has shape {:?}", view.shape())));
            };
            if view.dtype() != Dtype::F64 || (i > 0 && n != rows.len()) {
                let dtype = view.dtype();
                return Err(wrong(format!("column `{name}` has {n} values of type {dtype:?}")));
            }
            rows.resize(n, Token::NOTHING);
            let (values, _) = view.data().as_chunks::<8>();
            for (row, &value) in rows.iter_mut().zip(values) {
                set(row, f64::from_le_bytes(value));
            }
        }
        Ok(Self { rows, non_finite })
    }
}

impl Token {
    const NOTHING: Self = Self {
        window: 0,
        position: 0,
        nll: 0.0,
        reference_nll: 0.0,
        divergence: 0.0,
        hidden: 0.0,
        same_sampled: 0.0,
        confidence: 0.0,
        same_top: false,
    };
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(i: u32) -> Token {
        let x = f64::from(i);
        Token {
            window: i / 3,
            position: 1 + i % 3,
            nll: x / 3.0,
            reference_nll: x / 7.0,
            divergence: x.sqrt(),
            hidden: if i == 2 { f64::INFINITY } else { 0.125 },
            same_sampled: 0.5,
            confidence: 0.75,
            same_top: i.is_multiple_of(2),
        }
    }

    #[test]
    fn files_give_back_what_they_were_given() {
        for n in [0, 1, 7] {
            let tokens = Tokens { rows: (0..n).map(token).collect(), non_finite: u64::from(n) };
            let bytes = tokens.to_bytes();
            assert_eq!(Tokens::from_bytes(&bytes).unwrap(), tokens);
            assert_eq!(tokens.to_bytes(), bytes);
        }
    }

    proptest::proptest! {
        #[test]
        fn damaged_files_are_read_or_refused(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let mut bytes = Tokens { rows: (0..5).map(token).collect(), non_finite: 3 }.to_bytes();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len() + 1));
            }
            if let Ok(read) = Tokens::from_bytes(&bytes) {
                prop_assert!(read.rows.len() * COLUMNS.len() * 8 <= bytes.len());
            }
        }
    }

    #[test]
    fn files_that_are_none_are_refused() {
        let good = Tokens { rows: vec![token(1)], non_finite: 0 }.to_bytes();
        let text = String::from_utf8_lossy(&good).into_owned();
        let changed = |from: &str, to: &str| {
            let at = text.find(from).unwrap();
            let mut bytes = good.clone();
            bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
            bytes
        };
        for (bytes, want) in [
            (good[..good.len() - 1].to_vec(), "tokens: "),
            (Vec::new(), "tokens: "),
            (changed("\"nll\"", "\"all\""), "tokens: column `nll`"),
            (changed("non_finite", "non_figure"), "tokens: the file does not say `non_finite`"),
        ] {
            let error = Tokens::from_bytes(&bytes).unwrap_err().to_string();
            assert!(error.starts_with(want), "{error}");
        }
    }
}
