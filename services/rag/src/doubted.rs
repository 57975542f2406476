//! How often documents that nobody poisoned are doubted: measured, with a bound.

use std::path::{Path, PathBuf};

use crate::domain::cleaning::clean;
use crate::domain::instructions::findings;

/// Documents that nobody poisoned: the demo's, or those below the folder that `ATTAIN_TEST_KNOWLEDGE` names.
#[test]
#[allow(clippy::print_stdout)]
fn few_honest_documents_are_doubted() {
    let root = std::env::var_os("ATTAIN_TEST_KNOWLEDGE")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src/demo/knowledge"), PathBuf::from);
    let (mut folders, mut count, mut doubted) = (vec![root], 0_usize, 0_usize);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if [".md", ".txt", ".yaml", ".yml"].iter().any(|ending| name.ends_with(ending)) {
                let sent = String::from_utf8_lossy(&std::fs::read(&path).expect("a file")).into_owned();
                let kept = clean(&sent).text;
                let found = findings("", &sent.replace("\r\n", "\n"), &kept);
                count += 1;
                doubted += usize::from(!found.is_empty());
                if !found.is_empty() {
                    println!("{name}: {found:?}");
                }
            }
        }
    }
    println!("{doubted} of {count} documents are doubted");
    assert!(count >= 30 && (doubted as f64) < 0.01 * count as f64, "{doubted} of {count}");
}
