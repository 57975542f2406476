//! Documents that an answer holds: on standard output, or as files.

use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

/// Prints the first document and says on standard error what goes with it, or writes all of them to a folder and lists them.
pub(crate) fn exported(answer: &Value, out: Option<&Path>) -> anyhow::Result<()> {
    let files = answer["files"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |file: &Value, key: &str| file[key].as_str().unwrap_or_default().to_owned();
    match out {
        Some(folder) => {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
            for file in files {
                // Whatever the server says, nothing is written outside the folder.
                let name = text(file, "name");
                let name = Path::new(&name).file_name().context("a file without a name was sent")?;
                let path = folder.join(name);
                std::fs::write(&path, text(file, "content"))
                    .with_context(|| format!("cannot write {}", path.display()))?;
                println!("{}", path.display());
            }
        }
        None => {
            if let Some(first) = files.first() {
                print!("{}", text(first, "content"));
            }
            for file in files.iter().skip(1) {
                eprintln!("attain: {} goes with it: say --out DIR for both", text(file, "name"));
            }
        }
    }
    for note in answer["notes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        eprintln!("attain: {note}");
    }
    Ok(())
}
