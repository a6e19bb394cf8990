//! The commands that list rows, once or for as long as they are watched.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use anyhow::bail;

use super::args::{Output, Query};
use super::client::{Admin, encode_segment};
use super::rows::{Column, Row, Served, Shown};
use super::table::Layout;

/// How often a watch asks.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Lists the rows of a kind.
pub(super) async fn run<R: Served>(query: &Query, out: &mut dyn Write) -> anyhow::Result<()> {
    let admin = Admin::new(&query.list.server)?;
    let rows = rows::<R>(&admin, query).await?;
    let mut printer = Printer::<R>::new(Form::of(query));
    let missing = missing(query, &rows);
    if let Some(first) = missing.first().filter(|_| !query.list.watch) {
        printer.print(&rows, out)?;
        bail!("{} `{first}` not found{}", R::KIND, place(query.namespace.as_deref()));
    }
    printer.print_all(&rows, query.namespace.as_deref(), out)?;
    if query.list.watch { watch(&admin, query, rows, printer, out).await } else { Ok(()) }
}

fn place(namespace: Option<&str>) -> String {
    namespace.map(|n| format!(" in namespace {n}")).unwrap_or_default()
}

async fn rows<R: Served>(admin: &Admin, query: &Query) -> anyhow::Result<Vec<R>> {
    let path = match &query.namespace {
        Some(namespace) => format!("/api/v1/{}?namespace={}", R::PLURAL, encode_segment(namespace)),
        None => format!("/api/v1/{}", R::PLURAL),
    };
    let mut rows: Vec<R> = admin.get(&path).await?;
    let names = &query.list.names;
    rows.retain(|row| names.is_empty() || names.iter().any(|name| is_called(row, name)));
    Ok(rows)
}

/// Whether people mean the row by `name`: its name, or `namespace/name`.
fn is_called<R: Row>(row: &R, name: &str) -> bool {
    row.name() == name || row.id() == name
}

fn missing<'a, R: Row>(query: &'a Query, rows: &[R]) -> Vec<&'a String> {
    query.list.names.iter().filter(|name| !rows.iter().any(|row| is_called(row, name))).collect()
}

/// The form that was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    /// Another form than the table.
    pub output: Option<Output>,
    /// The table has no first line.
    pub no_headers: bool,
    /// Rows may be of several namespaces.
    pub across_namespaces: bool,
}

impl Form {
    fn of(query: &Query) -> Self {
        let Query { list, namespace } = query;
        Self { output: list.output, no_headers: list.no_headers, across_namespaces: namespace.is_none() }
    }
}

/// Prints rows in the form that was asked for.
pub(super) struct Printer<R: 'static> {
    output: Option<Output>,
    columns: Vec<&'static Column<R>>,
    headers: bool,
    layout: Layout,
}

impl<R: Row> Printer<R> {
    pub fn new(form: Form) -> Self {
        let wide = form.output == Some(Output::Wide);
        let shown = |column: &&Column<R>| match column.shown {
            Shown::Always => true,
            Shown::Wide => wide,
            Shown::AcrossNamespaces => form.across_namespaces,
        };
        let columns = R::COLUMNS.iter().filter(shown).collect();
        Self { output: form.output, columns, headers: !form.no_headers, layout: Layout::default() }
    }

    /// Prints all rows that there are, and says so where a table has none.
    pub fn print_all(&mut self, rows: &[R], namespace: Option<&str>, out: &mut dyn Write) -> anyhow::Result<()> {
        self.print(rows, out)?;
        if rows.is_empty() && self.is_table() {
            out.flush()?;
            drop(writeln!(io::stderr(), "No {} found{}", R::PLURAL, place(namespace)));
        }
        Ok(())
    }

    fn is_table(&self) -> bool {
        matches!(self.output, None | Some(Output::Wide))
    }

