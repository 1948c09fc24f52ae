//! An artifact on disk: a multifunction package, one package per function, or a bundle of chunk packages.
//!
//! Targets before iOS18 do not support multifunction packages. Their artifact `X` consists of `X.init.mlpackage`,
//! `X.decode.mlpackage` and `X.encode.mlpackage` in one directory, and is opened by the path `X.mlpackage`, which
//! does not exist. A single-function package names its function `main`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::lm::LmError;
use crate::lm::bundle::BundleGraph;
use crate::lm::{layout::CacheForm, layout::Layout, layout::LayoutError, layout::Role};
use crate::mil;
use crate::package::{Bundle, Package};

const EXTENSION: &str = "mlpackage";

/// The extension of compiled models.
const COMPILED: &str = "mlmodelc";

/// An open artifact.
#[derive(Debug)]
pub struct Artifact {
    path: PathBuf,
    packages: Vec<Package>,
    places: BTreeMap<Role, Place>,
    layout: Layout,
    wiring: Option<BundleGraph>,
    tokenizer: PathBuf,
}

/// Location of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Index into [`Artifact::packages`].
    pub package: usize,
    /// The function's name in that package.
    pub function: String,
}

impl Artifact {
    /// Opens the artifact at `path`, given with or without `.mlpackage`; or the bundle whose folder it is.
    pub fn open(path: &Path) -> Result<Self, LmError> {
        if Bundle::is_at(path) {
            return Self::of_bundle(Bundle::open(path)?);
        }
        let path = if path.exists() || has_extension(path) {
            path.to_owned()
        } else {
            PathBuf::from(format!("{}.{EXTENSION}", path.display()))
        };
        let parts = parts(&path);
        if path.exists() || parts.is_empty() {
            let package = Package::open(&path)?;
            let places = places_in(&package);
            return Self::new(path, vec![package], places);
        }
        let mut packages = Vec::new();
        let mut places = BTreeMap::new();
        for (role, part) in parts {
            let package = Package::open(&part)?;
            let functions = &package.program().functions;
            let named = functions.keys().find(|name| *name == role.name());
            let alone = if functions.len() == 1 { functions.keys().next() } else { None };
            let function = named.or(alone).cloned().ok_or_else(|| LmError::NotOurs {
                path: part.clone(),
                source: LayoutError::NoFunction { present: functions.keys().cloned().collect() },
            })?;
            places.insert(role, Place { package: packages.len(), function });
            packages.push(package);
        }
        Self::new(path, packages, places)
    }

    fn new(
        path: PathBuf,
        packages: Vec<Package>,
        places: BTreeMap<Role, Place>,
    ) -> Result<Self, LmError> {
        let refuse = |source| LmError::NotOurs { path: path.clone(), source };
        if places.is_empty() {
            let names = packages.iter().flat_map(|p| p.program().functions.keys().cloned());
            return Err(refuse(LayoutError::NoFunction { present: names.collect() }));
        }
        let describe = |(&role, place): (&Role, &Place)| {
            packages[place.package].model().describe(&place.function).map(|d| (role, d))
        };
        let descriptions = places.iter().filter_map(describe).collect();
        let layout = Layout::read(&descriptions).map_err(refuse)?;
        let apart = |a: Role, b: Role| {
            places.get(&a).map(|place| place.package) != places.get(&b).map(|place| place.package)
        };
        let stateful = layout.decoder.is_some_and(|decoder| decoder.cache == CacheForm::State);
        if stateful && apart(Role::Init, Role::Decode) {
            return Err(LmError::StateApart { path });
        }
        let tokenizer = path.with_file_name(format!("{}.tokenizer", stem(&path)));
        Ok(Self { path, packages, places, layout, wiring: None, tokenizer })
    }

    /// The parts of a bundle, joined into one program of `init` and `decode` once they are loaded.
    fn of_bundle(bundle: Bundle) -> Result<Self, LmError> {
        let wiring = BundleGraph::of(&bundle);
        let path = bundle.path.clone();
        let wiring =
            wiring.map_err(|source| LmError::BundleGraph { path: path.clone(), source })?;
        let place = |role: Role| (role, Place { package: 0, function: role.name().to_owned() });
        Ok(Self {
            tokenizer: bundle.tokenizer_folder(),
            packages: bundle.parts.into_iter().map(|(_, package)| package).collect(),
            places: [Role::Init, Role::Decode].map(place).into(),
            layout: Layout { decoder: Some(wiring.layout()), encoder: None },
            wiring: Some(wiring),
            path,
        })
    }

    /// Graph of the parts if it is a bundle.
    pub fn wiring(&self) -> Option<&BundleGraph> {
        self.wiring.as_ref()
    }

    /// Path of the artifact; the multifunction path if it is split by function.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its name: the path's last part without its extension.
    pub fn name(&self) -> String {
        stem(&self.path)
    }

    /// The packages it consists of.
    pub fn packages(&self) -> &[Package] {
        &self.packages
    }

    /// Location of each function.
    pub fn places(&self) -> &BTreeMap<Role, Place> {
        &self.places
    }

    /// Capabilities of the artifact.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The package and the program of a function.
    pub fn function(&self, role: Role) -> Option<(&Package, &mil::Function)> {
        let place = self.places.get(&role)?;
        let package = &self.packages[place.package];
        Some((package, package.program().functions.get(&place.function)?))
    }

    /// The folder that holds its tokenizer: `X.tokenizer` beside it, or the bundle's own.
    pub fn tokenizer_folder(&self) -> PathBuf {
        self.tokenizer.clone()
    }
}

/// The functions of a package by their names, or the one function of an encoder's package, which is called `main`.
fn places_in(package: &Package) -> BTreeMap<Role, Place> {
    let functions = &package.program().functions;
    let place = |role: Role, name: &str| (role, Place { package: 0, function: name.to_owned() });
    let named = Role::ALL.into_iter().filter(|role| functions.contains_key(role.name()));
    let mut places: BTreeMap<_, _> = named.map(|role| place(role, role.name())).collect();
    if let (1, Some((name, function))) = (functions.len(), functions.first_key_value())
        && function.block.outputs.iter().any(|output| output == "embedding")
    {
        places.extend([place(Role::Encode, name)]);
    }
    places
}

/// Single-function packages of the artifact at `path`.
fn parts(path: &Path) -> Vec<(Role, PathBuf)> {
    let name = |role: Role| format!("{}.{}.{EXTENSION}", stem(path), role.name());
    let place = |role: Role| (role, path.with_file_name(name(role)));
    Role::ALL.into_iter().map(place).filter(|(_, path)| path.exists()).collect()
}

fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let bare = [EXTENSION, COMPILED].iter().find_map(|e| name.strip_suffix(e)?.strip_suffix('.'));
    bare.unwrap_or(&name).to_owned()
}

fn has_extension(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == EXTENSION || extension == COMPILED)
}
