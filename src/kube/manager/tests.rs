//! Tests of the parts that need no API server.
