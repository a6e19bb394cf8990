//! Texts that are compared with files in `tests/golden/`. `UPDATE_GOLDEN=1` writes the files anew;
//! the change is then read in the diff.

use std::path::Path;

/// Compares `actual` with the file `tests/golden/<name>`.
pub fn check(name: &str, actual: &str) {
    check_file(&format!("tests/golden/{name}"), actual);
}

/// Compares `actual` with a file of the repository, that is kept there for people to use.
pub fn check_file(path: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().expect("golden files lie in a folder")).expect("make the folder");
        std::fs::write(&path, actual).expect("write the golden file");
        return;
    }
    let expected =
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}; UPDATE_GOLDEN=1 writes it", path.display()));
    assert!(
        expected == actual,
        "{} differs; UPDATE_GOLDEN=1 writes it anew\n--- expected\n{expected}\n--- actual\n{actual}",
        path.display()
    );
}
