//! Finds which value a place in a text belongs to, even where the text is not JSON from there on.

use super::decode::escape;

/// Deeper values are named by the pointer of their ancestor at this depth.
const DEPTH_MAX: usize = 32;

enum Frame {
    Object { name: String, named: bool },
    List { index: usize },
}

/// JSON pointer to the value that byte `offset` lies in or would begin.
pub(crate) fn pointer_at(text: &[u8], offset: usize) -> String {
    let mut frames: Vec<Frame> = Vec::new();
    let text = &text[..offset.min(text.len())];
    let mut position = 0;
    while let Some(byte) = text.get(position) {
        match byte {
            b'{' => frames.push(Frame::Object { name: String::new(), named: false }),
            b'[' => frames.push(Frame::List { index: 0 }),
            b'}' | b']' => drop(frames.pop()),
            b',' => match frames.last_mut() {
                Some(Frame::Object { named, .. }) => *named = false,
                Some(Frame::List { index }) => *index += 1,
                None => {}
            },
            b'"' => {
                let end = string_end(text, position + 1);
                if let Some(Frame::Object { name, named: named @ false }) = frames.last_mut() {
                    *name = String::from_utf8_lossy(&text[position + 1..end]).into_owned();
                    *named = true;
                }
                position = end;
            }
            _ => {}
        }
        position += 1;
    }
    let tokens = frames.iter().take(DEPTH_MAX).filter_map(|frame| match frame {
        Frame::Object { named: false, .. } => None,
        Frame::Object { name, .. } => Some(format!("/{}", escape(name))),
        Frame::List { index } => Some(format!("/{index}")),
    });
    tokens.collect()
}

/// Position of the quote that ends the string, or the end of the text.
fn string_end(text: &[u8], start: usize) -> usize {
    let mut position = start;
    while let Some(byte) = text.get(position) {
        match byte {
            b'"' => return position,
            b'\\' => position += 2,
            _ => position += 1,
        }
    }
    text.len()
}

/// Byte offset of a line and column as serde_json counts them: both from 1, columns in bytes.
pub(crate) fn offset_of(text: &[u8], line: usize, column: usize) -> usize {
    let start = match line {
        0 | 1 => 0,
        _ => text
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'\n')
            .nth(line - 2)
            .map_or(text.len(), |(at, _)| at + 1),
    };
    (start + column.saturating_sub(1)).min(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_around_the_mark_is_named() {
        for (text, pointer) in [
            (r#"{"buckets":[{"valid_count":1},{"bad_count":^NaN}]}"#, "/buckets/1/bad_count"),
            (r#"{"a":{"b":[1,2,^x]}}"#, "/a/b/2"),
            (r#"{"a\"b":^x}"#, "/a\\\"b"),
            (r#"{"a/b":^x}"#, "/a~1b"),
            (r#"{"a":"text with { and [ ^"#, "/a"),
            (r#"{"a":1,^x}"#, ""),
            ("^", ""),
            ("{\n \"a\": ^}", "/a"),
        ] {
            let offset = text.find('^').expect("a mark");
            let plain = text.replacen('^', "", 1);
            assert_eq!(pointer_at(plain.as_bytes(), offset), pointer, "{text}");
        }
    }

    #[test]
    fn lines_and_columns_become_offsets() {
        let text = b"ab\ncd\n";
        for (line, column, offset) in [(1, 1, 0), (1, 2, 1), (2, 1, 3), (2, 2, 4), (9, 1, 6), (1, 0, 0)] {
            assert_eq!(offset_of(text, line, column), offset, "{line}:{column}");
        }
    }
}
