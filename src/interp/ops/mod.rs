//! The operations: one visible table of name, opsets and constructor; files are named as coremltools' `mil/ops/defs`.
//!
//! A constructor reads an operation's parameters once, when the program is planned, and gives the kernel that runs.
//! To add an operation: write its function in the file of its family and add its line here.

mod activation;
mod classify;
mod compression;
mod control_flow;
mod conv;
mod conv_transpose;
mod crop_resize;
#[cfg(test)]
mod docs;
mod einsum;
mod elementwise_binary;
mod elementwise_unary;
mod gather;
mod image_resizing;
mod image_sampling;
mod joining;
mod linear;
mod non_maximum_suppression;
mod normalization;
mod pool;
mod quantization_ops;
mod random;
mod rearrangement;
mod recurrent;
mod reduction;
mod scatter;
mod slicing;
mod states;
mod tensor_operation;
mod tensor_sorting;
mod tensor_transformation;
mod transformers;
mod window;

use rayon::prelude::*;

use super::error::OpError;
use super::kernel::{simd::map, strided};
use super::run::{Kernel, Run};
use super::site::Site;
use super::tensor::{Slice, Tensor, map_carrier};

/// The versions of the operation set, by the system that brought them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the variants are coremltools' own names")]
pub enum Opset {
    IOS15,
    IOS16,
    IOS17,
    IOS18,
}

use Opset::{IOS15, IOS16, IOS17, IOS18};

impl Opset {
    /// The opset that a function names, such as `CoreML8`.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "CoreML5" => IOS15,
            "CoreML6" => IOS16,
            "CoreML7" => IOS17,
            "CoreML8" => IOS18,
            _ => return None,
        })
    }
}

type Build = fn(&Site<'_, '_>) -> Result<Kernel, OpError>;

/// Dependence of an operation's results on anything but its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purity {
    /// Equal arguments give equal results; an operation over constants is folded.
    Pure,
    /// Reads or writes states, or draws random numbers.
    Impure,
}

/// Growth of an operation's time, which limits what is folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cost {
    /// At most proportional to the elements of arguments and results.
    Linear,
    /// Up to the product of the elements of arguments and results.
    Product,
}

use Cost::{Linear, Product};
use Purity::{Impure, Pure};

/// An operation: its name, the opsets that have it in this form, its properties, and its constructor.
pub(crate) struct Entry {
    name: &'static str,
    since: Opset,
    until: Opset,
    pub(crate) purity: Purity,
    pub(crate) cost: Cost,
    pub(crate) build: Build,
}

const fn op(
    name: &'static str,
    since: Opset,
    until: Opset,
    purity: Purity,
    cost: Cost,
    build: Build,
) -> Entry {
    Entry { name, since, until, purity, cost, build }
}