    /// Prints rows, the heads before the first that are printed.
    fn print(&mut self, rows: &[R], out: &mut dyn Write) -> anyhow::Result<()> {
        match self.output {
            Some(Output::Json) => writeln!(out, "{}", serde_json::to_string_pretty(rows)?)?,
            Some(Output::Yaml) => write!(out, "{}", serde_yaml_ng::to_string(rows)?)?,
            Some(Output::Name) => {
                for row in rows {
                    writeln!(out, "{}/{}", R::KIND, row.id())?;
                }
            }
            None | Some(Output::Wide) => {
                let mut lines: Vec<Vec<String>> = Vec::new();
                if self.headers && !rows.is_empty() {
                    self.headers = false;
                    lines.push(self.columns.iter().map(|c| c.head.to_owned()).collect());
                }
                lines.extend(rows.iter().map(|row| self.cells(row)));
                self.layout.print(&lines, out)?;
            }
        }
        Ok(out.flush()?)
    }

    fn cells(&self, row: &R) -> Vec<String> {
        self.columns.iter().map(|column| (column.cell)(row)).collect()
    }

    /// Prints a row as a watch does: documents one by one, not as lists.
    fn print_change(&mut self, row: &R, out: &mut dyn Write) -> anyhow::Result<()> {
        match self.output {
            Some(Output::Json) => writeln!(out, "{}", serde_json::to_string_pretty(row)?)?,
            Some(Output::Yaml) => write!(out, "---\n{}", serde_yaml_ng::to_string(row)?)?,
            Some(Output::Name) | None | Some(Output::Wide) => return self.print(std::slice::from_ref(row), out),
        }
        Ok(out.flush()?)
    }

    /// Says that a row is there no more.
    fn print_gone(&mut self, row: &R, out: &mut dyn Write) -> anyhow::Result<()> {
        match self.output {
            None | Some(Output::Wide) => {
                let mut cells = self.cells(row);
                cells.push("<gone>".to_owned());
                self.layout.print(&[cells], out)?;
            }
            Some(Output::Name) => writeln!(out, "{}/{} <gone>", R::KIND, row.id())?,
            Some(Output::Json) => writeln!(out, "{}", serde_json::json!({ "gone": row.id() }))?,
            Some(Output::Yaml) => writeln!(out, "---\ngone: {}", serde_json::to_string(&row.id())?)?,
        }
        Ok(out.flush()?)
    }
}

/// Asks again and again. A server that goes away is told once and waited for: it may be restarting,
/// and whoever watches wants to see what it says then.
async fn watch<R: Served>(
    admin: &Admin,
    query: &Query,
    rows_before: Vec<R>,
    mut printer: Printer<R>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut before = by_id(rows_before)?;
    let mut lost = false;
    loop {
        tokio::time::sleep(WATCH_EVERY).await;
        let after = match rows::<R>(admin, query).await {
            Ok(rows) => by_id(rows)?,
            Err(error) => {
                if !std::mem::replace(&mut lost, true) {
                    drop(writeln!(io::stderr(), "waiting: {error:#}"));
                }
                continue;
            }
        };
        lost = false;
        for (id, (fingerprint, row)) in &after {
            if before.get(id).is_none_or(|(was, _)| was != fingerprint) {
                printer.print_change(row, out)?;
            }
        }
        for (_, row) in before.iter().filter(|(id, _)| !after.contains_key(*id)).map(|(_, entry)| entry) {
            printer.print_gone(row, out)?;
        }
        before = after;
    }
}

type ById<R> = BTreeMap<String, (serde_json::Value, R)>;

/// Rows by id, each with what it says apart from its age: growing older is no change.
fn by_id<R: Row>(rows: Vec<R>) -> anyhow::Result<ById<R>> {
    let mut map = BTreeMap::new();
    for row in rows {
        let mut fingerprint = serde_json::to_value(&row)?;
        if let Some(fields) = fingerprint.as_object_mut() {
            fields.retain(|key, _| key != "ageSeconds" && key != "sinceSeconds");
        }
        map.insert(row.id(), (fingerprint, row));
    }
    Ok(map)
}
