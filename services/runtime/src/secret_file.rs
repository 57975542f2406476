//! Secrets that a process makes for itself, beside its data.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Bytes of randomness in a secret.
pub const SECRET_BYTES: usize = 32;

/// What a file holds; made from the system's randomness by `text` where there is none, for the owner's eyes only.
///
/// # Errors
/// Where the file can be neither read nor made.
pub fn made_once(file: &Path, text: impl FnOnce(&[u8; SECRET_BYTES]) -> String) -> std::io::Result<Vec<u8>> {
    match std::fs::read(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        read => return read,
    }
    let mut random = [0; SECRET_BYTES];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    let text = text(&random);
    // Under another name first: half a key must never be taken for one.
    let unfinished = file.with_extension("key.new");
    let mut options = std::fs::OpenOptions::new();
    let mut written = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    written.write_all(text.as_bytes())?;
    written.sync_all()?;
    std::fs::rename(&unfinished, file)?;
    Ok(text.into_bytes())
}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