/// The table.
const TABLE: &[Entry] = &[
    op("abs", IOS15, IOS18, Pure, Linear, elementwise_unary::abs),
    op("acos", IOS15, IOS18, Pure, Linear, elementwise_unary::acos),
    op("add", IOS15, IOS18, Pure, Linear, elementwise_binary::add),
    op("affine", IOS15, IOS18, Pure, Linear, image_sampling::affine),
    op("argsort", IOS15, IOS18, Pure, Linear, tensor_sorting::argsort),
    op("asin", IOS15, IOS18, Pure, Linear, elementwise_unary::asin),
    op("atan", IOS15, IOS18, Pure, Linear, elementwise_unary::atan),
    op("atanh", IOS15, IOS18, Pure, Linear, elementwise_unary::atanh),
    op("avg_pool", IOS15, IOS18, Pure, Product, pool::average),
    op("band_part", IOS15, IOS18, Pure, Linear, tensor_operation::band_part),
    op("batch_norm", IOS15, IOS18, Pure, Linear, normalization::batch_norm),
    op("batch_to_space", IOS15, IOS18, Pure, Linear, rearrangement::batch_to_space),
    op("cast", IOS15, IOS18, Pure, Linear, elementwise_unary::cast),
    op("ceil", IOS15, IOS18, Pure, Linear, elementwise_unary::ceil),
    op("clamped_relu", IOS15, IOS18, Pure, Linear, activation::clamped_relu),
    op("classify", IOS15, IOS18, Pure, Linear, classify::classify),
    op("clip", IOS15, IOS18, Pure, Linear, elementwise_unary::clip),
    op("concat", IOS15, IOS18, Pure, Linear, joining::concat),
    op("cond", IOS15, IOS18, Pure, Linear, control_flow::cond),
    op("constexpr_affine_dequantize", IOS16, IOS18, Pure, Linear, compression::affine_dequantize),
    op(
        "constexpr_blockwise_shift_scale",
        IOS18,
        IOS18,
        Pure,
        Linear,
        compression::blockwise_shift_scale,
    ),
    op("constexpr_cast", IOS16, IOS18, Pure, Linear, compression::cast),
    op("constexpr_lut_to_dense", IOS16, IOS17, Pure, Linear, compression::lut_to_dense_ios16),
    op("constexpr_lut_to_dense", IOS18, IOS18, Pure, Linear, compression::lut_to_dense),
    op("constexpr_lut_to_sparse", IOS18, IOS18, Pure, Linear, compression::lut_to_sparse),
    op(
        "constexpr_sparse_blockwise_shift_scale",
        IOS18,
        IOS18,
        Pure,
        Linear,
        compression::sparse_blockwise_shift_scale,
    ),
    op("constexpr_sparse_to_dense", IOS16, IOS17, Pure, Linear, compression::sparse_to_dense_ios16),
    op("constexpr_sparse_to_dense", IOS18, IOS18, Pure, Linear, compression::sparse_to_dense),
    op("conv", IOS15, IOS18, Pure, Product, conv::conv),
    op("conv_quantized", IOS15, IOS18, Pure, Product, conv::quantized),
    op("conv_transpose", IOS15, IOS18, Pure, Product, conv_transpose::conv_transpose),
    op("coreml_update_state", IOS18, IOS18, Impure, Linear, states::update),
    op("cos", IOS15, IOS18, Pure, Linear, elementwise_unary::cos),
    op("cosh", IOS15, IOS18, Pure, Linear, elementwise_unary::cosh),
    op("crop", IOS15, IOS18, Pure, Linear, image_resizing::crop),
    op("crop_resize", IOS15, IOS15, Pure, Linear, crop_resize::ios15),
    op("crop_resize", IOS16, IOS16, Pure, Linear, crop_resize::ios16),
    op("crop_resize", IOS17, IOS18, Pure, Linear, crop_resize::ios17),
    op("cumsum", IOS15, IOS18, Pure, Linear, tensor_operation::cumsum),
    op("depth_to_space", IOS15, IOS18, Pure, Linear, rearrangement::depth_to_space),
    op("dequantize", IOS17, IOS18, Pure, Linear, quantization_ops::dequantize),
    op("einsum", IOS15, IOS18, Pure, Product, einsum::einsum),
    op("elu", IOS15, IOS18, Pure, Linear, activation::elu),
    op("equal", IOS15, IOS18, Pure, Linear, elementwise_binary::equal),
    op("erf", IOS15, IOS18, Pure, Linear, elementwise_unary::erf),
    op("exp", IOS15, IOS18, Pure, Linear, elementwise_unary::exp),
    op("exp2", IOS15, IOS18, Pure, Linear, elementwise_unary::exp2),
    op("expand_dims", IOS15, IOS18, Pure, Linear, tensor_transformation::expand_dims),
    op("fill", IOS15, IOS18, Pure, Linear, tensor_operation::fill),
    op("fill_like", IOS16, IOS18, Pure, Linear, tensor_operation::fill_like),
    op("flatten2d", IOS15, IOS18, Pure, Linear, tensor_operation::flatten2d),
    op("floor", IOS15, IOS18, Pure, Linear, elementwise_unary::floor),
    op("floor_div", IOS15, IOS18, Pure, Linear, elementwise_binary::floor_div),
    op("gather", IOS15, IOS16, Pure, Linear, gather::gather_ios15),
    op("gather", IOS17, IOS18, Pure, Linear, gather::gather_ios17),
    op("gather_along_axis", IOS15, IOS16, Pure, Linear, gather::along_axis_ios15),
    op("gather_along_axis", IOS17, IOS18, Pure, Linear, gather::along_axis_ios17),
    op("gather_nd", IOS15, IOS16, Pure, Linear, gather::nd_ios15),
    op("gather_nd", IOS17, IOS18, Pure, Linear, gather::nd_ios17),
    op("gelu", IOS15, IOS18, Pure, Linear, activation::gelu),
    op("greater", IOS15, IOS18, Pure, Linear, elementwise_binary::greater),
    op("greater_equal", IOS15, IOS18, Pure, Linear, elementwise_binary::greater_equal),
    op("gru", IOS15, IOS17, Pure, Product, recurrent::gru),
    op("gru", IOS18, IOS18, Pure, Product, recurrent::gru_ios18),
    op("identity", IOS15, IOS18, Pure, Linear, tensor_operation::identity),
    op("instance_norm", IOS15, IOS18, Pure, Linear, normalization::instance_norm),
    op("inverse", IOS15, IOS18, Pure, Linear, elementwise_unary::inverse),
    op("l2_norm", IOS15, IOS18, Pure, Linear, normalization::l2_norm),
    op("l2_pool", IOS15, IOS18, Pure, Product, pool::l2),
    op("layer_norm", IOS15, IOS18, Pure, Linear, normalization::layer_norm),
    op("leaky_relu", IOS15, IOS18, Pure, Linear, activation::leaky_relu),
    op("less", IOS15, IOS18, Pure, Linear, elementwise_binary::less),
    op("less_equal", IOS15, IOS18, Pure, Linear, elementwise_binary::less_equal),
    op("linear", IOS15, IOS18, Pure, Product, linear::linear),
    op("linear_activation", IOS15, IOS18, Pure, Linear, activation::linear_activation),
    op("list_gather", IOS15, IOS18, Pure, Linear, control_flow::list_gather),
    op("list_length", IOS15, IOS18, Pure, Linear, control_flow::list_length),
    op("list_read", IOS15, IOS18, Pure, Linear, control_flow::list_read),
    op("list_scatter", IOS15, IOS18, Pure, Linear, control_flow::list_scatter),
    op("list_write", IOS15, IOS18, Pure, Linear, control_flow::list_write),
    op("local_response_norm", IOS15, IOS18, Pure, Product, normalization::local_response_norm),
    op("log", IOS15, IOS18, Pure, Linear, elementwise_unary::log),
    op("logical_and", IOS15, IOS18, Pure, Linear, elementwise_binary::logical_and),
    op("logical_not", IOS15, IOS18, Pure, Linear, elementwise_unary::logical_not),
    op("logical_or", IOS15, IOS18, Pure, Linear, elementwise_binary::logical_or),
    op("logical_xor", IOS15, IOS18, Pure, Linear, elementwise_binary::logical_xor),
    op("lstm", IOS15, IOS18, Pure, Product, recurrent::lstm),
    op("make_list", IOS15, IOS18, Pure, Linear, control_flow::make_list),
    op("matmul", IOS15, IOS18, Pure, Product, linear::matmul),
    op("max_pool", IOS15, IOS18, Pure, Product, pool::max),
    op("maximum", IOS15, IOS18, Pure, Linear, elementwise_binary::maximum),
    op("minimum", IOS15, IOS18, Pure, Linear, elementwise_binary::minimum),
    op("mod", IOS15, IOS18, Pure, Linear, elementwise_binary::modulo),
    op("mul", IOS15, IOS18, Pure, Linear, elementwise_binary::mul),
    op("non_maximum_suppression", IOS15, IOS16, Pure, Product, non_maximum_suppression::ios15),
    op("non_maximum_suppression", IOS17, IOS18, Pure, Product, non_maximum_suppression::ios17),
    op("non_zero", IOS15, IOS18, Pure, Linear, tensor_operation::non_zero),
    op("not_equal", IOS15, IOS18, Pure, Linear, elementwise_binary::not_equal),
    op("one_hot", IOS15, IOS18, Pure, Linear, tensor_operation::one_hot),
    op("pad", IOS15, IOS18, Pure, Linear, tensor_operation::pad),
    op("pixel_shuffle", IOS15, IOS18, Pure, Linear, rearrangement::pixel_shuffle),
    op("pixel_unshuffle", IOS16, IOS18, Pure, Linear, rearrangement::pixel_unshuffle),
    op("pow", IOS15, IOS18, Pure, Linear, elementwise_binary::pow),
    op("prelu", IOS15, IOS18, Pure, Linear, activation::prelu),
    op("quantize", IOS17, IOS18, Pure, Linear, quantization_ops::quantize),
    op("random_bernoulli", IOS15, IOS18, Impure, Linear, random::bernoulli),
    op("random_categorical", IOS15, IOS18, Impure, Linear, random::categorical),
    op("random_normal", IOS15, IOS18, Impure, Linear, random::normal),
    op("random_uniform", IOS15, IOS18, Impure, Linear, random::uniform),
    op("range_1d", IOS15, IOS18, Pure, Linear, tensor_operation::range_1d),
    op("read_state", IOS18, IOS18, Impure, Linear, states::read),
    op("real_div", IOS15, IOS18, Pure, Linear, elementwise_binary::real_div),
    op("reduce_argmax", IOS15, IOS18, Pure, Linear, reduction::argmax),
    op("reduce_argmin", IOS15, IOS18, Pure, Linear, reduction::argmin),
    op("reduce_l1_norm", IOS15, IOS18, Pure, Linear, reduction::l1_norm),
    op("reduce_l2_norm", IOS15, IOS18, Pure, Linear, reduction::l2_norm),
    op("reduce_log_sum", IOS15, IOS18, Pure, Linear, reduction::log_sum),
    op("reduce_log_sum_exp", IOS15, IOS18, Pure, Linear, reduction::log_sum_exp),
    op("reduce_max", IOS15, IOS18, Pure, Linear, reduction::max),
    op("reduce_mean", IOS15, IOS18, Pure, Linear, reduction::mean),
    op("reduce_min", IOS15, IOS18, Pure, Linear, reduction::min),
    op("reduce_prod", IOS15, IOS18, Pure, Linear, reduction::prod),
    op("reduce_sum", IOS15, IOS18, Pure, Linear, reduction::sum),
    op("reduce_sum_square", IOS15, IOS18, Pure, Linear, reduction::sum_square),
    op("relu", IOS15, IOS18, Pure, Linear, activation::relu),
    op("relu6", IOS15, IOS18, Pure, Linear, activation::relu6),
    op("resample", IOS15, IOS18, Pure, Linear, image_sampling::resample),
    op("reshape", IOS15, IOS16, Pure, Linear, tensor_transformation::reshape_ios15),
    op("reshape", IOS17, IOS18, Pure, Linear, tensor_transformation::reshape_ios17),
    op("reshape_like", IOS16, IOS18, Pure, Linear, tensor_transformation::reshape_like),
    op("resize", IOS17, IOS18, Pure, Linear, image_resizing::resize),
    op("resize_bilinear", IOS15, IOS18, Pure, Linear, image_resizing::bilinear),
    op("resize_nearest_neighbor", IOS15, IOS18, Pure, Linear, image_resizing::nearest),
    op("reverse", IOS15, IOS18, Pure, Linear, tensor_transformation::reverse),
    op("reverse_sequence", IOS15, IOS18, Pure, Linear, tensor_transformation::reverse_sequence),
    op("rnn", IOS15, IOS18, Pure, Product, recurrent::rnn),
    op("round", IOS15, IOS18, Pure, Linear, elementwise_unary::round),
    op("rsqrt", IOS15, IOS18, Pure, Linear, elementwise_unary::rsqrt),
    op(
        "scaled_dot_product_attention",
        IOS18,
        IOS18,
        Pure,
        Product,
        transformers::scaled_dot_product_attention,
    ),
    op("scaled_tanh", IOS15, IOS18, Pure, Linear, activation::scaled_tanh),
    op("scatter", IOS15, IOS16, Pure, Linear, scatter::scatter_ios15),
    op("scatter", IOS17, IOS18, Pure, Linear, scatter::scatter_ios17),
    op("scatter_along_axis", IOS15, IOS16, Pure, Linear, scatter::along_axis_ios15),
    op("scatter_along_axis", IOS17, IOS18, Pure, Linear, scatter::along_axis_ios17),
    op("scatter_nd", IOS15, IOS16, Pure, Linear, scatter::nd_ios15),
    op("scatter_nd", IOS17, IOS18, Pure, Linear, scatter::nd_ios17),
    op("select", IOS15, IOS18, Pure, Linear, elementwise_binary::select),
    op("shape", IOS15, IOS18, Pure, Linear, tensor_operation::shape),
    op("sigmoid", IOS15, IOS18, Pure, Linear, activation::sigmoid),
    op("sigmoid_hard", IOS15, IOS18, Pure, Linear, activation::sigmoid_hard),
    op("sign", IOS15, IOS18, Pure, Linear, elementwise_unary::sign),
    op("silu", IOS15, IOS18, Pure, Linear, activation::silu),
    op("sin", IOS15, IOS18, Pure, Linear, elementwise_unary::sin),
    op("sinh", IOS15, IOS18, Pure, Linear, elementwise_unary::sinh),
    op("slice_by_index", IOS15, IOS18, Pure, Linear, slicing::slice_by_index),
    op("slice_by_size", IOS15, IOS18, Pure, Linear, slicing::slice_by_size),
    op("slice_update", IOS18, IOS18, Pure, Linear, slicing::slice_update),
    op("sliding_windows", IOS15, IOS18, Pure, Linear, rearrangement::sliding_windows),
    op("softmax", IOS15, IOS18, Pure, Linear, activation::softmax),
    op("softplus", IOS15, IOS18, Pure, Linear, activation::softplus),
    op("softplus_parametric", IOS15, IOS18, Pure, Linear, activation::softplus_parametric),
    op("softsign", IOS15, IOS18, Pure, Linear, activation::softsign),
    op("space_to_batch", IOS15, IOS18, Pure, Linear, rearrangement::space_to_batch),
    op("space_to_depth", IOS15, IOS18, Pure, Linear, rearrangement::space_to_depth),
    op("split", IOS15, IOS18, Pure, Linear, tensor_operation::split),
    op("sqrt", IOS15, IOS18, Pure, Linear, elementwise_unary::sqrt),
    op("square", IOS15, IOS18, Pure, Linear, elementwise_unary::square),
    op("squeeze", IOS15, IOS18, Pure, Linear, tensor_transformation::squeeze),
    op("stack", IOS15, IOS18, Pure, Linear, joining::stack),
    op("sub", IOS15, IOS18, Pure, Linear, elementwise_binary::sub),
    op("tan", IOS15, IOS18, Pure, Linear, elementwise_unary::tan),
    op("tanh", IOS15, IOS18, Pure, Linear, elementwise_unary::tanh),
    op("threshold", IOS15, IOS18, Pure, Linear, elementwise_unary::threshold),
    op("thresholded_relu", IOS15, IOS18, Pure, Linear, activation::thresholded_relu),
    op("tile", IOS15, IOS18, Pure, Linear, tensor_operation::tile),
    op("topk", IOS15, IOS15, Pure, Linear, tensor_sorting::topk_ios15),
    op("topk", IOS16, IOS18, Pure, Linear, tensor_sorting::topk_ios16),
    op("transpose", IOS15, IOS18, Pure, Linear, tensor_transformation::transpose),
    op("upsample_bilinear", IOS15, IOS15, Pure, Linear, image_resizing::upsample_bilinear_ios15),
    op("upsample_bilinear", IOS16, IOS18, Pure, Linear, image_resizing::upsample_bilinear_ios16),
    op("upsample_nearest_neighbor", IOS15, IOS18, Pure, Linear, image_resizing::upsample_nearest),
    op("while_loop", IOS15, IOS18, Pure, Linear, control_flow::while_loop),
    op("write_state", IOS18, IOS18, Impure, Linear, states::write),
];

