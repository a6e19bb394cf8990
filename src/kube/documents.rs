//! Objects as a stream of YAML documents, as kubectl takes it.

use serde::Serialize;

/// The objects as YAML, each a document of its own.
///
/// # Errors
/// Where an object cannot be said in YAML, such as a map whose keys are not texts.
pub fn documents<T: Serialize>(objects: &[T]) -> Result<String, serde_yaml_ng::Error> {
    let documents: Result<Vec<String>, _> = objects.iter().map(serde_yaml_ng::to_string).collect();
    Ok(documents?.join("---\n"))
}
