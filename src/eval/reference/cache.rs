//! A reference whose answers are kept in a folder, each under the digest of everything that could change it.

use std::io;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{
    Continuation, Continue, Distributions, EmbedRequest, Identity, Noise, Reference,
    ReferenceError, TokenizedText,
};
use crate::base::{digest, fs};

/// Raised when what is kept, or how it is computed, changes its meaning.
const FORMAT: u32 = 2;

/// `inner`, asked only for what the folder does not hold yet.
#[derive(Debug)]
pub struct Cached<R> {
    inner: R,
    folder: PathBuf,
}

impl<R: Reference> Cached<R> {
    /// Keeps the answers of `inner` in `folder`.
    pub fn new(inner: R, folder: &Path) -> Self {
        Self { inner, folder: folder.to_owned() }
    }

    fn place(&self, kind: &str, request: &impl Serialize, extension: &str) -> PathBuf {
        let all = (FORMAT, self.inner.identity(), kind, request);
        let text = serde_json::to_vec(&all).expect("plain data are JSON");
        self.folder.join(format!("{kind}-{}.{extension}", digest::of_bytes(&text)))
    }

    fn json<T: Serialize + DeserializeOwned>(
        &self,
        kind: &str,
        request: &impl Serialize,
        compute: impl FnOnce() -> Result<T, ReferenceError>,
    ) -> Result<T, ReferenceError> {
        let place = self.place(kind, request, "json");
        if let Some(kept) = read(&place)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
            return Ok(kept);
        }
        let computed = compute()?;
        let bytes = serde_json::to_vec(&computed).expect("plain data are JSON");
        fs::write_atomic(&place, &bytes)?;
        Ok(computed)
    }
}