/// The operation of this name in this opset.
pub(crate) fn lookup(name: &str, opset: Opset) -> Option<&'static Entry> {
    TABLE.iter().find(|e| e.name == name && e.since <= opset && opset <= e.until)
}

/// Every supported operation with the first and last opset of each of its forms, in the order of their names.
pub fn supported() -> impl Iterator<Item = (&'static str, Opset, Opset)> {
    TABLE.iter().map(|e| (e.name, e.since, e.until))
}

/// An axis counted from either end.
fn axis(axis: i32, rank: usize) -> Result<usize, OpError> {
    let counted = if axis < 0 { i64::from(axis) + rank as i64 } else { i64::from(axis) };
    usize::try_from(counted)
        .ok()
        .filter(|&a| a < rank)
        .ok_or_else(|| OpError::invalid(format!("axis {axis} is outside rank {rank}")))
}

/// Several axes counted from either end, in rising order.
fn axes(from: &[i32], rank: usize) -> Result<Vec<usize>, OpError> {
    let mut out = from.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>, _>>()?;
    out.sort_unstable();
    out.dedup();
    Ok(out)
}

/// Extents given as whole numbers.
fn extents(from: &[i32]) -> Result<Vec<usize>, OpError> {
    let extent = |&n: &i32| {
        usize::try_from(n).map_err(|_| OpError::invalid(format!("an extent of {n} in {from:?}")))
    };
    from.iter().map(extent).collect()
}

