//! An artifact whose functions are loaded in a runtime and can be called by role.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::clock::Clock;
use crate::lm::LmError;
use crate::lm::bundle::BundleModel;
use crate::lm::{artifact::Artifact, artifact::Place};
use crate::lm::{layout::DecoderLayout, layout::EncoderLayout, layout::Layout, layout::Role};
use crate::runtime::{Loaded, Runtime, RuntimeError, Source, State, Value, Values};

/// A loaded artifact.
pub struct Engine {
    layout: Layout,
    places: BTreeMap<Role, Place>,
    loaded: Vec<Box<dyn Loaded>>,
    load_time: Duration,
}

impl Engine {
    /// Loads all packages of `artifact`.
    pub fn load(
        artifact: &Artifact,
        runtime: &dyn Runtime,
        clock: &dyn Clock,
    ) -> Result<Self, LmError> {
        let start = clock.elapsed();
        let load = |package: &crate::package::Package| {
            let (program, blobs) = (package.program(), package.blobs());
            let rules = package.model().rules().map_err(|e| RuntimeError::input(e.to_string()))?;
            runtime.load(&Source { program, blobs, rules, package: Some(package.path()) })
        };
        let loaded = artifact.packages().iter().map(load).collect::<Result<Vec<_>, _>>()?;
        let loaded: Vec<Box<dyn Loaded>> = match artifact.wiring() {
            Some(wiring) => vec![Box::new(BundleModel::new(wiring.clone(), loaded))],
            None => loaded,
        };
        let load_time = clock.elapsed().saturating_sub(start);
        Ok(Self { load_time, ..Self::new(artifact.layout(), artifact.places().clone(), loaded) })
    }

    /// Functions that are loaded already.
    pub fn new(
        layout: Layout,
        places: BTreeMap<Role, Place>,
        loaded: Vec<Box<dyn Loaded>>,
    ) -> Self {
        Self { layout, places, loaded, load_time: Duration::ZERO }
    }

    /// Load time.
    pub fn load_time(&self) -> Duration {
        self.load_time
    }

    /// Capabilities of the artifact.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The layout of `init` and `decode`, or an error that says they are not there.
    pub fn decoder(&self) -> Result<DecoderLayout, LmError> {
        self.layout.decoder.ok_or(LmError::NoRole { missing: "`init` and `decode`" })
    }

    /// The layout of `encode`, or an error that says it is not there.
    pub fn encoder(&self) -> Result<EncoderLayout, LmError> {
        self.layout.encoder.ok_or(LmError::NoRole { missing: "`encode`" })
    }

    /// Fresh states of the package that `role` stands in.
    pub fn state(&self, role: Role) -> Result<State, LmError> {
        Ok(self.place(role)?.0.state())
    }

    /// An int32 tensor.
    pub fn ints(&self, shape: &[usize], elements: Vec<i32>) -> Value {
        self.loaded.first().expect("an artifact has a package").ints(shape, elements)
    }

    /// Calls a function.
    pub fn run(
        &self,
        role: Role,
        inputs: Values,
        state: &mut State,
        taps: &[&str],
    ) -> Result<Values, LmError> {
        let (loaded, function) = self.place(role)?;
        let outcome = loaded.run(function, inputs, state, taps);
        outcome.map_err(|e| {
            let message = format!("function `{}`: {}", role.name(), e.message);
            LmError::Runtime(RuntimeError { message, ..e })
        })
    }

    fn place(&self, role: Role) -> Result<(&dyn Loaded, &str), LmError> {
        let place = self.places.get(&role).ok_or(LmError::NoRole { missing: role.name() })?;
        Ok((self.loaded[place.package].as_ref(), &place.function))
    }
}

/// Takes an output that the layout says is there.
pub(super) fn take(values: &mut Values, name: &str) -> Result<Value, LmError> {
    values.remove(name).ok_or_else(|| LmError::NoOutput { name: name.to_owned() })
}
