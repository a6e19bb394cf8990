//! One table of what was measured, with ratios.

use std::collections::BTreeMap;

use crate::options::Peer;

/// How a figure is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Micros,
    Millis,
    Bytes,
    Count,
    Percent,
    Ratio,
}

/// A figure of one server.
#[derive(Clone, Debug)]
pub struct Figure {
    pub what: String,
    pub unit: Unit,
    pub value: f64,
}

impl Figure {
    pub fn new(what: impl Into<String>, unit: Unit, value: f64) -> Self {
        Self { what: what.into(), unit, value }
    }
}

/// Figures by what they say, in the order in which they came, and by server.
#[derive(Default)]
pub struct Table {
    rows: Vec<(String, Unit, BTreeMap<Peer, Vec<f64>>)>,
}

impl Table {
    pub fn add(&mut self, peer: Peer, figures: Vec<Figure>) {
        for Figure { what, unit, value } in figures {
            let place = self.rows.iter().position(|row| row.0 == what);
            let place = place.unwrap_or_else(|| {
                self.rows.push((what, unit, BTreeMap::new()));
                self.rows.len() - 1
            });
            self.rows[place].2.entry(peer).or_default().push(value);
        }
    }

    /// The medians, and what causeway's are of the others'.
    pub fn print(&self) {
        let width = self.rows.iter().map(|row| row.0.chars().count()).max().unwrap_or(0);
        let heads = ["causeway", "floor", "go-c-p", "of floor", "of go-c-p"];
        let heads: Vec<String> = heads.into_iter().map(|head| format!("{head:>12}")).collect();
        println!("{:width$}{}", "", heads.concat());
        for (what, unit, by_peer) in &self.rows {
            let value = |peer| by_peer.get(&peer).map(|values| median(values));
            let cell = |peer| value(peer).map_or_else(|| "-".to_owned(), |value| written(*unit, value));
            let ratio = |peer| match (value(Peer::Causeway), value(peer)) {
                (Some(ours), Some(theirs)) if theirs > 0.0 => format!("{:.2}", ours / theirs),
                _ => "-".to_owned(),
            };
            println!(
                "{what:width$}{:>12}{:>12}{:>12}{:>12}{:>12}",
                cell(Peer::Causeway),
                cell(Peer::Floor),
                cell(Peer::GoControlPlane),
                ratio(Peer::Floor),
                ratio(Peer::GoControlPlane),
            );
        }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

pub fn written(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Micros => format!("{:.1} µs", value * 1e6),
        Unit::Millis => format!("{:.1} ms", value * 1e3),
        Unit::Bytes if value.abs() >= 10e6 => format!("{:.1} MB", value / 1e6),
        Unit::Bytes if value.abs() >= 10e3 => format!("{:.1} kB", value / 1e3),
        Unit::Bytes => format!("{value:.0} B"),
        Unit::Count => format!("{value:.0}"),
        Unit::Ratio => format!("{value:.2}"),
        Unit::Percent => format!("{:.3} %", value * 100.0),
    }
}