/// The elements of `x` at `start + Σ place · step` for every place of some extents, as a tensor of `shape`.
fn gathered(
    run: &Run<'_>,
    x: &Tensor,
    start: isize,
    (extents, step): (&[usize], &[isize]),
    shape: &[usize],
) -> Tensor {
    if let Slice::F32(from) = x.carrier() {
        let mut out = run.filled(extents.iter().product());
        strided::gather_to(from, start, extents, step, &mut out);
        return x.with_f32(shape.to_vec(), out);
    }
    map_carrier!(x, shape.to_vec(), |src| strided::gather(src, start, extents, step))
}

/// Floats of one shape computed from another tensor's floats one by one, in place where possible.
fn map_f32(
    run: &mut Run<'_>,
    x: &super::run::In,
    f: impl Fn(f32) -> f32 + Sync,
) -> Result<Tensor, OpError> {
    /// Elements worth a task of their own.
    const PIECE: usize = 1 << 14;
    let shape = run.get(x).shape().to_vec();
    let mut values = if run.owns(x) {
        run.take(x).into_f32s()?
    } else {
        let mut copy = run.buffer(run.get(x).len());
        copy.extend_from_slice(&run.get(x).f32s()?);
        copy
    };
    let halves = run.halves();
    let each = |piece: &mut [f32]| {
        map(piece, &f);
        if halves {
            super::kernel::fp16::round(piece);
        }
    };
    if values.len() <= PIECE {
        each(&mut values);
    } else {
        values.par_chunks_mut(PIECE).for_each(each);
    }
    Ok(run.result(&shape, values))
}

#[cfg(test)]
mod hostile;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_no_form_hides_another() {
        for pair in TABLE.windows(2) {
            let [a, b] = pair else { unreachable!("windows of two") };
            let after = a.name < b.name || (a.name == b.name && a.until < b.since);
            assert!(after, "{} then {}", a.name, b.name);
        }
        assert!(TABLE.iter().all(|e| e.since <= e.until));
    }
}
