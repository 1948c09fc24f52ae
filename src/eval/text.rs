//! Windows of tokens from a text, and which of their tokens are scored.

use crate::base::digest;
use crate::eval::error::EvalError;
use crate::lm::Tokenizer;

/// Division of a text into windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowConfig {
    /// Tokens in a window, at most the sequence length.
    pub window: usize,
    /// Tokens between the starts of two windows.
    pub stride: usize,
    /// Windows at most.
    pub max_windows: usize,
}

/// A text cut into windows of equal length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windows {
    /// The tokens of each window.
    pub tokens: Vec<Vec<u32>>,
    /// How they were cut.
    pub cut: WindowConfig,
    /// SHA-256 of the text.
    pub text_sha256: String,
}

impl Windows {
    /// Cuts `text` from its beginning; what is left at its end is shorter than a window and not used.
    ///
    /// Where the tokenizer begins texts with a token of its own, as Llama's does, every window begins with it instead
    /// of its first token, which is not scored anyway.
    pub fn of(
        text: &str,
        tokenizer: &Tokenizer,
        cut: WindowConfig,
        capacity: usize,
    ) -> Result<Self, EvalError> {
        let tokens = tokenizer.encode_plain(text)?;
        let mut windows = windows(&tokens, cut, capacity)?;
        if let Some(first) = tokenizer.first_token() {
            for window in &mut windows {
                window[0] = first;
            }
        }
        Ok(Self { tokens: windows, cut, text_sha256: digest::of_bytes(text.as_bytes()) })
    }

    /// Index of the first token of window `w` that is scored: its second, or the first that no window before it had.
    pub fn first_scored(&self, w: usize) -> usize {
        if w == 0 { 1 } else { (self.cut.window - self.cut.stride).max(1) }
    }
}

fn windows(tokens: &[u32], cut: WindowConfig, capacity: usize) -> Result<Vec<Vec<u32>>, EvalError> {
    let WindowConfig { window, stride, max_windows } = cut;
    if !(2..=capacity).contains(&window) || !(1..=window).contains(&stride) {
        return Err(EvalError::Window { window, stride, capacity });
    }
    if tokens.len() < window {
        return Err(EvalError::ShortText { tokens: tokens.len(), window });
    }
    Ok(tokens.windows(window).step_by(stride).take(max_windows).map(<[u32]>::to_vec).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_start_every_stride_and_score_each_token_once() {
        // Tokens, window, stride, windows at most: the starts, and all tokens scored.
        let cases = [
            ((10, 4, 4, 9), vec![0, 4], vec![1, 2, 3, 5, 6, 7]),
            ((10, 4, 2, 9), vec![0, 2, 4, 6], vec![1, 2, 3, 4, 5, 6, 7, 8, 9]),
            ((10, 4, 3, 9), vec![0, 3, 6], vec![1, 2, 3, 4, 5, 6, 7, 8, 9]),
            ((10, 4, 4, 1), vec![0], vec![1, 2, 3]),
            ((4, 4, 4, 9), vec![0], vec![1, 2, 3]),
        ];
        for ((n, window, stride, max_windows), starts, scored) in cases {
            let tokens: Vec<u32> = (0..n).collect();
            let cut = WindowConfig { window, stride, max_windows };
            let windows = Windows {
                tokens: windows(&tokens, cut, 8).unwrap(),
                cut,
                text_sha256: String::new(),
            };
            assert_eq!(windows.tokens.iter().map(|w| w[0]).collect::<Vec<_>>(), starts);
            let of = |(w, tokens): (usize, &Vec<u32>)| tokens[windows.first_scored(w)..].to_vec();
            assert_eq!(windows.tokens.iter().enumerate().flat_map(of).collect::<Vec<_>>(), scored);
        }
    }

    #[test]
    fn windows_that_cannot_be() {
        let cases = [
            ((3, 4, 4), "text has 3 tokens, fewer than one window of 4"),
            ((99, 9, 9), "windows of 9 tokens every 9 do not fit the sequence length 8"),
            ((99, 1, 1), "windows of 1 tokens every 1 do not fit the sequence length 8"),
            ((99, 4, 0), "windows of 4 tokens every 0 do not fit the sequence length 8"),
            ((99, 4, 5), "windows of 4 tokens every 5 do not fit the sequence length 8"),
        ];
        for ((n, window, stride), want) in cases {
            let tokens: Vec<u32> = (0..n).collect();
            let cut = WindowConfig { window, stride, max_windows: 9 };
            assert_eq!(windows(&tokens, cut, 8).unwrap_err().to_string(), want);
        }
    }
}
