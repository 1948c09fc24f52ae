//! `FeatureTypes.proto`: what a model's inputs, outputs and states look like from outside.

use prost::{Enumeration, Message, Oneof};

#[derive(Clone, PartialEq, Message)]
pub struct FeatureDescription {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub short_description: String,
    #[prost(message, optional, tag = "3")]
    pub r#type: Option<FeatureType>,
}

#[derive(Clone, PartialEq, Message)]
pub struct FeatureType {
    #[prost(oneof = "FeatureKind", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
    pub r#type: Option<FeatureKind>,
    #[prost(bool, tag = "1000")]
    pub is_optional: bool,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum FeatureKind {
    #[prost(message, tag = "1")]
    Int64(Empty),
    #[prost(message, tag = "2")]
    Double(Empty),
    #[prost(message, tag = "3")]
    String(Empty),
    #[prost(message, tag = "4")]
    Image(ImageFeatureType),
    #[prost(message, tag = "5")]
    MultiArray(ArrayFeatureType),
    #[prost(message, tag = "6")]
    Dictionary(DictionaryFeatureType),
    #[prost(message, tag = "7")]
    Sequence(SequenceFeatureType),
    #[prost(message, tag = "8")]
    State(StateFeatureType),
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
#[expect(clippy::empty_structs_with_brackets, reason = "`prost` derives on braces")]
pub struct Empty {}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct SizeRange {
    #[prost(uint64, tag = "1")]
    pub lower_bound: u64,
    #[prost(int64, tag = "2")]
    pub upper_bound: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct ArrayFeatureType {
    #[prost(int64, repeated, tag = "1")]
    pub shape: Vec<i64>,
    #[prost(enumeration = "ArrayDataType", tag = "2")]
    pub data_type: i32,
    #[prost(oneof = "ShapeFlexibility", tags = "21, 31")]
    pub shape_flexibility: Option<ShapeFlexibility>,
    #[prost(oneof = "DefaultOptionalValue", tags = "41, 51, 61")]
    pub default_optional_value: Option<DefaultOptionalValue>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum ShapeFlexibility {
    #[prost(message, tag = "21")]
    EnumeratedShapes(EnumeratedShapes),
    #[prost(message, tag = "31")]
    ShapeRange(ShapeRange),
}

#[derive(Clone, Copy, PartialEq, Oneof)]
pub enum DefaultOptionalValue {
    #[prost(int32, tag = "41")]
    Int(i32),
    #[prost(float, tag = "51")]
    Float(f32),
    #[prost(double, tag = "61")]
    Double(f64),
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Shape {
    #[prost(int64, repeated, tag = "1")]
    pub shape: Vec<i64>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct EnumeratedShapes {
    #[prost(message, repeated, tag = "1")]
    pub shapes: Vec<Shape>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct ShapeRange {
    #[prost(message, repeated, tag = "1")]
    pub size_ranges: Vec<SizeRange>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum ArrayDataType {
    InvalidArrayDataType = 0,
    Float16 = 65552,
    Float32 = 65568,
    Double = 65600,
    Int8 = 131_080,
    Int32 = 131_104,
}

#[derive(Clone, PartialEq, Message)]
pub struct ImageFeatureType {
    #[prost(int64, tag = "1")]
    pub width: i64,
    #[prost(int64, tag = "2")]
    pub height: i64,
    #[prost(int32, tag = "3")]
    pub color_space: i32,
    #[prost(oneof = "ImageSizeFlexibility", tags = "21, 31")]
    pub size_flexibility: Option<ImageSizeFlexibility>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum ImageSizeFlexibility {
    #[prost(message, tag = "21")]
    EnumeratedSizes(EnumeratedImageSizes),
    #[prost(message, tag = "31")]
    ImageSizeRange(ImageSizeRange),
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ImageSize {
    #[prost(uint64, tag = "1")]
    pub width: u64,
    #[prost(uint64, tag = "2")]
    pub height: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct EnumeratedImageSizes {
    #[prost(message, repeated, tag = "1")]
    pub sizes: Vec<ImageSize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ImageSizeRange {
    #[prost(message, optional, tag = "1")]
    pub width_range: Option<SizeRange>,
    #[prost(message, optional, tag = "2")]
    pub height_range: Option<SizeRange>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct DictionaryFeatureType {
    #[prost(oneof = "DictionaryKey", tags = "1, 2")]
    pub key_type: Option<DictionaryKey>,
}

#[derive(Clone, Copy, PartialEq, Eq, Oneof)]
pub enum DictionaryKey {
    #[prost(message, tag = "1")]
    Int64(Empty),
    #[prost(message, tag = "2")]
    String(Empty),
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct SequenceFeatureType {
    #[prost(oneof = "SequenceKind", tags = "1, 3")]
    pub r#type: Option<SequenceKind>,
    #[prost(message, optional, tag = "101")]
    pub size_range: Option<SizeRange>,
}

#[derive(Clone, Copy, PartialEq, Eq, Oneof)]
pub enum SequenceKind {
    #[prost(message, tag = "1")]
    Int64(Empty),
    #[prost(message, tag = "3")]
    String(Empty),
}

#[derive(Clone, PartialEq, Message)]
pub struct StateFeatureType {
    #[prost(oneof = "StateKind", tags = "1")]
    pub r#type: Option<StateKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum StateKind {
    #[prost(message, tag = "1")]
    Array(ArrayFeatureType),
}
