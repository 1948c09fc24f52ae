//! Every call of the framework, on macOS: detection, compiling, loading, prediction, states, batches, compute plans.
//!
//! Type-checked on Linux by `ci/macos`; see docs/backends.md for what has been run on a Mac.

#![expect(
    unsafe_code,
    reason = "the framework's methods are Objective-C, whose promises Rust cannot check"
)]

use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::slice;
use std::sync::mpsc;
use std::sync::{Mutex, MutexGuard, PoisonError};

use block2::{DynBlock, RcBlock};
use objc2::rc::{Retained, autoreleasepool};
use objc2::runtime::{AnyClass, AnyObject, NSObjectProtocol as _, ProtocolObject};
use objc2::{AnyThread as _, Message, available};
use objc2_core_ml::{
    MLArrayBatchProvider, MLBatchProvider as _, MLCPUComputeDevice, MLComputeDeviceProtocol,
    MLComputePlan, MLComputeUnits, MLDictionaryFeatureProvider, MLFeatureDescription,
    MLFeatureProvider, MLFeatureType, MLFeatureValue, MLModel, MLModelConfiguration,
    MLModelStructureProgramBlock, MLMultiArray, MLMultiArrayDataType, MLNeuralEngineComputeDevice,
    MLState,
};
use objc2_foundation::{NSArray, NSDictionary, NSError, NSNumber, NSProcessInfo, NSString, NSURL};

use super::array::{gather, scatter};
use super::{
    Absent, Array, ArrayError, Class, ComputePlan, ComputeUnits, CoreMlError, Device, Element,
    Feature, Framework, Options, Planned, Timings, Wanted,
};
use crate::base::clock::Clock;

/// A set of features, which is what predictions take and give.
type Provider = ProtocolObject<dyn MLFeatureProvider>;

/// Predictions that are in flight at once in a batch: enough to keep every device busy.
const IN_FLIGHT: usize = 8;

/// The framework of this Mac.
pub fn detect() -> Result<Framework, Absent> {
    let mut devices = Vec::new();
    let mut neural_engine_cores = None;
    if available!(macos = 14.0) {
        // `MLAllComputeDevices` would say the same, but as a C function it would keep the program from starting on older
        // systems.
        // SAFETY: A class method without arguments, which this system has.
        let found = unsafe { MLModel::availableComputeDevices() };
        for device in &found {
            devices.extend(kind(&device));
            let object: &AnyObject = device.as_ref();
            if let Some(engine) = object.downcast_ref::<MLNeuralEngineComputeDevice>() {
                // SAFETY: A property that cannot fail, of an object that is alive.
                neural_engine_cores = u64::try_from(unsafe { engine.totalCoreCount() }).ok();
            }
        }
        devices.sort_unstable();
        devices.dedup();
    }
    Ok(Framework { system: system(), devices, neural_engine_cores })
}

/// The system with its build: `macOS 15.1 (Build 24B83)`.
fn system() -> String {
    let text = NSProcessInfo::processInfo().operatingSystemVersionString().to_string();
    format!("macOS {}", text.strip_prefix("Version ").unwrap_or(&text))
}

/// What a device is; nothing for a kind that did not exist when this was written.
fn kind(device: &ProtocolObject<dyn MLComputeDeviceProtocol>) -> Option<Device> {
    let object: &AnyObject = device.as_ref();
    if object.downcast_ref::<MLCPUComputeDevice>().is_some() {
        return Some(Device::Cpu);
    }
    if object.downcast_ref::<MLNeuralEngineComputeDevice>().is_some() {
        return Some(Device::NeuralEngine);
    }
    // By name: the class's bindings would bring those of Metal with them.
    let gpu = AnyClass::get(c"MLGPUComputeDevice")?;
    device.isKindOfClass(gpu).then_some(Device::Gpu)
}

/// A loaded model: one of the framework's for each function.
#[derive(Debug)]
pub struct Model {
    functions: BTreeMap<String, Function>,
    timings: Timings,
}

#[derive(Debug)]
struct Function {
    model: Mutex<Carried<Retained<MLModel>>>,
    inputs: BTreeMap<String, Kind>,
    states: Vec<String>,
}

