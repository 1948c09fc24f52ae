//! `Tensors`: the weights of a folder, in one file or in shards named by an index.
#![deny(clippy::as_conversions, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Entry, Error, Tensor, TensorFile};
use crate::source::dtype::Dtype;
use crate::source::{json, names};

/// Endings of weight files that are not read, or not without an index.
const OTHERS: [&str; 12] = [
    "safetensors",
    "bin",
    "pt",
    "pth",
    "gguf",
    "ggml",
    "h5",
    "msgpack",
    "npz",
    "onnx",
    "ckpt",
    "tflite",
];

/// All tensors of a checkpoint by name, wherever they lie.
#[derive(Debug)]
pub struct Tensors {
    dir: PathBuf,
    files: Vec<TensorFile>,
    /// For each tensor the file it lies in.
    places: BTreeMap<String, usize>,
    warnings: Vec<String>,
}

impl Tensors {
    /// Opens the weights of the folder `dir`, in the file that transformers would read: `model.safetensors`, its
    /// index, `pytorch_model.bin` or its index, whichever is there first.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        Self::open_any(dir, "model", "pytorch_model")
    }

    /// Opens the first of `SAFE.safetensors`, its index, `TORCH.bin` and its index that is in the folder `dir`.
    pub fn open_any(dir: &Path, safe: &str, torch: &str) -> Result<Self, Error> {
        let mut found: Option<(Self, String)> = None;
        let mut passed_over = Vec::new();
        for single in [format!("{safe}.safetensors"), format!("{torch}.bin")] {
            let index = format!("{single}.index.json");
            for (name, is_index) in [(single, false), (index, true)] {
                let path = dir.join(&name);
                if !path.is_file() {
                    continue;
                }
                if found.is_some() {
                    passed_over.push(name);
                } else if is_index {
                    found = Some((Self::open_sharded(dir, &name)?, name));
                } else {
                    found = Some((Self::open_file(&path)?, name));
                }
            }
        }
        let Some((mut tensors, name)) = found else {
            return Err(Error::NoWeights { dir: dir.to_owned(), found: other_weights(dir) });
        };
        // A second format is the same weights again; a second list of safetensors files is not.
        let contradicts =
            |other: &&String| other.ends_with(".index.json") && other.contains(name.as_str());
        if let Some(other) = passed_over.iter().find(contradicts) {
            tensors.warnings.push(format!(
                "`{name}` is read, as transformers does; `{other}` beside it names other files, which are not"
            ));
        }
        Ok(tensors)
    }

    /// Opens a single file.
    pub fn open_file(path: &Path) -> Result<Self, Error> {
        let file = TensorFile::open(path)?;
        let places = file.entries().keys().map(|name| (name.clone(), 0)).collect();
        let dir = path.parent().unwrap_or_else(|| Path::new(".")).to_owned();
        Ok(Self { dir, files: vec![file], places, warnings: Vec::new() })
    }

    fn open_sharded(dir: &Path, index: &str) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let index = dir.join(index);
        let bad = |reason: String| Error::BadIndex { index: index.clone(), reason };
        let Index { weight_map } = json::read(&index).map_err(|error| match error {
            json::Error::Bad { reason, .. } | json::Error::Data { reason, .. } => bad(reason),
            other => other.into(),
        })?;
        if weight_map.is_empty() {
            return Err(bad("its `weight_map` is empty".to_owned()));
        }
        let mut shards: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (tensor, shard) in &weight_map {
            shards.entry(shard).or_default().push(tensor);
        }
        let mut files = Vec::new();
        let mut places = BTreeMap::new();
        for (shard, tensors) in shards {
            if Path::new(shard).components().count() != 1 || shard.starts_with("..") {
                return Err(bad(format!("shard name `{shard}` is not a plain file name")));
            }
            let path = dir.join(shard);
            if !path.is_file() {
                let (index, shard) = (index.clone(), shard.to_owned());
                return Err(Error::MissingShard { index, shard, n_tensors: tensors.len() });
            }
            let file = TensorFile::open(&path)?;
            for tensor in tensors {
                if !file.entries().contains_key(tensor) {
                    let (shard, tensor) = (shard.to_owned(), tensor.to_owned());
                    return Err(Error::NotInShard { index, shard, tensor });
                }
            }
            // As transformers, which takes everything that a shard holds.
            for tensor in file.entries().keys() {
                if places.insert(tensor.clone(), files.len()).is_some() {
                    let reason = format!("tensor `{tensor}` is in `{shard}` and in another shard");
                    return Err(bad(reason));
                }
            }
            files.push(file);
        }
        Ok(Self { dir: dir.to_owned(), files, places, warnings: Vec::new() })
    }

    /// Adds the tensors of another folder under `prefix` and a slash.
    pub(crate) fn mount(&mut self, prefix: &str, other: Self) {
        for (name, place) in other.places {
            self.places.insert(format!("{prefix}/{name}"), self.files.len() + place);
        }
        self.files.extend(other.files);
        self.warnings.extend(other.warnings);
    }

    /// What was read otherwise than one might think.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Fails if the weights of a model of the family `model_type` are quantized already, or all have a prefix that the
    /// model does not know.
    pub fn check(&self, model_type: &str) -> Result<(), Error> {
        let is_weight = |name: &str| name.ends_with("weight") || name.ends_with(".qweight");
        let quantized = |dtype: Dtype| !dtype.is_float() && dtype != Dtype::Bool;
        if let Some((tensor, entry)) =
            self.iter().find(|(name, entry)| is_weight(name) && quantized(entry.dtype))
        {
            let (dir, tensor) = (self.dir.clone(), tensor.to_owned());
            return Err(Error::Quantized { dir, tensor, dtype: entry.dtype });
        }
        let Some(embedding) = names::embedding(model_type) else { return Ok(()) };
        if names::spellings(model_type, embedding).iter().any(|name| self.places.contains_key(name))
        {
            return Ok(());
        }
        let base = names::base_model_prefix(model_type).unwrap_or_default();
        let bare = embedding.strip_prefix(base).and_then(|rest| rest.strip_prefix('.'));
        let bare = format!(".{}", bare.unwrap_or(embedding));
        let Some(tensor) = self.places.keys().find(|name| name.ends_with(&bare)) else {
            return Ok(());
        };
        let prefix = tensor.strip_suffix(bare.as_str()).unwrap_or_default();
        let prefix = prefix.strip_suffix(base).unwrap_or(prefix).trim_end_matches('.');
        let (dir, prefix) = (self.dir.clone(), format!("{prefix}."));
        Err(Error::Prefix { dir, prefix, tensor: tensor.clone() })
    }

    /// True if two tensors hold the same values.
    pub(crate) fn are_equal(&self, first: &str, second: &str) -> Result<bool, Error> {
        let (Some(a), Some(b)) = (self.get(first), self.get(second)) else { return Ok(false) };
        if a.shape != b.shape {
            return Ok(false);
        }
        let same_place = self.places.get(first) == self.places.get(second);
        if same_place && a.dtype == b.dtype && a.begin == b.begin {
            return Ok(true);
        }
        let n = a.n_elements();
        let (mut left, mut right) = (vec![0.0; n.min(STEP)], vec![0.0; n.min(STEP)]);
        let (files, stems) =
            ((self.file_of(first)?, self.file_of(second)?), (stem(first), stem(second)));
        let mut at = 0;
        while at < n {
            let length = STEP.min(n - at);
            let (left, right) = (left.get_mut(..length), right.get_mut(..length));
            let (Some(left), Some(right)) = (left, right) else { return Ok(false) };
            files.0.read_f32(stems.0, at, left)?;
            files.1.read_f32(stems.1, at, right)?;
            let differs = |(a, b): (&f32, &f32)| a.to_bits() != b.to_bits();
            if left.iter().zip(right.iter()).any(differs) {
                return Ok(false);
            }
            at += length;
        }
        Ok(true)
    }

    /// The folder they were opened from.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The files in the order in which they were opened.
    pub fn files(&self) -> &[TensorFile] {
        &self.files
    }

    /// Every name with its entry, in order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.places.iter().map(|(name, place)| {
            let file = self.files.get(*place).expect("a place names a file");
            (name.as_str(), file.entries().get(stem(name)).expect("a placed tensor is in its file"))
        })
    }

    /// Where the tensor `name` lies, if there is one.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.files.get(*self.places.get(name)?)?.entries().get(stem(name))
    }

    /// The stored name equal to `name`.
    pub(crate) fn key(&self, name: &str) -> Option<&str> {
        self.places.get_key_value(name).map(|(key, _)| key.as_str())
    }

    /// Reads a tensor whole.
    pub fn read(&self, name: &str) -> Result<Tensor, Error> {
        self.file_of(name)?.read(stem(name))
    }

    /// Reads a tensor whole as f32, with little memory beyond the result.
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>, Error> {
        let file = self.file_of(name)?;
        let n = self.get(name).map_or(0, Entry::n_elements);
        let mut out = vec![0.0; n];
        file.read_f32(stem(name), 0, &mut out)?;
        Ok(out)
    }

    /// Reads the part of a matrix that lies in `rows` and `columns` as f32, row by row.
    pub fn read_block(
        &self,
        name: &str,
        rows: &Range<usize>,
        columns: &Range<usize>,
        out: &mut [f32],
    ) -> Result<(), Error> {
        self.file_of(name)?.read_block(stem(name), rows, columns, out)
    }

    fn file_of(&self, name: &str) -> Result<&TensorFile, Error> {
        self.places
            .get(name)
            .and_then(|place| self.files.get(*place))
            .ok_or_else(|| Error::NoTensor { dir: self.dir.clone(), tensor: name.to_owned() })
    }
}

/// Elements that are compared at a time.
const STEP: usize = 1 << 20;

/// A file in the folder that looks like weights.
fn other_weights(dir: &Path) -> Option<String> {
    let mut names: Vec<String> = fs_err::read_dir(dir)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.rsplit_once('.').is_some_and(|(_, ending)| OTHERS.contains(&ending)))
        .filter(|name| {
            !["training_args.bin", "optimizer.pt", "scheduler.pt"].contains(&name.as_str())
        })
        .collect();
    // A safetensors file under another name says most.
    names.sort_by_key(|name| (!name.ends_with(".safetensors"), name.clone()));
    names.into_iter().next()
}

/// The name inside its file: what follows the prefix of [`Tensors::mount`].
fn stem(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, stem)| stem)
}
