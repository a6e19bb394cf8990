//! A policy's configuration, as its access gives it.

use std::fmt;
use std::ops::RangeInclusive;

use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// What can be set. `()` has no settings.
///
/// ```
/// use causeway_policy::settings::{Settings, within};
///
/// #[derive(serde::Deserialize)]
/// #[serde(rename_all = "camelCase", deny_unknown_fields, default)]
/// struct Config {
///     panic_threshold_percent: u32,
/// }
///
/// impl Default for Config {
///     fn default() -> Self {
///         Self { panic_threshold_percent: 1 }
///     }
/// }
///
/// impl Settings for Config {
///     const SETTINGS: &'static [(&'static str, &'static str)] =
///         &[("panicThresholdPercent", "a whole number from 0 to 100")];
///
///     fn check(&self) -> Result<(), String> {
///         within("panicThresholdPercent", self.panic_threshold_percent, 0..=100)
///     }
/// }
/// ```
pub trait Settings: DeserializeOwned + Default {
    /// The name of each setting, and what it can be: "use {that}" is what people are told.
    const SETTINGS: &'static [(&'static str, &'static str)];

    /// Checks what the types do not say.
    ///
    /// # Errors
    /// The field, what is wrong with it and what it can be: `sizes[2]: 0 is not within 1 to 64`.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

impl Settings for () {
    const SETTINGS: &'static [(&'static str, &'static str)] = &[];
}

/// Checks that a number is in its range.
///
/// # Errors
/// When it is not.
pub fn within(field: &str, value: u32, range: RangeInclusive<u32>) -> Result<(), String> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(format!("{field}: {value} is not within {} to {}", range.start(), range.end()))
}

/// Reads a policy's configuration; `null` and `{}` are the defaults.
///
/// # Errors
/// What is wrong, for people: the setting, and what it can be.
pub fn parse<S: Settings>(policy: &str, config: &str) -> Result<S, String> {
    if matches!(config, "null" | "{}") {
        return checked(S::default());
    }
    // The whole at once is fast; only where that fails is it worth finding out which setting is to blame.
    // (serde would take a list for a mapping, too.)
    let settings = match serde_json::from_str::<S>(config) {
        Ok(settings) if config.trim_start().starts_with('{') && !S::SETTINGS.is_empty() => settings,
        whole => return blame::<S>(policy, config, whole.err().map(|error| error.to_string())),
    };
    checked(settings)
}

fn checked<S: Settings>(settings: S) -> Result<S, String> {
    settings.check().map(|()| settings)
}

fn blame<S: Settings>(policy: &str, config: &str, whole: Option<String>) -> Result<S, String> {
    let value: &RawValue =
        serde_json::from_str(config).map_err(|error| format!("the configuration is no JSON: {error}"))?;
    if value.get() == "null" {
        return checked(S::default());
    }
    let Ok(entries) = serde_json::from_str::<Entries>(config) else {
        return Err("the configuration is no mapping; write `{}` or settings by name".to_owned());
    };
    for (key, value) in &entries.0 {
        let Some((_, wanted)) = S::SETTINGS.iter().find(|(known, _)| known == key) else {
            return Err(unknown(policy, key, S::SETTINGS));
        };
        let alone = format!("{{\"{key}\":{value}}}");
        if serde_json::from_str::<S>(&alone).is_err() {
            return Err(format!("{key}: {value} is not what it can be; use {wanted}"));
        }
    }
    match whole {
        Some(error) if !S::SETTINGS.is_empty() => Err(error),
        _ => checked(S::default()),
    }
}

fn unknown(policy: &str, key: &str, known: &[(&str, &str)]) -> String {
    if known.is_empty() {
        return format!("`{policy}` has no settings; leave `{key}` out");
    }
    let meant = known.iter().map(|(name, _)| (distance(key, name), name)).min();
    if let Some((_, name)) = meant.filter(|(distance, _)| *distance <= 2.max(key.len() / 3)) {
        return format!("`{policy}` has no setting `{key}`; did you mean `{name}`?");
    }
    let mut names = String::new();
    for (i, (name, _)) in known.iter().enumerate() {
        let before = match i {
            0 => "",
            _ if i + 1 == known.len() => " or ",
            _ => ", ",
        };
        names.extend([before, "`", name, "`"]);
    }
    format!("`{policy}` has no setting `{key}`; use {names}")
}

/// How many letters are to be added, removed or changed, whatever their case.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_ascii_lowercase(), b.to_ascii_lowercase());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// A mapping, entry by entry in its order.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Entries<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a mapping")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

#[cfg(test)]
mod tests;