/// What an input takes.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Array(Element),
    Other(&'static str),
}

/// States of a model, which its functions read and write.
#[derive(Debug)]
pub struct State {
    /// Nothing where the model has none.
    inner: Option<Retained<MLState>>,
    names: Vec<String>,
}

/// An object that goes from one thread to another.
#[derive(Debug)]
struct Carried<T>(T);

// SAFETY: Only models, feature providers, URLs and plans are carried, none of which is bound to a thread. A model is used
// by one thread at a time, behind its mutex, or through its asynchronous methods, which are made for several; the others
// are handed over once and not kept by the sender.
unsafe impl<T> Send for Carried<T> {}

impl Model {
    /// Compiles the package where the cache does not have it, and loads the functions that are wanted.
    pub fn load(
        wanted: &Wanted,
        options: &Options,
        clock: &dyn Clock,
    ) -> Result<Self, CoreMlError> {
        let start = clock.elapsed();
        let (url, found) = compiled(wanted, options)?;
        let compile = (!found).then(|| clock.elapsed().saturating_sub(start));
        let start = clock.elapsed();
        let mut functions = BTreeMap::new();
        for name in &wanted.functions {
            let configuration = configuration(options.units, wanted.named.then_some(name))?;
            let function = autoreleasepool(|_| {
                // SAFETY: Both objects are alive, and the URL is one of a file.
                let loaded = unsafe {
                    MLModel::modelWithContentsOfURL_configuration_error(&url, &configuration)
                };
                loaded.map(Function::new).map_err(|e| failed("load the model", &e))
            })?;
            functions.insert(name.clone(), function);
        }
        let load = clock.elapsed().saturating_sub(start);
        Ok(Self { functions, timings: Timings { compile, load } })
    }

    /// Duration of compilation and loading.
    pub fn timings(&self) -> Timings {
        self.timings
    }

    /// States as they are before the first call: zero.
    pub fn state(&self) -> Result<State, CoreMlError> {
        let Some(function) = self.functions.values().find(|f| !f.states.is_empty()) else {
            return Ok(State { inner: None, names: Vec::new() });
        };
        // SAFETY: The model has states, so the system has the method.
        let inner = unsafe { function.model().0.newState() };
        Ok(State { inner: Some(inner), names: function.states.clone() })
    }

    /// Runs `function`. Inputs are cast to the types that it declares.
    pub fn run(
        &self,
        function: &str,
        inputs: &[(&str, &Array)],
        state: &mut State,
    ) -> Result<Vec<(String, Feature)>, CoreMlError> {
        let function = self.function(function)?;
        autoreleasepool(|_| {
            let given = function.provider(inputs)?;
            let model = function.model();
            let taken = match &state.inner {
                // SAFETY: All objects are alive, and `state` is borrowed mutably, so no other prediction uses it.
                Some(state) if !function.states.is_empty() => unsafe {
                    model.0.predictionFromFeatures_usingState_error(&given, state)
                },
                // SAFETY: Both objects are alive.
                _ => unsafe { model.0.predictionFromFeatures_error(&given) },
            };
            let taken = taken.map_err(|e| failed("predict", &e))?;
            features(&taken)
        })
    }

    /// Runs a function without states on several sets of inputs, some of them at once; gives the results in order.
    pub fn batch(
        &self,
        function: &str,
        inputs: &[Vec<(&str, &Array)>],
    ) -> Result<Vec<Vec<(String, Feature)>>, CoreMlError> {
        let function = self.function(function)?;
        autoreleasepool(|_| {
            let given = inputs
                .iter()
                .map(|inputs| function.provider(inputs))
                .collect::<Result<Vec<_>, _>>()?;
            if available!(macos = 14.0) {
                function.at_once(&given)
            } else {
                function.one_batch(&given)
            }
        })
    }

    fn function(&self, name: &str) -> Result<&Function, CoreMlError> {
        let found = self.functions.get(name);
        found.ok_or_else(|| CoreMlError::NoFunction { name: name.to_owned() })
    }
}

