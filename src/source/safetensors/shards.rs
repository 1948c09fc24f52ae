//! `Tensors`: the weights of a folder, in one safetensors file or in shards named by an index.
#![deny(clippy::as_conversions, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Entry, Error, SafeTensors, Tensor};

const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";
/// Weight files of other formats that a folder may hold instead.
const OTHERS: [&str; 5] = [
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "tf_model.h5",
    "flax_model.msgpack",
    "adapter_model.bin",
];

/// All tensors of a checkpoint by name, wherever they lie.
#[derive(Debug)]
pub struct Tensors {
    dir: PathBuf,
    files: Vec<SafeTensors>,
    /// For each tensor the file it lies in.
    places: BTreeMap<String, usize>,
}

impl Tensors {
    /// Opens the weights of the folder `dir`: the index if there is one, else the single file.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        if dir.join(INDEX).is_file() {
            return Self::open_sharded(dir);
        }
        if dir.join(SINGLE).is_file() {
            return Self::open_file(&dir.join(SINGLE));
        }
        let dir = dir.to_owned();
        match OTHERS.iter().find(|name| dir.join(name).is_file()) {
            Some(file) => Err(Error::PickleOnly { dir, file: (*file).to_owned() }),
            None => Err(Error::NoWeights { dir }),
        }
    }

    /// Opens a single file.
    pub fn open_file(path: &Path) -> Result<Self, Error> {
        let file = SafeTensors::open(path)?;
        let places = file.entries().keys().map(|name| (name.clone(), 0)).collect();
        let dir = path.parent().unwrap_or_else(|| Path::new(".")).to_owned();
        Ok(Self { dir, files: vec![file], places })
    }

    fn open_sharded(dir: &Path) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let index = dir.join(INDEX);
        let bad = |reason: String| Error::BadIndex { index: index.clone(), reason };
        let text = fs_err::read(&index)?;
        let Index { weight_map } = serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?;
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
            let file = SafeTensors::open(&path)?;
            for tensor in tensors {
                if !file.entries().contains_key(tensor) {
                    let (shard, tensor) = (shard.to_owned(), tensor.to_owned());
                    return Err(Error::NotInShard { index, shard, tensor });
                }
                places.insert(tensor.to_owned(), files.len());
            }
            files.push(file);
        }
        Ok(Self { dir: dir.to_owned(), files, places })
    }

    /// Adds the tensors of another file under `prefix` and a slash.
    pub(crate) fn mount(&mut self, prefix: &str, path: &Path) -> Result<(), Error> {
        let file = SafeTensors::open(path)?;
        for name in file.entries().keys() {
            self.places.insert(format!("{prefix}/{name}"), self.files.len());
        }
        self.files.push(file);
        Ok(())
    }

    /// The folder they were opened from.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The files in the order in which they were opened.
    pub fn files(&self) -> &[SafeTensors] {
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

    fn file_of(&self, name: &str) -> Result<&SafeTensors, Error> {
        self.places
            .get(name)
            .and_then(|place| self.files.get(*place))
            .ok_or_else(|| Error::NoTensor { dir: self.dir.clone(), tensor: name.to_owned() })
    }
}

/// The name inside its file: what follows the prefix of [`Tensors::mount`].
fn stem(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, stem)| stem)
}
