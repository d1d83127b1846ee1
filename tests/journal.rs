//! Journals in a folder do what every place for them must.

mod journals;

use visitflow::recovery::Folder;

#[test]
fn a_folder_is_a_place_for_journals() {
    let dir = tempfile::tempdir().unwrap();
    journals::holds(|| Folder::open(dir.path()).unwrap());
}
