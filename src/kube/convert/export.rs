//! ServiceExport.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Conversion, Converted, NameRule, created_at, id_of};
use crate::kube::field::{Faults, Invalid};
use crate::kube::kinds;
use crate::kube::names;
use crate::model::export::ServiceExport;
use crate::model::object::{Labels, Object};

/// How much a ServiceExport may say in labels and annotations, in bytes: as much as an API server takes of annotations.
const MOST_TEXT: usize = 256 * 1024;

/// A `multicluster.x-k8s.io` ServiceExport. Labels and annotations that no object can have are left out with a warning.
///
/// # Errors
/// Lists every field that an API server would refuse.
pub fn service_export(export: &kinds::ServiceExport) -> Converted {
    let mut faults = Faults::default();
    let mut warnings = Vec::new();
    let spec = export.spec.clone().unwrap_or_default();
    let id = id_of(&export.metadata, NameRule::Label, &mut faults);
    let value_fault = |value: &str| names::label_value_fault(value);
    let labels = taken("spec.exportedLabels", spec.exported_labels, value_fault, &mut warnings);
    let size = |text: &str| (text.len() > MOST_TEXT).then_some("is longer than all annotations of an object may be");
    let annotations = taken("spec.exportedAnnotations", spec.exported_annotations, size, &mut warnings);
    let object = Object::Export(ServiceExport {
        id,
        created_at: created_at(&export.metadata),
        generation: export.metadata.generation.unwrap_or(0),
        labels,
        annotations,
    });
    faults.or(Conversion { warnings, ..Conversion::of(object) })
}

fn taken(
    field: &str,
    said: Option<BTreeMap<String, String>>,
    value_fault: impl Fn(&str) -> Option<&'static str>,
    warnings: &mut Vec<Invalid>,
) -> Labels {
    let mut taken = Labels::new();
    for (key, value) in said.into_iter().flatten() {
        match names::label_key_fault(&key).or_else(|| value_fault(&value)) {
            None => drop(taken.insert(Arc::from(key), Arc::from(value))),
            Some(fault) => warnings.push(Invalid {
                field: format!("{field}[{key}]"),
                message: format!("no import can have it: it {fault}, and is left out"),
                remedy: "write a key such as `example.com/team`, and a value that an object of Kubernetes can have"
                    .to_owned(),
            }),
        }
    }
    taken
}
