//! Small checkpoints and adapters for tests, written by the format's own crate.

use std::path::Path;

use ::safetensors::tensor::TensorView;

/// A config of the family `llama` with 4 ids, width 4, one block.
pub(crate) const LLAMA: &str = r#"{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 4,
    "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 16,
    "tie_word_embeddings": true}"#;

/// Writes f32 tensors as a safetensors file.
pub(crate) fn write(path: &Path, tensors: &[(&str, &[usize], &[f32])]) {
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, shape, values)| {
            let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            ((*name).to_owned(), shape.to_vec(), bytes)
        })
        .collect();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(::safetensors::Dtype::F32, shape.clone(), bytes).unwrap();
        (name.clone(), view)
    });
    fs_err::write(path, ::safetensors::serialize(views, None).unwrap()).unwrap();
}

/// A checkpoint folder with that config and those weights.
pub(crate) fn checkpoint(config: &str, tensors: &[(&str, &[usize], &[f32])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs_err::write(dir.path().join("config.json"), config).unwrap();
    write(&dir.path().join("model.safetensors"), tensors);
    dir
}

/// An adapter folder with those settings besides `peft_type`, and those weights.
pub(crate) fn adapter(settings: &str, tensors: &[(&str, &[usize], &[f32])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let config = format!(r#"{{"peft_type": "LORA", {settings}}}"#);
    fs_err::write(dir.path().join("adapter_config.json"), config).unwrap();
    write(&dir.path().join("adapter_model.safetensors"), tensors);
    dir
}