impl Function {
    fn new(model: Retained<MLModel>) -> Self {
        // SAFETY: A property that cannot fail, of an object that is alive; so are the ones below.
        let description = unsafe { model.modelDescription() };
        // SAFETY: See above.
        let (names, features) = unsafe { description.inputDescriptionsByName() }.to_vecs();
        let inputs = names.iter().zip(&features).map(|(name, f)| (name.to_string(), Kind::of(f)));
        let inputs = inputs.collect();
        let states = if available!(macos = 15.0) {
            // SAFETY: See above; this system has the property.
            let states = unsafe { description.stateDescriptionsByName() };
            states.to_vecs().0.iter().map(ToString::to_string).collect()
        } else {
            Vec::new()
        };
        Self { model: Mutex::new(Carried(model)), inputs, states }
    }

    fn model(&self) -> MutexGuard<'_, Carried<Retained<MLModel>>> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The inputs as the framework takes them, cast to the types that are declared.
    fn provider(&self, inputs: &[(&str, &Array)]) -> Result<Retained<Provider>, CoreMlError> {
        let wrong = |name: &str, what: String| CoreMlError::Input { name: name.to_owned(), what };
        let mut names = Vec::new();
        let mut values = Vec::new();
        for (name, array) in inputs {
            let array = match self.inputs.get(*name) {
                Some(Kind::Array(element)) => array.cast(*element),
                Some(Kind::Other(what)) => {
                    let what = format!("it is {what}, which only arrays can be given for");
                    return Err(wrong(name, what));
                }
                None => return Err(wrong(name, "the function has no such input".to_owned())),
            };
            let array = multi_array(name, &array)?;
            // SAFETY: The array is alive, and nobody else has it.
            values.push(unsafe { MLFeatureValue::featureValueWithMultiArray(&array) });
            names.push(NSString::from_str(name));
        }
        let names: Vec<&NSString> = names.iter().map(|name| &**name).collect();
        let values: Vec<&AnyObject> = values.iter().map(|value| value.as_ref()).collect();
        let dictionary = NSDictionary::<NSString, AnyObject>::from_slices(&names, &values);
        let provider = MLDictionaryFeatureProvider::alloc();
        // SAFETY: All values of the dictionary are feature values, as the method asks.
        let provider =
            unsafe { MLDictionaryFeatureProvider::initWithDictionary_error(provider, &dictionary) };
        let provider = provider.map_err(|e| failed("take the inputs", &e))?;
        Ok(ProtocolObject::from_retained(provider))
    }

    /// One call for all sets of inputs, which systems before macOS 14 have.
    fn one_batch(
        &self,
        given: &[Retained<Provider>],
    ) -> Result<Vec<Vec<(String, Feature)>>, CoreMlError> {
        let given = NSArray::from_retained_slice(given);
        let batch = MLArrayBatchProvider::alloc();
        // SAFETY: The array is alive and holds feature providers.
        let batch = unsafe { MLArrayBatchProvider::initWithFeatureProviderArray(batch, &given) };
        // SAFETY: Both objects are alive.
        let taken =
            unsafe { self.model().0.predictionsFromBatch_error(ProtocolObject::from_ref(&*batch)) };
        let taken = taken.map_err(|e| failed("predict", &e))?;
        // SAFETY: A property that cannot fail, of an object that is alive.
        let n = unsafe { taken.count() };
        let one = |i| {
            // SAFETY: The index is below the count.
            let given = unsafe { taken.featuresAtIndex(i) };
            features(&given)
        };
        (0..n).map(one).collect()
    }

    /// A call for each set of inputs, [`IN_FLIGHT`] of them at a time.
    fn at_once(
        &self,
        given: &[Retained<Provider>],
    ) -> Result<Vec<Vec<(String, Feature)>>, CoreMlError> {
        let model = self.model();
        let mut out = Vec::with_capacity(given.len());
        for group in given.chunks(IN_FLIGHT) {
            // All begin before the first is waited for.
            let pending: Vec<_> = group
                .iter()
                .map(|given| {
                    // SAFETY: Both objects are alive; the method retains what it needs longer.
                    begin(|done| unsafe {
                        model.0.predictionFromFeatures_completionHandler(given, done);
                    })
                })
                .collect();
            for pending in pending {
                let given = pending.wait("predict")?;
                out.push(features(&given)?);
            }
        }
        Ok(out)
    }
}

