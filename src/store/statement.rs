//! Statements that both databases understand, with what is bound to them, and the rows that come back. Parameters are
//! written `$1`, which SQLite takes as well.

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{AssertSqlSafe, Database, Decode, Encode, Postgres, Row as _, SqlSafeStr, Sqlite, Type};

/// What is bound to a parameter.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(Option<String>),
    Integer(Option<i64>),
    Truth(bool),
    Bytes(Vec<u8>),
}

macro_rules! from {
    ($($from:ty: |$value:ident| $into:expr;)*) => {
        $(impl From<$from> for Value {
            fn from($value: $from) -> Self {
                $into
            }
        })*
    };
}

from! {
    &str: |text| Value::Text(Some(text.to_owned()));
    String: |text| Value::Text(Some(text));
    &String: |text| Value::Text(Some(text.clone()));
    Option<String>: |text| Value::Text(text);
    &Option<String>: |text| Value::Text(text.clone());
    Option<&str>: |text| Value::Text(text.map(str::to_owned));
    i64: |number| Value::Integer(Some(number));
    Option<i64>: |number| Value::Integer(number);
    u32: |number| Value::Integer(Some(number.into()));
    bool: |truth| Value::Truth(truth);
    &[u8]: |bytes| Value::Bytes(bytes.to_vec());
}

/// A statement's text.
#[derive(Clone, Copy, Debug)]
enum Sql {
    Whole(&'static str),
    /// Rows of values between what comes before and after.
    Rows {
        head: &'static str,
        tail: &'static str,
        columns: usize,
    },
}

/// A statement with its values.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    sql: Sql,
    values: Vec<Value>,
    /// Whether it comes again and is worth keeping prepared.
    persistent: bool,
}

impl Statement {
    pub fn new(sql: &'static str) -> Self {
        Self { sql: Sql::Whole(sql), values: Vec::new(), persistent: true }
    }

    /// `head`, then a list of rows with as many values each, then `tail`.
    pub fn of_rows<const N: usize>(head: &'static str, rows: Vec<[Value; N]>, tail: &'static str) -> Self {
        let sql = Sql::Rows { head, tail, columns: N };
        Self { sql, values: rows.into_iter().flatten().collect(), persistent: true }
    }

    /// It is not worth keeping prepared.
    pub fn once(mut self) -> Self {
        self.persistent = false;
        self
    }

    pub fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Of a list, parameters have no numbers: SQLite looks for a numbered one among all others.
    pub fn for_sqlite(self) -> Query<'static, Sqlite, SqliteArguments> {
        let persistent = self.persistent;
        self.into_query(|_| "?".to_owned()).persistent(persistent)
    }

    /// PostgreSQL's texts cannot hold the character NUL, which a label in a file may: it is shown as what it is.
    pub fn for_postgres(mut self) -> Query<'static, Postgres, PgArguments> {
        for value in &mut self.values {
            if let Value::Text(Some(text)) = value
                && text.contains('\0')
            {
                *text = text.replace('\0', "\u{2400}");
            }
        }
        let persistent = self.persistent;
        self.into_query(|number| format!("${number}")).persistent(persistent)
    }

    fn into_query<DB>(self, parameter: impl Fn(usize) -> String) -> Query<'static, DB, DB::Arguments>
    where
        DB: Database,
        Option<String>: Encode<'static, DB> + Type<DB>,
        Option<i64>: Encode<'static, DB> + Type<DB>,
        bool: Encode<'static, DB> + Type<DB>,
        Vec<u8>: Encode<'static, DB> + Type<DB>,
    {
        let sql = match self.sql {
            Sql::Whole(sql) => sql.into_sql_str(),
            Sql::Rows { head, tail, columns } => {
                let mut text = format!("{head} VALUES ");
                for number in 1..=self.values.len() {
                    let before = match (number, number % columns.max(1)) {
                        (1, _) => "(",
                        (_, 1) => "), (",
                        _ => ", ",
                    };
                    text.push_str(before);
                    text.push_str(&parameter(number));
                }
                text.push(')');
                text.push_str(tail);
                // Made of text of the code and numbers.
                AssertSqlSafe(text).into_sql_str()
            }
        };
        let query = sqlx::query(sql);
        self.values.into_iter().fold(query, |query, value| match value {
            Value::Text(text) => query.bind(text),
            Value::Integer(number) => query.bind(number),
            Value::Truth(truth) => query.bind(truth),
            Value::Bytes(bytes) => query.bind(bytes),
        })
    }
}

/// A row of either.
pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    /// A column's value.
    pub fn get<T>(&self, column: &str) -> Result<T, sqlx::Error>
    where
        T: for<'r> Decode<'r, Sqlite> + Type<Sqlite> + for<'r> Decode<'r, Postgres> + Type<Postgres>,
    {
        match self {
            Row::Sqlite(row) => row.try_get(column),
            Row::Postgres(row) => row.try_get(column),
        }
    }

    /// A column's number that is small and not negative.
    pub fn small(&self, column: &str) -> Result<u32, sqlx::Error> {
        let number: i64 = self.get(column)?;
        small(column, number)
    }

    /// As [`Row::small`], or `None` where the column is NULL.
    pub fn small_or_none(&self, column: &str) -> Result<Option<u32>, sqlx::Error> {
        let number: Option<i64> = self.get(column)?;
        number.map(|number| small(column, number)).transpose()
    }
}

fn small(column: &str, number: i64) -> Result<u32, sqlx::Error> {
    u32::try_from(number).map_err(|_| sqlx::Error::ColumnDecode {
        index: column.to_owned(),
        source: format!("{number} is not between 0 and {}", u32::MAX).into(),
    })
}