impl<R: Reference> Reference for Cached<R> {
    fn identity(&self) -> &Identity {
        self.inner.identity()
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn kind(&self) -> String {
        self.inner.kind()
    }

    fn logits(&self, windows: &[Vec<u32>], top_k: usize) -> Result<Distributions, ReferenceError> {
        let place = self.place("logits", &(windows, top_k), "safetensors");
        let kept = read(&place)?.and_then(|bytes| Distributions::from_bytes(&bytes).ok());
        let length = windows.first().map_or(0, Vec::len);
        if let Some(kept) = kept.filter(|kept| kept.fits(windows.len(), length, top_k)) {
            return Ok(kept);
        }
        let computed = self.inner.logits(windows, top_k)?;
        fs::write_atomic(&place, &computed.to_bytes())?;
        Ok(computed)
    }

    fn noise(&self, windows: &[Vec<u32>]) -> Result<Option<Noise>, ReferenceError> {
        self.json("noise", &windows, || self.inner.noise(windows))
    }

    fn generate(&self, request: &Continue) -> Result<Vec<Continuation>, ReferenceError> {
        self.json("generate", request, || self.inner.generate(request))
    }

    fn embed(&self, request: &EmbedRequest) -> Result<Vec<Vec<f32>>, ReferenceError> {
        self.json("embed", request, || self.inner.embed(request))
    }

    fn check_tokens(&self, texts: &[TokenizedText]) -> Result<(), ReferenceError> {
        let place = self.place("tokens", &texts, "json");
        if read(&place)?.is_none() {
            self.inner.check_tokens(texts)?;
            fs::write_atomic(&place, b"true")?;
        }
        Ok(())
    }
}

/// A kept file, or nothing where there is none. A file that does not read is computed again by the caller.
fn read(place: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs_err::read(place) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

impl Distributions {
    /// The four tables as a safetensors file, under the names that the Python side writes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (rows, k) = (self.tail.len(), self.top_k);
        let (w, t) = (rows / self.window, self.window);
        let floats = |v: &[f32]| v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let ids: Vec<u8> = self.ids.iter().flat_map(|&id| (id as i32).to_le_bytes()).collect();
        let tables = [
            ("logprob_next", Dtype::F32, vec![w, t - 1], floats(&self.next)),
            ("tail_logmass", Dtype::F32, vec![w, t], floats(&self.tail)),
            ("topk_ids", Dtype::I32, vec![w, t, k], ids),
            ("topk_logprobs", Dtype::F32, vec![w, t, k], floats(&self.log_probs)),
        ];
        let views = tables.iter().map(|(name, dtype, shape, bytes)| {
            let view = TensorView::new(*dtype, shape.clone(), bytes);
            (*name, view.expect("as many bytes as the shape says"))
        });
        safetensors::serialize(views, None).expect("four tables of known shapes")
    }

    /// Reads what [`Self::to_bytes`] or the Python side wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ReferenceError> {
        let wrong = |what: String| ReferenceError::Answer { what };
        let file = SafeTensors::deserialize(bytes).map_err(|e| wrong(e.to_string()))?;
        let get = |name: &str, dtype: Dtype| {
            let view = file.tensor(name).map_err(|e| wrong(format!("table `{name}`: {e}")))?;
            if view.dtype() == dtype {
                Ok((view.shape().to_vec(), view.data().to_vec()))
            } else {
                Err(wrong(format!("table `{name}` is of type {:?}, not {dtype:?}", view.dtype())))
            }
        };
        let floats = |bytes: &[u8]| -> Vec<f32> {
            let (parts, _) = bytes.as_chunks::<4>();
            parts.iter().map(|&part| f32::from_le_bytes(part)).collect()
        };
        let (shape, ids) = get("topk_ids", Dtype::I32)?;
        let [w, window @ 1..=usize::MAX, top_k] = shape[..] else {
            return Err(wrong(format!("table `topk_ids` has shape {shape:?}")));
        };
        let table = |name: &str, want: &[usize]| {
            let (shape, bytes) = get(name, Dtype::F32)?;
            if shape == want {
                Ok(floats(&bytes))
            } else {
                Err(wrong(format!("table `{name}` has shape {shape:?}, not {want:?}")))
            }
        };
        let (ids, _) = ids.as_chunks::<4>();
        Ok(Self {
            window,
            top_k,
            next: table("logprob_next", &[w, window.saturating_sub(1)])?,
            ids: ids.iter().map(|&id| u32::from_le_bytes(id)).collect(),
            log_probs: table("topk_logprobs", &[w, window, top_k])?,
            tail: table("tail_logmass", &[w, window])?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use proptest::prelude::*;

    use super::*;
    use crate::lm::{Prepared, Sentence};

    /// Counts how often it is asked.
    struct Counting {
        identity: Identity,
        asked: AtomicU32,
    }

    impl Counting {
        fn of(version: &str) -> Self {
            let versions = [("torch".to_owned(), version.to_owned())].into();
            let identity = Identity { versions, ..Identity::default() };
            Self { identity, asked: AtomicU32::new(0) }
        }
    }

    impl Reference for Counting {
        fn identity(&self) -> &Identity {
            &self.identity
        }

        fn describe(&self) -> String {
            "counting".to_owned()
        }

        fn logits(
            &self,
            windows: &[Vec<u32>],
            top_k: usize,
        ) -> Result<Distributions, ReferenceError> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let (w, window) = (windows.len(), windows[0].len());
            Ok(Distributions {
                window,
                top_k,
                next: vec![-0.1; w * (window - 1)],
                ids: (0..(w * window * top_k) as u32).collect(),
                log_probs: vec![-1.5; w * window * top_k],
                tail: vec![f32::NEG_INFINITY; w * window],
            })
        }

        fn noise(&self, windows: &[Vec<u32>]) -> Result<Option<Noise>, ReferenceError> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let table = vec![vec![0.25; windows[0].len() - 1]; windows.len()];
            let same_top = vec![vec![true; windows[0].len() - 1]; windows.len()];
            let how = "by hand".to_owned();
            let nll_change = table.clone();
            Ok(Some(Noise { how, divergence: table, nll_change, same_top }))
        }

        fn generate(&self, request: &Continue) -> Result<Vec<Continuation>, ReferenceError> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let one = Continuation {
                tokens: vec![1, 2],
                margins: vec![0.1, 1e-7],
                likeliest: vec![vec![(1, 2.5), (3, 2.4)], vec![(2, 1.0)]],
            };
            Ok(vec![one; request.prompts.len()])
        }

        fn embed(&self, request: &EmbedRequest) -> Result<Vec<Vec<f32>>, ReferenceError> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            Ok(vec![vec![0.1, -0.3, f32::MIN_POSITIVE]; request.prepared.len()])
        }
    }

    /// Two windows of three tokens, two tokens known at each position.
    fn distributions() -> Distributions {
        Counting::of("1").logits(&[vec![1, 2, 3], vec![4, 5, 6]], 2).unwrap()
    }

    proptest::proptest! {
        /// Damaged files are refused, or give tables no larger than the file.
        #[test]
        fn damaged_files_are_read_or_refused(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let mut bytes = distributions().to_bytes();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len() + 1));
            }
            if let Ok(read) = Distributions::from_bytes(&bytes) {
                let n = read.ids.len() + read.log_probs.len() + read.tail.len() + read.next.len();
                prop_assert!(n * 4 <= bytes.len());
                // What fits is safe to ask about every position.
                if read.fits(2, 3, 2) {
                    for (w, position) in [(0, 0), (1, 1)] {
                        prop_assert_eq!(read.at(w, position).ids.len(), 2);
                        prop_assert!(!read.nll(w, position).is_nan() || read.next.iter().any(|x| x.is_nan()));
                    }
                }
            }
        }
    }

    #[test]
    fn shapes_without_elements_are_no_answer() {
        let good = distributions();
        assert!(good.fits(2, 3, 2));
        for (windows, length, top_k) in [(1, 3, 2), (2, 2, 2), (2, 3, 1), (3, 2, 2)] {
            assert!(!good.fits(windows, length, top_k));
        }
        // Tables of no windows of any length take no bytes.
        let none = Distributions {
            window: 1 << 40,
            next: vec![],
            ids: vec![],
            log_probs: vec![],
            tail: vec![],
            ..good
        };
        assert!(!none.fits(2, 3, 2));
    }

    #[test]
    fn answers_are_computed_once_and_come_back_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let windows = vec![vec![1, 2, 3], vec![4, 5, 6]];
        let ask = |reference: &Cached<Counting>| {
            let sentence = Prepared { ids: vec![5], pool: vec![1], left_out: 0 };
            let sentences = vec![Sentence::plain("a")];
            let embed =
                EmbedRequest { sentences, prepared: vec![sentence], seq_len: 4, strip: false };
            let request = Continue { prompts: windows.clone(), max_tokens: 2, eos: vec![0] };
            (
                reference.logits(&windows, 2).unwrap(),
                reference.noise(&windows).unwrap(),
                reference.generate(&request).unwrap(),
                reference.embed(&embed).unwrap(),
            )
        };
        let first = Cached::new(Counting::of("2.7.0"), folder.path());
        let plain = ask(&Cached::new(Counting::of("2.7.0"), tempfile::tempdir().unwrap().path()));
        assert_eq!(ask(&first), plain);
        assert_eq!(ask(&first), plain);
        assert_eq!(first.inner.asked.load(Ordering::Relaxed), 4);
        // Another process with the same identity asks nothing, another version asks everything.
        for (version, want) in [("2.7.0", 0), ("2.8.0", 4)] {
            let other = Cached::new(Counting::of(version), folder.path());
            assert_eq!(ask(&other), plain);
            assert_eq!(other.inner.asked.load(Ordering::Relaxed), want);
        }
        first.logits(&windows, 1).unwrap();
        assert_eq!(first.inner.asked.load(Ordering::Relaxed), 5, "another K is another question");
        // A damaged file is computed again.
        for file in fs::files_below(folder.path()).unwrap() {
            fs_err::write(folder.path().join(file), "{").unwrap();
        }
        assert_eq!(ask(&first), plain);
        assert_eq!(first.inner.asked.load(Ordering::Relaxed), 9);
    }
}