impl Kind {
    fn of(feature: &MLFeatureDescription) -> Self {
        // SAFETY: Properties that cannot fail, of an object that is alive.
        let (ty, array) = unsafe { (feature.r#type(), feature.multiArrayConstraint()) };
        match ty {
            MLFeatureType::MultiArray => match array {
                // SAFETY: See above.
                Some(array) => element(unsafe { array.dataType() })
                    .map_or(Self::Other("an array of another type"), Self::Array),
                None => Self::Other("an array without a type"),
            },
            MLFeatureType::Image => Self::Other("an image"),
            MLFeatureType::String => Self::Other("a text"),
            MLFeatureType::Int64 | MLFeatureType::Double => Self::Other("a number on its own"),
            MLFeatureType::Dictionary => Self::Other("a dictionary"),
            MLFeatureType::Sequence => Self::Other("a sequence"),
            _ => Self::Other("of another kind"),
        }
    }
}

impl State {
    /// The names of the states.
    pub fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    /// A state as it is now.
    pub fn read(&self, name: &str) -> Result<Array, CoreMlError> {
        let mut found = None;
        self.with(name, &mut |array| found = Some(read(name, array)))?;
        found.unwrap_or_else(|| Err(no_state(name)))
    }

    /// Replaces the elements of a state, cast to its type.
    pub fn write(&mut self, name: &str, array: &Array) -> Result<(), CoreMlError> {
        let mut done = None;
        self.with(name, &mut |into| done = Some(write(name, array, into)))?;
        done.unwrap_or_else(|| Err(no_state(name)))
    }

    /// Calls `each` with the array of a state.
    fn with(&self, name: &str, each: &mut dyn FnMut(&MLMultiArray)) -> Result<(), CoreMlError> {
        let (Some(inner), true) = (&self.inner, self.names.iter().any(|known| known == name))
        else {
            return Err(no_state(name));
        };
        // Blocks are `Fn`; this one is called once, before the method returns.
        let each = std::cell::RefCell::new(each);
        let block = RcBlock::new(|array: NonNull<MLMultiArray>| {
            // SAFETY: The framework gives an array that is alive during the call.
            (each.borrow_mut())(unsafe { array.as_ref() });
        });
        // SAFETY: The state has this name, and the block does not outlive the call.
        unsafe { inner.getMultiArrayForStateNamed_handler(&NSString::from_str(name), &block) };
        Ok(())
    }
}

fn no_state(name: &str) -> CoreMlError {
    CoreMlError::Input { name: name.to_owned(), what: "the model has no such state".to_owned() }
}

/// What each operation of a function would be computed on.
pub fn plan(
    wanted: &Wanted,
    function: &str,
    options: &Options,
) -> Result<ComputePlan, CoreMlError> {
    if !available!(macos = 14.4) {
        return Err(too_old("a compute plan", "14.4"));
    }
    let (url, _) = compiled(wanted, options)?;
    let name = function.to_owned();
    let configuration = configuration(options.units, wanted.named.then_some(&name))?;
    // SAFETY: Both objects are alive, the URL is one of a file, and this system has the method.
    let pending = begin(|done| unsafe {
        MLComputePlan::loadContentsOfURL_configuration_completionHandler(
            &url,
            &configuration,
            done,
        );
    });
    let plan = pending.wait("plan the model")?;
    let missing = |says: &str| CoreMlError::Framework {
        doing: format!("plan function `{function}`"),
        says: says.to_owned(),
    };
    // SAFETY: Properties that cannot fail, of objects that are alive; so are the ones below.
    let program = unsafe { plan.modelStructure().program() };
    let program = program.ok_or_else(|| missing("its structure is not that of an ML program"))?;
    // SAFETY: See above.
    let functions = unsafe { program.functions() };
    let found = functions.objectForKey(&NSString::from_str(function));
    let found = found.ok_or_else(|| missing("it is not in the structure"))?;
    let mut operations = Vec::new();
    // SAFETY: See above.
    let block = unsafe { found.block() };
    walk(&plan, &block, &mut operations);
    let devices = detect()?.devices;
    Ok(ComputePlan { function: function.to_owned(), units: options.units, devices, operations })
}

/// The operations of a block and of the blocks inside it.
fn walk(plan: &MLComputePlan, block: &MLModelStructureProgramBlock, out: &mut Vec<Planned>) {
    // SAFETY: Properties that cannot fail, of objects that are alive; so are all in this function.
    for operation in &unsafe { block.operations() } {
        // SAFETY: See above.
        let usage = unsafe { plan.computeDeviceUsageForMLProgramOperation(&operation) };
        // SAFETY: See above.
        let cost = unsafe { plan.estimatedCostOfMLProgramOperation(&operation) };
        let (mut preferred, mut supported) = (None, Vec::new());
        if let Some(usage) = usage {
            // SAFETY: See above.
            let device = unsafe { usage.preferredComputeDevice() };
            preferred = kind(&device);
            // SAFETY: See above.
            supported = unsafe { usage.supportedComputeDevices() }
                .iter()
                .filter_map(|device| kind(&device))
                .collect();
            supported.sort_unstable();
        }
        // SAFETY: See above.
        let first = unsafe { operation.outputs() }.firstObject();
        out.push(Planned {
            // SAFETY: See above.
            operator: unsafe { operation.operatorName() }.to_string(),
            // SAFETY: See above.
            output: first.map(|o| unsafe { o.name() }.to_string()).unwrap_or_default(),
            preferred,
            supported,
            // SAFETY: See above.
            cost: cost.map(|cost| unsafe { cost.weight() }),
        });
        // SAFETY: See above.
        for inner in &unsafe { operation.blocks() } {
            walk(plan, &inner, out);
        }
    }
}

/// The compiled model's place, and whether it was there already.
fn compiled(wanted: &Wanted, options: &Options) -> Result<(Retained<NSURL>, bool), CoreMlError> {
    let path = &wanted.path;
    if path.extension().is_some_and(|extension| extension == "mlmodelc") {
        return Ok((url(path)?, true));
    }
    let found = options.cache.get(path, &system(), |into| {
        let package = url(path)?;
        // SAFETY: The URL is one of a file and alive; the method retains what it needs longer.
        let pending = begin(|done| unsafe {
            MLModel::compileModelAtURL_completionHandler(&package, done);
        });
        let made = pending.wait("compile the package")?;
        let made = made.to_file_path().ok_or_else(|| CoreMlError::Framework {
            doing: "compile the package".to_owned(),
            says: "the compiled model has no path".to_owned(),
        })?;
        options.cache.adopt(path, &made, into).map_err(CoreMlError::from)
    })?;
    Ok((url(&found.path)?, found.found))
}

fn url(path: &std::path::Path) -> Result<Retained<NSURL>, CoreMlError> {
    NSURL::from_directory_path(path).ok_or_else(|| CoreMlError::Framework {
        doing: format!("open `{}`", path.display()),
        says: "the path is none that a URL can hold".to_owned(),
    })
}

fn configuration(
    units: ComputeUnits,
    function: Option<&String>,
) -> Result<Retained<MLModelConfiguration>, CoreMlError> {
    let units = match units {
        ComputeUnits::All => MLComputeUnits::All,
        ComputeUnits::CpuOnly => MLComputeUnits::CPUOnly,
        ComputeUnits::CpuAndGpu => MLComputeUnits::CPUAndGPU,
        ComputeUnits::CpuAndNe => MLComputeUnits::CPUAndNeuralEngine,
    };
    // SAFETY: A class method without arguments.
    let configuration = unsafe { MLModelConfiguration::new() };
    // SAFETY: The value is one of the enumeration's.
    unsafe { configuration.setComputeUnits(units) };
    if let Some(function) = function {
        if !available!(macos = 15.0) {
            return Err(too_old("a package of several functions", "15"));
        }
        // SAFETY: This system has the property, which copies the text.
        unsafe { configuration.setFunctionName(Some(&NSString::from_str(function))) };
    }
    Ok(configuration)
}

/// An answer that the framework gives on a thread of its own.
struct Pending<T>(mpsc::Receiver<Carried<Result<Retained<T>, String>>>);

/// Starts something that ends with a call of the block it is given.
fn begin<T: Message + 'static>(
    start: impl FnOnce(&DynBlock<dyn Fn(*mut T, *mut NSError)>),
) -> Pending<T> {
    let (send, receive) = mpsc::channel();
    let block = RcBlock::new(move |found: *mut T, error: *mut NSError| {
        // SAFETY: The framework gives null or an object that is alive during the call.
        let (found, error) = unsafe { (Retained::retain(found), error.as_ref()) };
        let says = || error.map_or_else(|| "no reason was given".to_owned(), says);
        // Nobody waits any more where an earlier answer was an error.
        drop(send.send(Carried(found.ok_or_else(says))));
    });
    start(&block);
    Pending(receive)
}

impl<T> Pending<T> {
    /// Waits for the answer.
    fn wait(self, doing: &str) -> Result<Retained<T>, CoreMlError> {
        // Where the framework drops the block without a call, the channel ends.
        let answer = self.0.recv().map_or_else(|_| Err("it gave no answer".to_owned()), |c| c.0);
        answer.map_err(|says| CoreMlError::Framework { doing: doing.to_owned(), says })
    }
}

fn failed(doing: &str, error: &NSError) -> CoreMlError {
    CoreMlError::Framework { doing: doing.to_owned(), says: says(error) }
}

/// The framework's words on one line, with the domain and the code that searches find.
fn says(error: &NSError) -> String {
    let text = error.localizedDescription().to_string();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{} ({} {})", text.trim_end_matches('.'), error.domain(), error.code())
}

fn too_old(what: &'static str, since: &'static str) -> CoreMlError {
    CoreMlError::TooOld { what, since, system: system() }
}

fn element(ty: MLMultiArrayDataType) -> Option<Element> {
    Some(match ty {
        MLMultiArrayDataType::Float16 => Element::F16,
        MLMultiArrayDataType::Float32 => Element::F32,
        MLMultiArrayDataType::Float64 => Element::F64,
        MLMultiArrayDataType::Int32 => Element::I32,
        MLMultiArrayDataType::Int8 => Element::I8,
        _ => return None,
    })
}

/// The framework's array of the same elements.
fn multi_array(name: &str, array: &Array) -> Result<Retained<MLMultiArray>, CoreMlError> {
    let ty = match array.element() {
        Element::F16 => MLMultiArrayDataType::Float16,
        Element::F32 => MLMultiArrayDataType::Float32,
        Element::F64 => MLMultiArrayDataType::Float64,
        Element::I32 => MLMultiArrayDataType::Int32,
        Element::I8 => MLMultiArrayDataType::Int8,
    };
    let extents: Vec<_> = array.shape().iter().map(|&n| NSNumber::new_usize(n)).collect();
    let extents = NSArray::from_retained_slice(&extents);
    let made = MLMultiArray::alloc();
    // SAFETY: The shape is alive and holds whole numbers.
    let made = unsafe { MLMultiArray::initWithShape_dataType_error(made, &extents, ty) };
    let made = made.map_err(|e| failed("make an array", &e))?;
    write(name, array, &made)?;
    Ok(made)
}

/// Puts the elements of `array` into one of the framework's, cast to its type.
fn write(name: &str, array: &Array, into: &MLMultiArray) -> Result<(), CoreMlError> {
    // SAFETY: Properties that cannot fail, of an object that is alive.
    let (shape, ty) = unsafe { (into.shape(), into.dataType()) };
    let shape = numbers(&shape);
    let wrong = |what: String| CoreMlError::Input { name: name.to_owned(), what };
    if shape != array.shape() {
        return Err(wrong(format!("shape {:?} does not fit {shape:?}", array.shape())));
    }
    let ty = element(ty).ok_or_else(|| wrong("it is of another type".to_owned()))?;
    let array = array.cast(ty);
    let done = std::cell::RefCell::new(Ok(()));
    let block =
        RcBlock::new(|storage: NonNull<_>, n: isize, strides: NonNull<NSArray<NSNumber>>| {
            let n = usize::try_from(n).unwrap_or(0);
            // SAFETY: The framework gives `n` bytes that are its own to write and an array, both alive during the call.
            let (storage, strides) = unsafe {
                (slice::from_raw_parts_mut(storage.cast::<u8>().as_ptr(), n), strides.as_ref())
            };
            let strides = numbers(strides);
            *done.borrow_mut() = scatter(array.bytes(), ty.size(), &shape, &strides, storage);
        });
    // SAFETY: The block takes what the method gives and does not outlive the call.
    unsafe { into.getMutableBytesWithHandler(&block) };
    drop(block);
    done.into_inner().map_err(|source| in_array(name, source))
}

/// The elements of one of the framework's arrays.
fn read(name: &str, array: &MLMultiArray) -> Result<Array, CoreMlError> {
    // SAFETY: Properties that cannot fail, of an object that is alive.
    let (shape, strides, ty) = unsafe { (array.shape(), array.strides(), array.dataType()) };
    let (shape, strides) = (numbers(&shape), numbers(&strides));
    let other = || CoreMlError::Output { name: name.to_owned(), what: "an array of another type" };
    let ty = element(ty).ok_or_else(other)?;
    let found = std::cell::RefCell::new(Ok(Vec::new()));
    let block = RcBlock::new(|storage: NonNull<_>, n: isize| {
        let n = usize::try_from(n).unwrap_or(0);
        // SAFETY: The framework gives `n` bytes that are alive and unchanged during the call.
        let storage = unsafe { slice::from_raw_parts(storage.cast::<u8>().as_ptr(), n) };
        *found.borrow_mut() = gather(storage, ty.size(), &shape, &strides);
    });
    // SAFETY: The block takes what the method gives and does not outlive the call.
    unsafe { array.getBytesWithHandler(&block) };
    drop(block);
    let bytes = found.into_inner().map_err(|source| in_array(name, source))?;
    Array::new(ty, &shape, bytes).map_err(|source| in_array(name, source))
}

fn in_array(name: &str, source: ArrayError) -> CoreMlError {
    CoreMlError::Array { name: name.to_owned(), source }
}

/// Extents or strides; what is below zero, which no array has, becomes too large to be taken.
fn numbers(numbers: &NSArray<NSNumber>) -> Vec<usize> {
    numbers.iter().map(|n| usize::try_from(n.as_i64()).unwrap_or(usize::MAX)).collect()
}

/// Everything that a prediction gave, by name in order.
fn features(given: &Provider) -> Result<Vec<(String, Feature)>, CoreMlError> {
    let mut out = Vec::new();
    // SAFETY: Properties that cannot fail, of objects that are alive; so are all in this function.
    for key in unsafe { given.featureNames() }.to_vec() {
        let name = key.to_string();
        let other = |what| CoreMlError::Output { name: name.clone(), what };
        // SAFETY: See above.
        let value = unsafe { given.featureValueForName(&key) }.ok_or_else(|| other("not there"))?;
        // SAFETY: See above.
        let (ty, array) = unsafe { (value.r#type(), value.multiArrayValue()) };
        let feature = match (ty, array) {
            (MLFeatureType::MultiArray, Some(array)) => Feature::Array(read(&name, &array)?),
            // SAFETY: See above.
            (MLFeatureType::Int64, _) => Feature::Int(unsafe { value.int64Value() }),
            // SAFETY: See above.
            (MLFeatureType::String, _) => Feature::Text(unsafe { value.stringValue() }.to_string()),
            (MLFeatureType::Dictionary, _) => {
                // SAFETY: See above.
                let dictionary = unsafe { value.dictionaryValue() };
                scores(&dictionary)
            }
            (MLFeatureType::Image, _) => return Err(other("an image")),
            _ => return Err(other("of another kind")),
        };
        out.push((name, feature));
    }
    out.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(out)
}

/// Numbers by class.
fn scores(dictionary: &NSDictionary<AnyObject, NSNumber>) -> Feature {
    let (keys, values) = dictionary.to_vecs();
    let class =
        |key: &AnyObject| match (key.downcast_ref::<NSString>(), key.downcast_ref::<NSNumber>()) {
            (Some(text), _) => Some(Class::Text(text.to_string())),
            (None, Some(number)) => Some(Class::Int(number.as_i64())),
            (None, None) => None,
        };
    let pairs = keys.iter().zip(&values).filter_map(|(k, v)| Some((class(k)?, v.as_f64())));
    Feature::Scores(pairs.collect())
}
