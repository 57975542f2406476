//! Lines of the log, looked through once more as they are written: whoever logs takes secrets out, and libraries that log do
//! not.

use std::borrow::Cow;
use std::io::{self, Write};

use attain_redaction::redact;

use crate::telemetry::LogFormat;

/// Passes lines on without secrets and personal data. Each write is one line, as `tracing-subscriber` makes them.
pub(crate) struct RedactedLines<W> {
    to: W,
    format: LogFormat,
}

impl<W> RedactedLines<W> {
    pub(crate) fn new(to: W, format: LogFormat) -> Self {
        Self { to, format }
    }
}

impl<W: Write> Write for RedactedLines<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let redacted = match self.format {
            LogFormat::Text => redacted(&text),
            LogFormat::Json => Cow::Owned(redacted_json(&text)),
        };
        self.to.write_all(redacted.as_bytes()).map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn redacted(text: &str) -> Cow<'_, str> {
    redact(text).0
}

/// JSON whose texts are redacted one by one, so that it stays JSON whatever is taken out.
fn redacted_json(line: &str) -> String {
    let mut written = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((text, start, end)) = next_text(rest) {
        written.push_str(&rest[..start]);
        match redacted(&text) {
            Cow::Borrowed(_) => written.push_str(&rest[start..end]),
            Cow::Owned(redacted) => written.push_str(&serde_json::Value::from(redacted).to_string()),
        }
        rest = &rest[end..];
    }
    written.push_str(rest);
    written
}

/// The next text, unescaped, and where it stands with its quotes.
fn next_text(json: &str) -> Option<(String, usize, usize)> {
    let start = json.find('"')?;
    let mut escaped = false;
    let length = json[start + 1..].find(|c| {
        let closes = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes
    })?;
    let end = start + 1 + length + 1;
    serde_json::from_str(&json[start..end]).ok().map(|text| (text, start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(line: &str, format: LogFormat) -> String {
        let mut lines = RedactedLines::new(Vec::new(), format);
        lines.write_all(line.as_bytes()).expect("memory");
        String::from_utf8(lines.to).expect("text")
    }

    #[test]
    fn lines_lose_secrets_and_nothing_else() {
        let clean = "2026-11-28T10:00:00Z  INFO attain: listening member=\"graph\" address=10.0.0.7:7102\n";
        assert_eq!(written(clean, LogFormat::Text), clean);
        let told = written("DEBUG hyper: sent to postgres://me:hunter2@db/x for jane@mail.example\n", LogFormat::Text);
        assert_eq!(told, "DEBUG hyper: sent to postgres://[redacted:credentials]@db/x for [redacted:email]\n");
    }

    #[test]
    fn json_stays_json() {
        let clean = "{\"level\":\"INFO\",\"fields\":{\"message\":\"a \\\"b\\\" \\u001b\",\"duration_ms\":1.25}}\n";
        assert_eq!(written(clean, LogFormat::Json), clean);
        for secret in [
            "password=hunter2",
            "password: \"hunter2 x\"",
            "{\"password\": hunter2\\",
            "Authorization: Bearer hunter2-0123456789 \\\"",
            "ü\u{1f600} token=hunter2\n",
        ] {
            let line = serde_json::json!({"fields": {"message": secret, "next": 1}, "target": "attain"}).to_string();
            let told = written(&line, LogFormat::Json);
            let read: serde_json::Value = serde_json::from_str(&told).unwrap_or_else(|error| panic!("{told}: {error}"));
            assert!(!told.contains("hunter2"), "{told}");
            assert_eq!((&read["fields"]["next"], &read["target"]), (&1.into(), &"attain".into()));
        }
        // What is no JSON passes as it is; nothing of the kind is written.
        assert_eq!(written("a \" b", LogFormat::Json), "a \" b");
    }
}
